//! From a shape to offers of virtual machines: which machine of each family is the cheapest that
//! satisfies it, in which places, for which price, and in which order they are tried. What failed
//! lately is no concern of this.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::families::{Family, Machine, Need, Nic};
use super::fit::{Misfit, Most};
use super::nearest::{self, Excluded, Why};
use super::rank::Stakes;
use super::tables::Tables;
use crate::{Arch, BackendName, Bytes, Cpu, Offer, Shape, Spot};

/// Every job in hand carries its offers, so there is a bound to them; enough for a few families in
/// a few zones, each with spot and without.
const OFFERS_MOST: usize = 24;
/// So many of them stay for machines of either kind, spot and on demand, where there are both.
const OF_A_KIND: usize = 8;
/// The boot disk of who asks for none, and the smallest one there is.
pub const BOOT_DISK: Bytes = Bytes::gib(20);
const DISK_LEAST: u64 = 10;

/// Where a backend makes virtual machines, and of which families.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vms {
    /// In order of preference at equal price.
    pub zones: Vec<Arc<str>>,
    /// In order of preference at equal price; empty: any.
    pub families: Vec<Arc<str>>,
    /// For who asks for none; none: the family's own.
    pub disk_type: Option<Arc<str>>,
    pub tables: Arc<Tables>,
}

/// All that is to be said about a virtual machine beyond its place, type and price, so that nobody
/// who makes it has anything left to choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    pub family: Arc<str>,
    pub region: Arc<str>,
    /// The metric in which its vCPU count in the region.
    pub quota: Arc<str>,
    pub disk_type: Arc<str>,
    /// Whole GiB.
    pub disk: Bytes,
    /// To be attached; those that come with the type are not in it.
    pub attached_ssds: u32,
    pub arch: Arch,
    pub nic: Nic,
    /// Whether the price is of its region, and not the dearest of others.
    pub priced: bool,
}

/// What there is for a shape.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// In the order in which they are tried; never empty.
    pub(crate) offers: Vec<(Rank, Offer)>,
    /// Families that make no such machine.
    pub(crate) excluded: Vec<Excluded>,
}

/// A family that is worth a look, and how much it is wished for: less is more.
struct Candidate<'a> {
    name: &'a Arc<str>,
    family: &'a Family,
    disk_type: &'a Arc<str>,
    /// 0, or 1 where the job would rather have another.
    tier: usize,
    preference: usize,
}

/// Which of two offers is tried first: the lesser, by one after the other of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// 0, or 1 where the job would rather have another family.
    pub(crate) tier: usize,
    /// Whether the job would rather have an interruptible one.
    pub(crate) dear: bool,
    /// What the job is expected to cost there, in millionths.
    pub(crate) cost: u64,
    /// The backend's place in the queue's order.
    pub(crate) backend: usize,
    /// The family's and the zone's in the backend's.
    pub(crate) preference: usize,
    pub(crate) zone: usize,
}

pub(crate) fn resolve(
    shape: &Shape,
    vms: &Vms,
    most: &Most,
    backend: &BackendName,
) -> Result<Resolved, Vec<Misfit>> {
    if shape.gpu.is_some() {
        return Err(vec![Misfit::Lacks { what: "GPUs", word: "gpu" }]);
    }
    let places = places(shape, vms)?;
    let need = Need { cpu: shape.cpu, memory: shape.memory, local_ssds: shape.local_ssds };
    let (candidates, mut excluded) = candidates(shape, vms);
    let mut found = Vec::new();
    for candidate in &candidates {
        let before = found.len();
        let why = offers_of(candidate, &need, shape, vms, most, &places, backend, &mut found);
        if found.len() == before {
            excluded.push(Excluded { family: Arc::clone(candidate.name), why });
        }
    }
    if found.is_empty() {
        let open: Vec<(&Arc<str>, &Family)> =
            candidates.iter().map(|candidate| (candidate.name, candidate.family)).collect();
        let why = nearest::sentences(shape, &need, vms, most, &open, &excluded);
        return Err(vec![Misfit::NoMachine { why }]);
    }
    Ok(Resolved { offers: in_order(found, shape, vms), excluded })
}

