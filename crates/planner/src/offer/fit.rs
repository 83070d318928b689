//! Whether a backend makes such a machine, and if not, why not and what would fit. Ranking and
//! what failed lately are no concern of this.

use std::sync::Arc;

use super::resolve::{Resolved, Vms, resolve};
use crate::shape::spell_size;
use crate::words::crop;
use crate::{
    Arch, BackendKind, BackendName, BackendPolicy, Bytes, Cpu, Glob, Limits, Offer, Shape, Spot,
};

/// Why a backend does not make what a job asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Misfit {
    Forbidden {
        whose: String,
        allowed: Vec<BackendName>,
    },
    NotConfigured,
    NotInThisBuild(BackendKind),
    TooLarge {
        cpu: Option<Cpu>,
        memory: Option<Bytes>,
    },
    Arch {
        has: Option<Arch>,
        asked: Arch,
    },
    /// It has nothing of the kind; `word` is the tag to leave out.
    Lacks {
        what: &'static str,
        word: &'static str,
    },
    Image {
        asked: Arc<str>,
        has: Vec<Glob>,
    },
    /// None of its zones is the one, or in the region, that was asked for.
    Places {
        has: Vec<Arc<str>>,
    },
    /// No virtual machine satisfies it; in words, with what comes nearest.
    NoMachine {
        why: String,
    },
}

/// One machine of exactly this shape. Price 0: what is there already costs nothing more. Only a
/// backend that has interruptible machines is offered to a job that requires one.
pub(crate) fn offer(shape: &Shape, backend: &BackendName) -> Offer {
    Offer {
        backend: backend.clone(),
        place: Arc::default(),
        machine_type: Arc::default(),
        spot: shape.spot == Spot::Require,
        cpu: shape.cpu,
        memory: shape.memory,
        price_micros_per_hour: 0,
        vm: None,
    }
}

/// Virtual machines, of whichever types and in whichever zones satisfy the shape.
pub(crate) fn vms_for(
    shape: &Shape,
    backend: &BackendPolicy,
    vms: &Vms,
    name: &BackendName,
) -> Result<Resolved, Vec<Misfit>> {
    if let Some(misfit) = shape.image.as_ref().and_then(|asked| no_such_image(asked, backend)) {
        return Err(vec![misfit]);
    }
    resolve(shape, vms, &Most::of(backend), name)
}

/// All that stands against it; nothing: the backend makes it.
pub(crate) fn misfits(shape: &Shape, backend: &BackendPolicy) -> Vec<Misfit> {
    match backend.kind {
        BackendKind::Process => plain_misfits(shape, backend, false),
        BackendKind::Http => plain_misfits(shape, backend, true),
        BackendKind::Kubernetes => cluster_misfits(shape, backend),
        kind @ (BackendKind::Gce | BackendKind::CloudRun) => {
            vec![Misfit::NotInThisBuild(kind)]
        }
    }
}

/// Machines that are there already: this host, or a service of the user's, which alone has images
/// and may have more than one architecture.
fn plain_misfits(shape: &Shape, backend: &BackendPolicy, passes_on: bool) -> Vec<Misfit> {
    let mut found = too_large_for(shape, backend);
    if let Some(asked) = shape.arch
        && backend.arch.map_or(!passes_on, |has| has != asked)
    {
        found.push(Misfit::Arch { has: backend.arch, asked });
    }
    if let Some(asked) = &shape.image {
        if !passes_on {
            found.push(Misfit::Lacks { what: "images", word: "image" });
        } else {
            found.extend(no_such_image(asked, backend));
        }
    }
    let lacks = [
        (shape.local_ssds > 0, "local SSDs", "local-ssd"),
        (shape.disk_type.is_some(), "choice of disks", "disk-type"),
        (!shape.families.is_empty() && !shape.or_any_family, "machine families", "family"),
        (shape.gpu.is_some(), "GPUs", "gpu"),
        (shape.zone.is_some(), "zones", "zone"),
        (shape.region.is_some(), "regions", "region"),
        (shape.spot == Spot::Require, "interruptible machines", "spot"),
    ];
    let lacks = lacks.into_iter().filter(|(asked, ..)| *asked);
    found.extend(lacks.map(|(_, what, word)| Misfit::Lacks { what, word }));
    found
}

/// Pods: which nodes there are, or would be made, is the cluster's to know.
fn cluster_misfits(shape: &Shape, backend: &BackendPolicy) -> Vec<Misfit> {
    let mut found = too_large_for(shape, backend);
    found.extend(shape.image.as_ref().and_then(|asked| no_such_image(asked, backend)));
    if shape.disk_type.is_some() {
        found.push(Misfit::Lacks { what: "choice of disks", word: "disk-type" });
    }
    found
}

