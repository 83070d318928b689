//! What is said where no virtual machine satisfies a shape: what each family lacks, and what there
//! is that comes nearest.

use std::sync::Arc;

use super::families::{Family, Frame, Need};
use super::fit::Most;
use super::resolve::Vms;
use crate::shape::{nearest, spell_size};
use crate::words::crop;
use crate::{Arch, Bytes, Cpu, Shape};

/// Longer lists of names help nobody.
const NAMES_MOST: usize = 6;

/// A family that makes no such machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Excluded {
    pub(crate) family: Arc<str>,
    pub(crate) why: Why,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Why {
    /// The backend is not set up for it.
    NotConfigured {
        has: Vec<Arc<str>>,
    },
    Unknown,
    Arch {
        has: Arch,
    },
    Disk {
        has: Vec<Arc<str>>,
    },
    /// It makes none so large, or none with all of it.
    Size,
    /// No list has a price for it.
    NoPrice,
}

impl Excluded {
    /// `e2 has no local SSDs.`
    pub(crate) fn sentence(&self, shape: &Shape, vms: &Vms) -> String {
        let Self { family: name, why } = self;
        let known = &vms.tables.families.families;
        match why {
            Why::NotConfigured { has } => {
                format!("{name} is not among the families of the configuration: {}.", list(has))
            }
            Why::Unknown => {
                let names = known.keys().map(|name| &**name);
                match nearest(name, names) {
                    Some(near) => format!("{name} is no family; did you mean {near}?"),
                    None => format!("{name} is no family that Jitney knows."),
                }
            }
            Why::Arch { has } => format!("{name} has {has} processors."),
            Why::Disk { has } => format!("{name} takes {} disks only.", list(has)),
            Why::Size => match known.get(name) {
                Some(family) => too_large(name, family, &need(shape)),
                None => format!("{name} makes no such machine."),
            },
            Why::NoPrice => format!("{name} has no price in any list; see `jitney prices`."),
        }
    }
}

fn need(shape: &Shape) -> Need {
    Need { cpu: shape.cpu, memory: shape.memory, local_ssds: shape.local_ssds }
}

/// What the family lacks.
fn too_large(name: &str, family: &Family, need: &Need) -> String {
    let frames: Vec<Frame> = family.frames().collect();
    let far = |of: &dyn Fn(&Frame) -> u64| frames.iter().map(of).max().unwrap_or_default();
    let cpu = far(&|frame| u64::from(frame.cpu.millis()));
    let memory = far(&|frame| frame.memory.get());
    let ssds = far(&|frame| u64::from(frame.local_ssds));
    let mut up_to = Vec::new();
    if u64::from(need.cpu.millis()) > cpu {
        let cpu = Cpu::from_millis(u32::try_from(cpu).unwrap_or(u32::MAX));
        up_to.push(format!("{cpu} vCPU"));
    }
    if need.memory.get() > memory {
        up_to.push(Bytes::new(memory).to_string());
    }
    match (u64::from(need.local_ssds) > ssds, ssds) {
        (true, 0) => return format!("{name} has no local SSDs."),
        (true, ssds) => up_to.push(format!("{ssds} local SSDs")),
        (false, _) => {}
    }
    if up_to.is_empty() {
        return format!("{name} does not have all of it in one machine that may be made here.");
    }
    format!("{name} goes up to {}.", up_to.join(" and "))
}

/// Why nothing at all is there, and what would be, in a line.
pub(crate) fn sentences(
    shape: &Shape,
    need: &Need,
    vms: &Vms,
    most: &Most,
    open: &[(&Arc<str>, &Family)],
    excluded: &[Excluded],
) -> String {
    // What the job itself names is to be said in full; of the others what comes nearest is enough.
    let named = |one: &&Excluded| shape.families.contains(&one.family) || open.is_empty();
    let said = excluded.iter().filter(named).take(NAMES_MOST);
    let mut parts: Vec<String> = said.map(|one| one.sentence(shape, vms)).collect();
    let frames: Vec<Frame> = open
        .iter()
        .flat_map(|(_, family)| family.frames())
        .filter_map(|frame| frame.within(most))
        .collect();
    let mut ways = ways(need, &frames);
    let others: Vec<Arc<str>> = others(shape, need, vms, most);
    if !others.is_empty() {
        ways.push(format!("family: {}", others.join(" or ")));
    }
    if open.is_empty() && others.is_empty() && ways.is_empty() {
        ways.extend(kinds(shape, vms));
    }
    match ways.as_slice() {
        [] => {
            let largest = frames.iter().max_by_key(|frame| (frame.cpu, frame.memory));
            parts.extend(largest.map(|frame| {
                format!("The largest machine has {} vCPU and {}.", frame.cpu, frame.memory)
            }));
        }
        ways => parts.push(format!("Ask for {}.", ways.join(", or for "))),
    }
    crop(&parts.join(" "), 600)
}