/// The zones in which the job may run, by region.
fn places<'a>(
    shape: &Shape,
    vms: &'a Vms,
) -> Result<BTreeMap<&'a str, Vec<&'a Arc<str>>>, Vec<Misfit>> {
    let wanted = |zone: &&Arc<str>| {
        shape.zone.as_ref().is_none_or(|asked| asked == *zone)
            && shape.region.as_ref().is_none_or(|asked| **asked == *region_of(zone))
    };
    let mut places: BTreeMap<&str, Vec<&Arc<str>>> = BTreeMap::new();
    for zone in vms.zones.iter().filter(wanted) {
        places.entry(region_of(zone)).or_default().push(zone);
    }
    if places.is_empty() {
        return Err(vec![Misfit::Places { has: vms.zones.clone() }]);
    }
    Ok(places)
}

/// `europe-west4` of `europe-west4-a`.
pub(crate) fn region_of(zone: &str) -> &str {
    zone.rsplit_once('-').map_or(zone, |(region, _)| region)
}

/// Of the families that the job and the backend allow those that could make it such a machine at
/// all; the others with the reason.
fn candidates<'a>(shape: &'a Shape, vms: &'a Vms) -> (Vec<Candidate<'a>>, Vec<Excluded>) {
    let known = &vms.tables.families.families;
    let allowed = |name: &Arc<str>| vms.families.is_empty() || vms.families.contains(name);
    let others = if vms.families.is_empty() {
        known.keys().collect::<Vec<_>>()
    } else {
        vms.families.iter().collect()
    };
    let only = !shape.families.is_empty() && !shape.or_any_family;
    let others = others.into_iter().filter(|name| !only && !shape.families.contains(name));
    let names = shape.families.iter().map(|name| (name, 0)).chain(others.map(|name| (name, 1)));
    let (mut candidates, mut excluded) = (Vec::new(), Vec::new());
    for (preference, (name, tier)) in names.enumerate() {
        let family = match known.get_key_value(name) {
            Some(found) if allowed(name) => Ok(found),
            Some(_) => Err(Why::NotConfigured { has: vms.families.clone() }),
            None => Err(Why::Unknown),
        };
        let found = family.and_then(|(name, family)| {
            let disk_type = suits(shape, vms, family)?;
            Ok(Candidate { name, family, disk_type, tier, preference })
        });
        match found {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => excluded.push(Excluded { family: Arc::clone(name), why }),
        }
    }
    (candidates, excluded)
}

/// Whether its processors and disks are what the job needs; with the disk that it gets. Who says
/// nothing of processors has an image for amd64.
pub(super) fn suits<'a>(
    shape: &'a Shape,
    vms: &'a Vms,
    family: &'a Family,
) -> Result<&'a Arc<str>, Why> {
    if shape.arch.unwrap_or(Arch::Amd64) != family.arch {
        return Err(Why::Arch { has: family.arch });
    }
    let asked = shape.disk_type.as_ref().or(vms.disk_type.as_ref()).or(family.disks.first());
    match asked.filter(|asked| family.disks.contains(asked)) {
        Some(disk_type) => Ok(disk_type),
        None => Err(Why::Disk { has: family.disks.clone() }),
    }
}

