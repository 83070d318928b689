//! An offer: one concrete way to satisfy a shape. Which backends make one is in `fit`; which virtual
//! machines a cloud has, at which price, in `resolve` and the tables that it reads.

mod decimal;
mod families;
mod fit;
mod nearest;
mod prices;
mod rank;
mod resolve;
mod rules;
mod tables;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::decimal::Nanos;
pub use self::families::{Custom, Families, Family, Machine, MachineKind, Need, Nic, Types};
pub(crate) use self::fit::{Misfit, Most, misfits, offer, vms_for};
pub(crate) use self::nearest::Excluded;
pub use self::prices::{FamilyPrices, Prices, RegionPrices, SsdPrices, Tariff};
pub use self::rank::Stakes;
pub use self::resolve::{BOOT_DISK, Vm, Vms};
pub(crate) use self::resolve::{Rank, Resolved, region_of};
pub use self::rules::{Size, SsdCounts, Steps};
pub use self::tables::{FAMILIES, OwnTables, PRICES, Share, Tables};
use crate::{BackendName, Bytes, Cpu};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    pub backend: BackendName,
    /// A zone, a namespace; empty where the backend has one place.
    pub place: Arc<str>,
    /// The backend's own word; empty where it makes any shape as it is asked for.
    pub machine_type: Arc<str>,
    pub spot: bool,
    /// What the machine counts for in limits: at least the shape.
    pub cpu: Cpu,
    pub memory: Bytes,
    /// In millionths of the prices' currency per hour, so that sums are exact.
    pub price_micros_per_hour: u64,
    /// Of a virtual machine what else whoever makes it has to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Arc<Vm>>,
}

/// What a job says about interruptible machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spot {
    #[default]
    Allow,
    Prefer,
    Require,
    Never,
}

/// The word that a job writes.
impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::Never => "never",
        })
    }
}