fn too_large_for(shape: &Shape, backend: &BackendPolicy) -> Vec<Misfit> {
    let most = Most::of(backend);
    let too_large = most.cpu.is_some_and(|cpu| shape.cpu > cpu)
        || most.memory.is_some_and(|memory| shape.memory > memory);
    if too_large {
        vec![Misfit::TooLarge { cpu: most.cpu, memory: most.memory }]
    } else {
        Vec::new()
    }
}

/// Where a backend names no images, any name is an image's own.
fn no_such_image(asked: &Arc<str>, backend: &BackendPolicy) -> Option<Misfit> {
    let has = &backend.images;
    let known = has.is_empty() || has.iter().any(|glob| glob.matches(asked));
    (!known).then(|| Misfit::Image { asked: asked.clone(), has: has.clone() })
}

/// The largest single machine: no more than the backend has in all, or may use in all. A limit of
/// nothing stops a backend for a while, and refuses nobody for good.
pub(crate) struct Most {
    pub(crate) cpu: Option<Cpu>,
    pub(crate) memory: Option<Bytes>,
}

impl Most {
    pub(crate) fn of(backend: &BackendPolicy) -> Self {
        let least = |of: fn(&Limits) -> Option<u64>| {
            let limit = of(&backend.limits).filter(|limit| *limit > 0);
            of(&backend.capacity).into_iter().chain(limit).min()
        };
        let cpu = least(|limits| limits.cpu.map(|cpu| u64::from(cpu.millis())));
        Self {
            cpu: cpu.and_then(|millis| u32::try_from(millis).ok()).map(Cpu::from_millis),
            memory: least(|limits| limits.memory.map(Bytes::get)).map(Bytes::new),
        }
    }
}

impl Misfit {
    /// What the backend has, what was asked for, and what would fit.
    pub(crate) fn sentence(&self, backend: &BackendName, shape: &Shape) -> String {
        match self {
            Self::Forbidden { whose, allowed } if allowed.is_empty() => {
                format!("{whose} allows no backend at all.")
            }
            Self::Forbidden { whose, allowed } => {
                let names: Vec<&str> = allowed.iter().map(BackendName::as_str).collect();
                format!("{whose} does not allow {backend}, only {}.", names.join(", "))
            }
            Self::NotConfigured => format!("{backend} is not configured."),
            Self::NotInThisBuild(kind) => {
                format!("{backend} is a {kind} backend, which is not in this build.")
            }
            Self::TooLarge { cpu, memory } => too_large(backend, shape, *cpu, *memory),
            Self::Arch { has: Some(has), asked } => {
                format!("{backend} has {has} machines only. Ask for arch: {has}, not {asked}.")
            }
            Self::Arch { has: None, asked } => {
                format!(
                    "{backend} does not say which architecture it has. Leave arch: {asked} out."
                )
            }
            Self::Lacks { what, word } => format!("{backend} has no {what}. Leave {word} out."),
            Self::Image { asked, has } => {
                let names: Vec<&str> = has.iter().map(Glob::as_str).collect();
                let names = crop(&names.join(", "), 200);
                format!("{backend} has no image {}. Ask for one of {names}.", crop(asked, 80))
            }
            Self::Places { has } => {
                let asked = shape.zone.as_ref().or(shape.region.as_ref());
                let asked = asked.map_or("", |asked| asked);
                let has = crop(&has.join(", "), 200);
                format!("{backend} makes no machines in {}, only in {has}.", crop(asked, 80))
            }
            Self::NoMachine { why } => format!("{backend} makes no such machine. {why}"),
        }
    }
}

fn too_large(
    backend: &BackendName,
    shape: &Shape,
    cpu: Option<Cpu>,
    memory: Option<Bytes>,
) -> String {
    let mut has = Vec::new();
    let mut asked = Vec::new();
    let mut fits = Vec::new();
    if let Some(cpu) = cpu {
        has.push(format!("{cpu} vCPU"));
        asked.push(format!("{} vCPU", shape.cpu));
        if shape.cpu > cpu {
            fits.push(format!("cpu: {cpu}"));
        }
    }
    if let Some(memory) = memory {
        has.push(memory.to_string());
        asked.push(shape.memory.to_string());
        if shape.memory > memory {
            fits.push(format!("memory: {}", spell_size(memory)));
        }
    }
    let [has, asked, fits] = [has, asked, fits].map(|parts| parts.join(" and "));
    format!("{backend} has {has}; you asked for {asked}. Ask for at most {fits}.")
}