/// Adds what the family offers. Without any the answer says why; otherwise it is of no interest.
#[expect(clippy::too_many_arguments, reason = "one step of `resolve`, with all that it knows")]
fn offers_of(
    candidate: &Candidate<'_>,
    need: &Need,
    shape: &Shape,
    vms: &Vms,
    most: &Most,
    places: &BTreeMap<&str, Vec<&Arc<str>>>,
    backend: &BackendName,
    found: &mut Vec<(Rank, Offer)>,
) -> Why {
    let Candidate { name, family, disk_type, tier, preference } = *candidate;
    let fitting: Vec<Machine<'_>> =
        family.machines(need).filter(|machine| most.holds(machine.cpu, machine.memory)).collect();
    if fitting.is_empty() {
        return Why::Size;
    }
    let disk = boot_disk(shape);
    for (region, zones) in places {
        let Some(tariff) = vms.tables.prices.tariff(region, name, disk_type) else {
            return Why::NoPrice;
        };
        for spot in kinds(shape.spot) {
            let priced = fitting.iter().map(|machine| {
                let price = tariff.micros_per_hour(machine, disk, *spot);
                (price, machine.cpu, machine.memory, machine)
            });
            let cheapest = priced.min_by_key(|(price, cpu, memory, _)| (*price, *cpu, *memory));
            let Some((price, cpu, memory, machine)) = cheapest else { continue };
            let vm = Arc::new(Vm {
                family: Arc::clone(name),
                region: (*region).into(),
                quota: Arc::clone(&family.quota),
                disk_type: Arc::clone(disk_type),
                disk,
                attached_ssds: machine.attached_ssds,
                arch: family.arch,
                nic: family.nic,
                priced: tariff.is_of_the_region,
            });
            let machine_type: Arc<str> = machine.name(name).into();
            let rank = Rank { tier, preference, ..Rank::default() };
            found.extend(zones.iter().map(|zone| {
                let offer = Offer {
                    backend: backend.clone(),
                    place: Arc::clone(zone),
                    machine_type: Arc::clone(&machine_type),
                    spot: *spot,
                    cpu,
                    memory,
                    price_micros_per_hour: price,
                    vm: Some(Arc::clone(&vm)),
                };
                (rank, offer)
            }));
        }
    }
    Why::Size
}

fn kinds(spot: Spot) -> &'static [bool] {
    match spot {
        Spot::Allow | Spot::Prefer => &[false, true],
        Spot::Require => &[true],
        Spot::Never => &[false],
    }
}

/// Whole GiB.
fn boot_disk(shape: &Shape) -> Bytes {
    let gib = shape.disk.unwrap_or(BOOT_DISK).get().div_ceil(1 << 30);
    Bytes::gib(gib.max(DISK_LEAST))
}

/// Not more of them than a job may carry.
fn in_order(mut found: Vec<(Rank, Offer)>, shape: &Shape, vms: &Vms) -> Vec<(Rank, Offer)> {
    let stakes = stakes(shape, vms);
    let on_demand = found.iter().filter(|(_, offer)| !offer.spot);
    let after = on_demand.map(|(_, offer)| offer.price_micros_per_hour).min();
    for (rank, offer) in &mut found {
        rank.dear = shape.spot == Spot::Prefer && !offer.spot;
        rank.cost = stakes.of(offer, after);
        let zone = vms.zones.iter().position(|zone| *zone == offer.place);
        rank.zone = zone.unwrap_or_default();
    }
    found.sort_by_key(|(rank, _)| *rank);
    cut(found)
}

/// The first of them, but not so many of one kind that none of the other is left.
fn cut(found: Vec<(Rank, Offer)>) -> Vec<(Rank, Offer)> {
    let spot = found.iter().filter(|(_, offer)| offer.spot).count();
    let plain = found.len() - spot;
    let mut room_for_spot = OFFERS_MOST - plain.min(OF_A_KIND);
    let mut room_for_plain = OFFERS_MOST - spot.min(OF_A_KIND);
    let fits = |(_, offer): &(Rank, Offer)| {
        let room = if offer.spot { &mut room_for_spot } else { &mut room_for_plain };
        let fits = *room > 0;
        *room = room.saturating_sub(1);
        fits
    };
    found.into_iter().filter(fits).take(OFFERS_MOST).collect()
}

/// What is at stake for a job of this shape. How long such jobs usually take nobody knows here, so
/// it is as long as it may.
fn stakes(shape: &Shape, vms: &Vms) -> Stakes {
    let preempted_per_day = vms.tables.families.preempted_per_day;
    Stakes { time: shape.time, preempted_per_day }
}

impl Stakes {
    /// What the job is expected to cost there. `after` is the price of the cheapest machine on
    /// demand, if one may follow.
    pub(crate) fn of(&self, offer: &Offer, after: Option<u64>) -> u64 {
        let price = offer.price_micros_per_hour;
        if offer.spot { self.spot(price, after.unwrap_or(price)) } else { self.on_demand(price) }
    }
}

/// The vCPU and memory of one machine, where both have a bound.
impl Most {
    fn holds(&self, cpu: Cpu, memory: Bytes) -> bool {
        self.cpu.is_none_or(|most| cpu <= most) && self.memory.is_none_or(|most| memory <= most)
    }
}
