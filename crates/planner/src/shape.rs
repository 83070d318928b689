//! What a job asks for: the words of a shape, their units, and how tags are read into one. What a
//! job may have, and where, is decided elsewhere.

mod units;
mod wish;
mod word;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::units::{
    Rate, parse_count, parse_cpu, parse_duration, parse_rate, parse_size, spell_duration,
    spell_size,
};
pub use self::wish::{LOCAL_SSD_GIB, check_tag};
pub(crate) use self::wish::{Wish, shown_pair};
pub(crate) use self::word::{Word, nearest, nearest_tag};
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
                let whole = self.0 >> shift;
                return match ((self.0 & (one - 1)) * 10) >> shift {
                    0 => write!(f, "{whole} {unit}"),
                    tenth => write!(f, "{whole}.{tenth} {unit}"),
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
    /// Whether any other family does as well, where none of these can be had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub or_any_family: bool,
    pub gpu: Option<Arc<str>>,
    pub image: Option<Arc<str>>,
    pub spot: Spot,
    /// How long the job may run.
    pub time: Duration,
    pub zone: Option<Arc<str>>,
    pub region: Option<Arc<str>>,
    /// A policy's word: the machine may do nothing in the cloud in its own name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_rights: bool,
}

/// `64 vCPU, 64 GiB, arm64, 2 local SSDs, spot require`: what was asked for, without what is usual.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} vCPU, {}", self.cpu, self.memory)?;
        if let Some(disk) = self.disk {
            write!(f, ", {disk} disk")?;
        }
        if let Some(disk_type) = &self.disk_type {
            write!(f, ", {disk_type}")?;
        }
        match self.local_ssds {
            0 => {}
            1 => write!(f, ", 1 local SSD")?,
            count => write!(f, ", {count} local SSDs")?,
        }
        if let Some(arch) = self.arch {
            write!(f, ", {arch}")?;
        }
        for (index, family) in self.families.iter().enumerate() {
            write!(f, "{}{family}", if index == 0 { ", " } else { " or " })?;
        }
        if self.or_any_family {
            write!(f, " or any")?;
        }
        let names =
            [("gpu ", &self.gpu), ("image ", &self.image), ("", &self.zone), ("", &self.region)];
        for (what, name) in names {
            if let Some(name) = name {
                write!(f, ", {what}{name}")?;
            }
        }
        match self.spot {
            Spot::Allow => {}
            Spot::Prefer | Spot::Require | Spot::Never => write!(f, ", spot {}", self.spot)?,
        }
        if self.no_rights { write!(f, ", no rights of its own") } else { Ok(()) }
    }
}

/// What is wrong with one tag: which, why, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagError {
    pub tag: String,
    pub problem: String,
    pub remedy: String,
}

/// Why a text is not a size, a duration, a rate or a number. Both parts are fragments:
/// `"GB!" is not a unit of size`, `write 64G`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeError {
    pub problem: String,
    pub remedy: String,
}

impl SizeError {
    fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

/// `"GB!" is not a unit of size: write 64G`.
impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem, self.remedy)
    }
}

impl std::error::Error for SizeError {}

/// `memory=64GB!: "GB!" is not a unit of size. Write memory: 64G (or K, M, T)`.
impl fmt::Display for TagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.tag, self.problem, crate::words::capital(&self.remedy))
    }
}

impl std::error::Error for TagError {}

/// Somebody's text between quotes: without control characters, and cut where it is long.
fn shown(text: &str) -> String {
    format!("\"{}\"", crate::words::crop(text, 40))
}
