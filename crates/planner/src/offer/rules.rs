//! The rules of a machine family as short texts, read and written: how many vCPU there may be, which
//! sizes there are, how many local SSDs may be attached. What is allowed; never what is best.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::shape::{SizeError, parse_count, parse_cpu};
use crate::{Bytes, Cpu};

/// More runs, sizes or counts than this are no rule that anybody wrote down.
const PARTS_MOST: usize = 64;
/// More vCPU than any machine has.
const CPU_MOST: u32 = 4096;
/// A mebibyte, in which clouds count memory.
const MIB: u64 = 1 << 20;

/// Whole numbers of vCPU, as `2-32/2, 36-128/4`: ascending, each run from its first to its last in
/// its steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Steps(Vec<Run>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    from: u32,
    to: u32,
    step: u32,
}

impl Steps {
    /// All that are allowed, ascending.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.0.iter().flat_map(|run| {
            let steps = (run.to - run.from) / run.step;
            (0..=steps).map(|nth| run.from + nth * run.step)
        })
    }
}

impl TryFrom<String> for Steps {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        let mut runs: Vec<Run> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let run = run(part)?;
            let follows = runs.last().is_none_or(|before| before.to < run.from);
            if !follows || runs.len() >= PARTS_MOST {
                return Err(wrong(&text, "an ascending list of vCPU", "2-32/2, 36-128/4"));
            }
            runs.push(run);
        }
        Ok(Self(runs))
    }
}

impl From<Steps> for String {
    fn from(steps: Steps) -> Self {
        steps.to_string()
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Run { from, to, step }) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { ", " };
            match (from == to, step) {
                (true, _) => write!(f, "{between}{from}")?,
                (false, 1) => write!(f, "{between}{from}-{to}")?,
                (false, step) => write!(f, "{between}{from}-{to}/{step}")?,
            }
        }
        Ok(())
    }
}

/// `4`, `1-8`, `2-32/2`.
fn run(text: &str) -> Result<Run, SizeError> {
    let (span, step) = text.split_once('/').unwrap_or((text, "1"));
    let (from, to) = span.split_once('-').unwrap_or((span, span));
    let (from, to, step) = (parse_count(from)?, parse_count(to)?, parse_count(step)?);
    let sound = from > 0 && from <= to && to <= CPU_MOST && step > 0 && (to - from) % step == 0;
    // A single number has no steps.
    let step = if from == to { 1 } else { step };
    if sound { Ok(Run { from, to, step }) } else { Err(wrong(text, "a range of vCPU", "2-32/2")) }
}

/// One size of a predefined type, as `4:15` or, with local SSDs that come with it, `4:15:1`: vCPU,
/// GiB, disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    pub cpu: Cpu,
    pub memory: Bytes,
    /// Local SSDs that every such machine has.
    pub bundled: u32,
}

impl TryFrom<String> for Size {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        let wrong = || wrong(&text, "a size", "4:15 (vCPU:GiB) or 4:15:1");
        let mut parts = text.split(':').map(str::trim);
        let (Some(cpu), Some(gib)) = (parts.next(), parts.next()) else { return Err(wrong()) };
        let bundled = parts.next().map_or(Ok(0), parse_count).map_err(|_| wrong())?;
        // Clouds give whole mebibytes: what is finer is not there.
        let memory = crate::parse_size(&format!("{gib}G")).map_err(|_| wrong())?;
        let memory = memory.get() / MIB * MIB;
        let cpu = parse_cpu(cpu).map_err(|_| wrong())?;
        if parts.next().is_some() || cpu == Cpu::default() || memory == 0 {
            return Err(wrong());
        }
        Ok(Self { cpu, memory: Bytes::new(memory), bundled })
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        let Size { cpu, memory, bundled } = size;
        // Nine decimals hold any whole number of mebibytes, rounded up so that it is read again.
        let (whole, rest) = (memory.get() >> 30, memory.get() & ((1 << 30) - 1));
        let nanos = (u128::from(rest) * 1_000_000_000).div_ceil(1 << 30);
        let gib = format!("{whole}.{nanos:09}");
        let gib = gib.trim_end_matches('0').trim_end_matches('.');
        match bundled {
            0 => format!("{cpu}:{gib}"),
            disks => format!("{cpu}:{gib}:{disks}"),
        }
    }
}

/// How many local SSDs may be attached, for a range of vCPU: `12-20: 2, 4, 8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SsdCounts {
    from: Cpu,
    to: Cpu,
    /// Ascending.
    counts: Vec<u32>,
}

impl SsdCounts {
    /// The least number that may be attached to so many vCPU and is no less than `asked`; nothing:
    /// the rule is of others, or so many are too many.
    pub(crate) fn at_least(&self, cpu: Cpu, asked: u32) -> Option<u32> {
        let of = self.from <= cpu && cpu <= self.to;
        self.counts.iter().copied().find(|count| of && *count >= asked)
    }

    /// The most that may be attached to so many vCPU.
    pub(crate) fn most(&self, cpu: Cpu) -> Option<u32> {
        let of = self.from <= cpu && cpu <= self.to;
        self.counts.last().copied().filter(|_| of)
    }
}

impl TryFrom<String> for SsdCounts {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        let wrong = || wrong(&text, "a rule of local SSDs", "12-20: 2, 4, 8");
        let (span, counts) = text.split_once(':').ok_or_else(wrong)?;
        let (from, to) = span.split_once('-').unwrap_or((span, span));
        let (from, to) = (parse_cpu(from)?, parse_cpu(to)?);
        let counts: Vec<u32> = counts.split(',').map(parse_count).collect::<Result<_, _>>()?;
        let ascending = counts.windows(2).all(|pair| pair[0] < pair[1]);
        if from > to || !ascending || counts.first() == Some(&0) || counts.len() > PARTS_MOST {
            return Err(wrong());
        }
        Ok(Self { from, to, counts })
    }
}

impl From<SsdCounts> for String {
    fn from(rule: SsdCounts) -> Self {
        let SsdCounts { from, to, counts } = rule;
        let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
        let span = if from == to { from.to_string() } else { format!("{from}-{to}") };
        format!("{span}: {}", counts.join(", "))
    }
}

fn wrong(text: &str, what: &str, example: &str) -> SizeError {
    SizeError {
        problem: format!("\"{}\" is not {what}", crate::words::crop(text, 60)),
        remedy: format!("write {example}"),
    }
}
