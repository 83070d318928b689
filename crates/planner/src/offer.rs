//! An offer: one concrete way to satisfy a shape. Which backends make one is in `fit`.

mod fit;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use self::fit::{Misfit, Most, misfits, offer};
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