/// With what else the same shape could be had: less of one thing each.
fn ways(need: &Need, frames: &[Frame]) -> Vec<String> {
    let mut ways = Vec::new();
    let cpu = |frame: &&Frame| frame.cpu >= need.cpu;
    let memory = |frame: &&Frame| frame.memory >= need.memory;
    let ssds = |frame: &&Frame| frame.local_ssds >= need.local_ssds;
    let fits = frames.iter().filter(|frame| memory(frame) && ssds(frame));
    if let Some(most) = fits.map(|frame| frame.cpu).max() {
        ways.push(format!("cpu: {most}"));
    }
    let fits = frames.iter().filter(|frame| cpu(frame) && ssds(frame));
    if let Some(most) = fits.map(|frame| frame.memory).max() {
        ways.push(format!("memory: {}", spell_size(most)));
    }
    let fits = frames.iter().filter(|frame| cpu(frame) && memory(frame));
    match fits.map(|frame| frame.local_ssds).max() {
        Some(0) => ways.push("no local SSD".into()),
        Some(most) => ways.push(format!("local-ssd: {most}")),
        None => {}
    }
    ways
}

/// Families that the job does not name and that would do.
fn others(shape: &Shape, need: &Need, vms: &Vms, most: &Most) -> Vec<Arc<str>> {
    if shape.families.is_empty() || shape.or_any_family {
        return Vec::new();
    }
    let any = Shape { families: Vec::new(), ..shape.clone() };
    let known = vms.tables.families.families.iter();
    let configured =
        known.filter(|(name, _)| vms.families.is_empty() || vms.families.contains(name));
    let would_do = configured.filter(|(name, family)| {
        let fits = |frame: Frame| {
            frame.within(most).is_some_and(|frame| {
                frame.cpu >= need.cpu
                    && frame.memory >= need.memory
                    && frame.local_ssds >= need.local_ssds
            })
        };
        !shape.families.contains(name)
            && super::resolve::suits(&any, vms, family).is_ok()
            && family.frames().any(fits)
    });
    would_do.map(|(name, _)| Arc::clone(name)).take(NAMES_MOST).collect()
}

/// The architectures and disks that there are.
fn kinds(shape: &Shape, vms: &Vms) -> Vec<String> {
    let known = vms.tables.families.families.iter();
    let families: Vec<&Family> = known
        .filter(|(name, _)| vms.families.is_empty() || vms.families.contains(name))
        .map(|(_, family)| family)
        .collect();
    let arch = shape.arch.unwrap_or(Arch::Amd64);
    if !families.iter().any(|family| family.arch == arch) {
        let other = families.first().map(|family| format!("arch: {}", family.arch));
        return other.into_iter().collect();
    }
    let mut disks: Vec<Arc<str>> = families
        .iter()
        .filter(|family| family.arch == arch)
        .flat_map(|family| family.disks.iter().cloned())
        .collect();
    disks.sort();
    disks.dedup();
    disks.into_iter().take(NAMES_MOST).map(|disk| format!("disk-type: {disk}")).collect()
}

impl Frame {
    /// As far as one machine may go here.
    fn within(self, most: &Most) -> Option<Self> {
        let memory = most.memory.map_or(self.memory, |most| self.memory.min(most));
        let fits = most.cpu.is_none_or(|most| self.cpu <= most) && self.least_memory <= memory;
        fits.then_some(Self { memory, ..self })
    }
}

fn list(names: &[Arc<str>]) -> String {
    match names {
        [] => "none".into(),
        [one] => one.to_string(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}
