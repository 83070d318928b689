//! What machines cost, in exact whole numbers: so much for a vCPU, a GiB of memory, of disk and of
//! local SSD, in each region. Where a list lacks a family the dearest price that it has elsewhere
//! stands in: a price is never too low because it is not known.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::decimal::Nanos;
use super::families::Machine;
use crate::{Bytes, Cpu, LOCAL_SSD_GIB};

/// Disks are sold by the month, machines by the hour.
const HOURS_PER_MONTH: u128 = 730;

/// A list of prices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Three letters.
    pub currency: Arc<str>,
    /// As of which day.
    pub as_of: Arc<str>,
    /// What a custom type costs more than vCPU and memory of a predefined one, in thousandths;
    /// extended memory does not.
    #[serde(with = "super::decimal::permille")]
    pub custom_premium: u32,
    /// What extended memory costs of the price of other memory, in thousandths.
    #[serde(with = "super::decimal::permille")]
    pub extended_memory: u32,
    /// What is taken off all prices, in thousandths; no list says it, the configuration does.
    #[serde(default)]
    pub discount_permille: u32,
    pub regions: BTreeMap<Arc<str>, RegionPrices>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionPrices {
    /// A GiB for a month.
    #[serde(default)]
    pub disks: BTreeMap<Arc<str>, Nanos>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_ssd: Option<SsdPrices>,
    #[serde(default)]
    pub families: BTreeMap<Arc<str>, FamilyPrices>,
}

/// A vCPU and a GiB of memory for an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyPrices {
    pub cpu: Nanos,
    pub memory: Nanos,
    pub spot_cpu: Nanos,
    pub spot_memory: Nanos,
    /// Where its local SSDs have a price of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_ssd: Option<SsdPrices>,
}

/// A GiB of local SSD for a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SsdPrices {
    pub on_demand: Nanos,
    pub spot: Nanos,
}

/// The prices of one family and disk type in one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tariff<'a> {
    prices: &'a Prices,
    family: FamilyPrices,
    local_ssd: SsdPrices,
    disk: Nanos,
    /// Whether all of it is of this region, and none of another.
    pub is_of_the_region: bool,
}

impl Prices {
    /// Nothing: no region has a price for the family, or for the disk.
    #[must_use]
    pub fn tariff(&self, region: &str, family: &str, disk: &str) -> Option<Tariff<'_>> {
        let here = self.regions.get(region);
        let own = here.and_then(|region| region.families.get(family));
        let own_disk = here.and_then(|region| region.disks.get(disk));
        let own_ssd = own.and_then(|own| own.local_ssd).or(here.and_then(|here| here.local_ssd));
        let of_family = own.copied().or_else(|| self.dearest(family))?;
        let disks = self.regions.values().filter_map(|region| region.disks.get(disk));
        Some(Tariff {
            prices: self,
            family: of_family,
            local_ssd: own_ssd.or(of_family.local_ssd).unwrap_or_else(|| self.dearest_ssd()),
            disk: *own_disk.or_else(|| disks.max())?,
            is_of_the_region: own.is_some() && own_disk.is_some(),
        })
    }

    /// The highest of each price that the family has anywhere.
    fn dearest(&self, family: &str) -> Option<FamilyPrices> {
        let all = self.regions.values().filter_map(|region| region.families.get(family));
        all.copied().reduce(|one, other| FamilyPrices {
            cpu: one.cpu.max(other.cpu),
            memory: one.memory.max(other.memory),
            spot_cpu: one.spot_cpu.max(other.spot_cpu),
            spot_memory: one.spot_memory.max(other.spot_memory),
            local_ssd: one.local_ssd.into_iter().chain(other.local_ssd).reduce(SsdPrices::dearer),
        })
    }

    fn dearest_ssd(&self) -> SsdPrices {
        let all = self.regions.values().filter_map(|region| region.local_ssd);
        let none = SsdPrices { on_demand: Nanos(0), spot: Nanos(0) };
        all.reduce(SsdPrices::dearer).unwrap_or(none)
    }
}

impl SsdPrices {
    fn dearer(self, other: Self) -> Self {
        Self { on_demand: self.on_demand.max(other.on_demand), spot: self.spot.max(other.spot) }
    }
}

impl Tariff<'_> {
    /// What the machine with such a boot disk costs for an hour, in millionths, rounded up.
    #[must_use]
    pub fn micros_per_hour(&self, machine: &Machine<'_>, disk: Bytes, spot: bool) -> u64 {
        let FamilyPrices { cpu, memory, spot_cpu, spot_memory, .. } = self.family;
        let (cpu, memory, ssd) = if spot {
            (spot_cpu, spot_memory, self.local_ssd.spot)
        } else {
            (cpu, memory, self.local_ssd.on_demand)
        };
        let plain = Bytes::new(machine.memory.get().saturating_sub(machine.extended.get()));
        let extended = parts(of_memory(memory, machine.extended), self.prices.extended_memory);
        let mut sum = of_cpu(cpu, machine.cpu) + of_memory(memory, plain);
        if machine.is_custom() {
            sum = parts(sum, 1000_u32.saturating_add(self.prices.custom_premium));
        }
        // Only custom types have it, so that its price has their premium in it.
        sum += extended;
        let disks = u128::from(machine.attached_ssds) + u128::from(machine.bundled_ssds);
        let ssds = disks * u128::from(LOCAL_SSD_GIB) * u128::from(ssd.0);
        let boot = u128::from(disk.get()) * u128::from(self.disk.0) / (1 << 30);
        sum += (ssds + boot).div_ceil(HOURS_PER_MONTH);
        sum = parts(sum, 1000_u32.saturating_sub(self.prices.discount_permille));
        u64::try_from(sum.div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

fn of_cpu(price: Nanos, cpu: Cpu) -> u128 {
    (u128::from(price.0) * u128::from(cpu.millis())).div_ceil(1000)
}

fn of_memory(price: Nanos, memory: Bytes) -> u128 {
    (u128::from(price.0) * u128::from(memory.get())).div_ceil(1 << 30)
}

fn parts(sum: u128, permille: u32) -> u128 {
    (sum * u128::from(permille)).div_ceil(1000)
}
