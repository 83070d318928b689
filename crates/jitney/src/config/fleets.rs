//! Fleets of interchangeable agents, and git mirrors.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use planner::{BackendKind, Bytes};

use super::backends::kubernetes::TemplateFrom;
use super::problem::Complaint;
use super::reading::Section;
use super::values::{
    count, cron, duration, duration_above_zero, mark, path, permille, reference, size, tag, text,
    whole,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The key of a queue in Buildkite, which need not be one of `queues`.
    pub queue: String,
    pub backend: String,
    pub template_from: Option<TemplateFrom>,
    /// `key=value`.
    pub tags: Vec<String>,
    pub agents: Agents,
    pub poll: Duration,
    pub cooldown: Cooldown,
    pub idle_timeout: Duration,
    pub active_deadline: Duration,
    pub ttl: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agents {
    pub min: u32,
    pub max: u32,
    pub buffer: u32,
}

/// How long the next dispatch waits for the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldown {
    /// The share of pods that must be online or done, in thousandths.
    pub ready_permille: u32,
    pub at_most: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub repository: String,
    /// Five fields, UTC.
    pub refresh: Option<String>,
    pub keep: u32,
    /// By backend.
    pub places: BTreeMap<String, MirrorPlace>,
    pub credentials_secret: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorPlace {
    pub storage_class: Option<String>,
    pub size: Option<Bytes>,
    pub disk_size: Option<Bytes>,
    pub directory: Option<PathBuf>,
}

impl Fleet {
    pub(super) fn read(
        name: &str,
        section: &Section<'_>,
        backends: &BTreeMap<String, BackendKind>,
    ) -> Self {
        // It becomes a label, and the beginning of names in the cluster.
        if let Err(complaint) = mark(name) {
            section.complain_here(complaint);
        }
        let names: Vec<String> = backends.keys().cloned().collect();
        let fleet = Self {
            queue: section.needed("queue", "name the queue that it serves", String::new(), text),
            backend: section.needed(
                "backend",
                "name a backend of the kind kubernetes",
                String::new(),
                reference("backend", &names),
            ),
            template_from: TemplateFrom::read(section),
            tags: section.list("tags", agent_tag).unwrap_or_default(),
            agents: section.within("agents", Agents::read),
            poll: section.or("poll", "5s", duration_above_zero),
            cooldown: section.within("cooldown", |cooldown| Cooldown {
                ready_permille: cooldown.or("ready", "50%", permille),
                at_most: cooldown.or("at_most", "5m", duration_above_zero),
            }),
            idle_timeout: section.or("idle_timeout", "10m", duration_above_zero),
            active_deadline: section.needed(
                "active_deadline",
                "write the time of the longest job plus idle_timeout: active_deadline: 7h",
                Duration::MAX,
                duration_above_zero,
            ),
            ttl: section.or("ttl", "5m", duration),
        };
        if section.is_empty("template_from") {
            section.missing(
                "template_from",
                "name a Job in the cluster: template_from: { job: NAME }",
            );
        }
        if fleet.active_deadline <= fleet.idle_timeout {
            let complaint = Complaint::new(
                "is not longer than idle_timeout: every agent would be killed while it waits",
                "write the time of the longest job plus idle_timeout",
            );
            section.complain("active_deadline", complaint);
        }
        if backends.get(&fleet.backend).is_some_and(|kind| *kind != BackendKind::Kubernetes) {
            let complaint = Complaint::new(
                format!("{} is not of the kind kubernetes", fleet.backend),
                "name a backend of the kind kubernetes",
            );
            section.complain("backend", complaint);
        }
        fleet
    }
}

/// Agents take their tags as one text, with commas between them.
fn agent_tag(text: &str) -> Result<String, Complaint> {
    let tag = tag(text)?;
    if tag.contains(',') {
        return Err(Complaint::new(
            format!("{tag} has a comma, which stands between tags"),
            "write each tag as an item of its own",
        ));
    }
    Ok(tag)
}

impl Agents {
    fn read(section: &Section<'_>) -> Self {
        let agents = Self {
            min: section.or("min", "0", count),
            max: section.needed("max", "say how many agents there may be at most", u32::MAX, count),
            buffer: section.or("buffer", "0", count),
        };
        if agents.min > agents.max {
            let complaint = Complaint::new(
                format!("{} is more than max, {}", agents.min, agents.max),
                "write a min that is not above max",
            );
            section.complain("min", complaint);
        }
        agents
    }
}

impl Mirror {
    pub(super) fn read(section: &Section<'_>, backends: &BTreeMap<String, BackendKind>) -> Self {
        Self {
            repository: section.needed(
                "repository",
                "write the repository as git clones it",
                String::new(),
                text,
            ),
            refresh: section.get("refresh", cron),
            keep: section.or("keep", "2", whole(1, 100)),
            places: section.each("places", |name, place| MirrorPlace::read(name, place, backends)),
            credentials_secret: section.get("credentials_secret", text),
        }
    }
}

impl MirrorPlace {
    fn read(name: &str, section: &Section<'_>, backends: &BTreeMap<String, BackendKind>) -> Self {
        let names: Vec<String> = backends.keys().cloned().collect();
        if let Err(complaint) = reference("backend", &names)(name) {
            section.complain_here(complaint);
        }
        Self {
            storage_class: section.get("storage_class", text),
            size: section.get("size", size),
            disk_size: section.get("disk_size", size),
            directory: section.get("directory", path),
        }
    }
}
