//! What a job asks for: the words of a shape, their units, and how tags are read into one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Spot;
use crate::policy::Arch;

/// Thousandths of a vCPU.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Cpu(u32);

impl Cpu {
    #[must_use]
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    #[must_use]
    pub const fn millis(self) -> u32 {
        self.0
    }
}

/// `16`, `0.5`.
impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let text = format!("{rest:03}");
        write!(f, "{whole}.{}", text.trim_end_matches('0'))
    }
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(u64);

impl Bytes {
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    #[must_use]
    pub const fn gib(gib: u64) -> Self {
        Self(gib << 30)
    }
}

/// `64 GiB`, `512 MiB`, `1.5 TiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in UNITS {
            let one = 1_u64 << shift;
            if self.0 >= one {
                let tenths = self.0.saturating_mul(10) >> shift;
                return match tenths % 10 {
                    0 => write!(f, "{} {unit}", tenths / 10),
                    tenth => write!(f, "{}.{tenth} {unit}", tenths / 10),
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// What a job asked for, with its queue's defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    pub cpu: Cpu,
    pub memory: Bytes,
    pub disk: Option<Bytes>,
    pub disk_type: Option<Arc<str>>,
    pub local_ssds: u32,
    pub arch: Option<Arch>,
    /// In order of preference; empty: any.
    pub families: Vec<Arc<str>>,
    pub gpu: Option<Arc<str>>,
    pub image: Option<Arc<str>>,
    pub spot: Spot,
    /// How long the job may run.
    pub time: Duration,
    pub zone: Option<Arc<str>>,
    pub region: Option<Arc<str>>,
}

/// The agent tags of one job, split into the shape's words and the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// In the order of the rules.
    pub pairs: Vec<(String, String)>,
}

/// What is wrong with one tag: which, why, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagError {
    pub tag: String,
    pub problem: String,
    pub remedy: String,
}

/// Why a text is not a size or a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeError {
    pub problem: String,
    pub remedy: String,
}

/// `64G`, `64GB`, `64Gi` and `64GiB` are all 64 × 2³⁰ bytes; also K, M, T and fractions.
pub fn parse_size(text: &str) -> Result<Bytes, SizeError> {
    Err(SizeError { problem: format!("{text} is not a size"), remedy: "write 64G".into() })
}

/// `250ms`, `30s`, `15m`, `6h`, `30d`.
pub fn parse_duration(text: &str) -> Result<Duration, SizeError> {
    Err(SizeError { problem: format!("{text} is not a duration"), remedy: "write 30s".into() })
}
