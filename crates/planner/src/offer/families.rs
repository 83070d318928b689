//! What a cloud of virtual machines makes: families, their rules and types, and what of it satisfies
//! a need. Prices and places are no concern of this.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rules::{Size, SsdCounts, Steps};
use crate::{Arch, Bytes, Cpu};

/// Custom types have their memory in multiples of this.
const CUSTOM_STEP: Bytes = Bytes::new(256 << 20);

/// All families, and how often a spot machine is taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Families {
    /// As of which day.
    pub as_of: Arc<str>,
    /// Thousandths of all spot machines that a day takes.
    #[serde(with = "super::decimal::permille")]
    pub preempted_per_day: u32,
    pub families: BTreeMap<Arc<str>, Family>,
}

/// One family, such as n2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    pub arch: Arch,
    pub nic: Nic,
    /// The metric in which its vCPU count in a region.
    pub quota: Arc<str>,
    /// Boot disks that it takes, the default one first.
    pub disks: Vec<Arc<str>>,
    /// Whether there are types of any size, and which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Custom>,
    /// How many local SSDs may be attached; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_ssd: Vec<SsdCounts>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<Types>,
}

/// Types of any size within these bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    pub cpu: Steps,
    #[serde(with = "super::decimal::size")]
    pub least_per_cpu: Bytes,
    #[serde(with = "super::decimal::size")]
    pub most_per_cpu: Bytes,
    #[serde(with = "super::decimal::size")]
    pub most: Bytes,
    /// Up to how much beyond that, at another price.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::decimal::some_size")]
    pub extended: Option<Bytes>,
}

/// Predefined types whose names differ in the number of vCPU only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Types {
    /// `*` stands for the number of vCPU.
    pub name: Arc<str>,
    pub sizes: Vec<Size>,
}

/// The network interface that an image has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nic {
    Virtio,
    Gvnic,
}

/// The word of the tables.
impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Virtio => "virtio",
            Self::Gvnic => "gvnic",
        })
    }
}

/// What a machine has to have at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub cpu: Cpu,
    pub memory: Bytes,
    pub local_ssds: u32,
}

/// One machine that a family makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine<'a> {
    pub kind: MachineKind<'a>,
    pub cpu: Cpu,
    pub memory: Bytes,
    /// Memory of it that has the other price.
    pub extended: Bytes,
    /// To be attached; those that come with the type are not in it.
    pub attached_ssds: u32,
    pub bundled_ssds: u32,
}

/// How it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineKind<'a> {
    Custom,
    /// The name, with `*` for the number of vCPU.
    Predefined(&'a str),
}

/// How far a machine of so many vCPU can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) cpu: Cpu,
    pub(crate) least_memory: Bytes,
    pub(crate) memory: Bytes,
    pub(crate) local_ssds: u32,
}

impl Machine<'_> {
    pub(crate) fn is_custom(&self) -> bool {
        self.kind == MachineKind::Custom
    }

    pub(crate) fn satisfies(&self, need: &Need) -> bool {
        let ssds = self.attached_ssds.saturating_add(self.bundled_ssds);
        self.cpu >= need.cpu && self.memory >= need.memory && ssds >= need.local_ssds
    }

    /// As the cloud names it.
    #[must_use]
    pub fn name(&self, family: &str) -> String {
        match self.kind {
            MachineKind::Predefined(name) => name.replace('*', &self.cpu.to_string()),
            MachineKind::Custom => {
                let ext = if self.extended == Bytes::default() { "" } else { "-ext" };
                format!("{family}-custom-{}-{}{ext}", self.cpu, self.memory.get() >> 20)
            }
        }
    }
}

impl Family {
    /// Every machine worth a look for this need: of each number of vCPU the one with least memory, of
    /// each predefined type that is large enough the type. The cheapest that satisfies it is among
    /// them, and who needs more finds no others than who needs less, or the same ones larger.
    pub fn machines<'a>(&'a self, need: &'a Need) -> impl Iterator<Item = Machine<'a>> {
        let custom = self.custom.iter().flat_map(|custom| custom.machines(need));
        let types = self.types.iter().flat_map(|types| {
            types.sizes.iter().map(|size| Machine {
                kind: MachineKind::Predefined(&types.name),
                cpu: size.cpu,
                memory: size.memory,
                extended: Bytes::default(),
                attached_ssds: 0,
                bundled_ssds: size.bundled,
            })
        });
        let with_ssds = move |machine: Machine<'a>| {
            let attached_ssds = match (need.local_ssds, machine.bundled_ssds) {
                (0, _) => 0,
                (asked, 0) => self.attachable(machine.cpu, asked)?,
                (_, _) => 0,
            };
            Some(Machine { attached_ssds, ..machine })
        };
        custom.chain(types).filter_map(with_ssds).filter(move |machine| machine.satisfies(need))
    }

    /// The least number of local SSDs that may be attached to so many vCPU and is enough.
    fn attachable(&self, cpu: Cpu, asked: u32) -> Option<u32> {
        self.local_ssd.iter().find_map(|rule| rule.at_least(cpu, asked))
    }

    /// How far its machines can go, ascending in no particular way.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Frame> {
        let attachable =
            |cpu| self.local_ssd.iter().find_map(|rule| rule.most(cpu)).unwrap_or_default();
        let custom = self.custom.iter().flat_map(|custom| {
            let memory = |count| (times(custom.least_per_cpu, count), custom.most_for(count));
            custom.cpu.all().map(move |count| (vcpus(count), memory(count), 0))
        });
        let sizes = self.types.iter().flat_map(|types| types.sizes.iter());
        let types = sizes.map(|size| (size.cpu, (size.memory, size.memory), size.bundled));
        custom.chain(types).map(move |(cpu, (least_memory, memory), bundled)| {
            let local_ssds = if bundled == 0 { attachable(cpu) } else { bundled };
            Frame { cpu, least_memory, memory, local_ssds }
        })
    }
}

impl Custom {
    /// For each number of vCPU that is enough, the machine with the least memory that is.
    fn machines<'a>(&'a self, need: &'a Need) -> impl Iterator<Item = Machine<'a>> {
        let enough = move |count: &u32| vcpus(*count) >= need.cpu;
        self.cpu.all().filter(enough).filter_map(move |count| {
            let least = times(self.least_per_cpu, count).max(need.memory);
            let steps = least.get().div_ceil(CUSTOM_STEP.get());
            let memory = Bytes::new(steps.saturating_mul(CUSTOM_STEP.get()));
            let plain = self.plain_for(count);
            let extended = Bytes::new(memory.get().saturating_sub(plain.get()));
            (memory <= self.most_for(count)).then_some(Machine {
                kind: MachineKind::Custom,
                cpu: vcpus(count),
                memory,
                extended,
                attached_ssds: 0,
                bundled_ssds: 0,
            })
        })
    }

    /// The most memory at the usual price.
    fn plain_for(&self, count: u32) -> Bytes {
        let most = times(self.most_per_cpu, count).min(self.most);
        Bytes::new(most.get() / CUSTOM_STEP.get() * CUSTOM_STEP.get())
    }

    fn most_for(&self, count: u32) -> Bytes {
        let extended = self.extended.unwrap_or_default();
        let extended = Bytes::new(extended.get() / CUSTOM_STEP.get() * CUSTOM_STEP.get());
        self.plain_for(count).max(extended)
    }
}

fn vcpus(count: u32) -> Cpu {
    Cpu::from_millis(count.saturating_mul(1000))
}

fn times(size: Bytes, count: u32) -> Bytes {
    Bytes::new(size.get().saturating_mul(u64::from(count)))
}
