//! Queues, classes, policies and limits: what jobs may ask for, and how much of it.

use std::collections::BTreeMap;
use std::time::Duration;

use planner::{Bytes, Cpu, Glob, Margins, QueueKey, Shapes, SpotPolicy, UnknownTags};

use super::problem::Complaint;
use super::reading::Section;
use super::values::{
    boolean, count, cpu, duration_above_zero, glob, micros, one_of, reference, shown, size, text,
    whole,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub backends: Vec<String>,
    pub tags: BTreeMap<String, String>,
    pub unknown_tags: UnknownTags,
    pub defaults: Shapes,
    pub largest: Shapes,
    pub images: Vec<Glob>,
    pub spot: SpotPolicy,
    pub attempts: u32,
    pub start_timeout: Duration,
    pub priority: i64,
    pub share: u32,
    pub limits: Limits,
}

/// An administrator's word over the job's.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRule {
    pub matches: Match,
    pub largest: Shapes,
    pub images: Option<Vec<Glob>>,
    pub backends: Option<Vec<String>>,
    pub spot: Option<SpotPolicy>,
    pub no_rights: bool,
    pub limits: Limits,
}

/// What a job must be like; what is absent matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    pub pipeline: Option<Glob>,
    pub branch: Option<Glob>,
    pub queue: Option<Glob>,
    pub fork: Option<bool>,
    pub pull_request: Option<bool>,
    pub author: Option<Glob>,
}

/// None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub machines: Option<u32>,
    pub cpu: Option<Cpu>,
    pub memory: Option<Bytes>,
    /// In millionths of the prices' currency.
    pub cost_micros_per_hour: Option<u64>,
    /// In millionths of the prices' currency.
    pub leak_bond_micros: Option<u64>,
}

/// Which spellings mean which policy on interruptible machines.
const SPOT: [(&str, SpotPolicy); 4] = [
    ("allow", SpotPolicy::Allow),
    ("prefer", SpotPolicy::Prefer),
    ("require", SpotPolicy::Require),
    ("never", SpotPolicy::Never),
];

impl Queue {
    pub(super) fn read(section: &Section<'_>, backends: &[String]) -> Self {
        let known = section.list("backends", reference("backend", backends));
        if section.is_empty("backends") {
            section.missing(
                "backends",
                "name the backends that may make its machines: backends: [here]",
            );
        }
        Self {
            backends: known.unwrap_or_default(),
            tags: section.texts("tags", |_, value| text(value)),
            unknown_tags: section.or(
                "unknown_tags",
                "wait",
                one_of([("wait", UnknownTags::Wait), ("fail", UnknownTags::Fail)]),
            ),
            defaults: section.within("defaults", read_defaults),
            largest: section.within("largest", read_largest),
            images: section.list("images", glob).unwrap_or_default(),
            spot: section.or("spot", "allow", one_of(SPOT)),
            attempts: section.or("attempts", "3", whole(1, 100)),
            start_timeout: section.or("start_timeout", "5m", start_timeout),
            priority: section.or("priority", "0", whole(-1_000_000, 1_000_000)),
            share: section.or("share", "1", whole(1, 1_000_000)),
            limits: section.within("limits", Limits::read),
        }
    }
}

/// A reservation and a job's token live for an hour at most, and have to outlive the start.
fn start_timeout(text: &str) -> Result<Duration, Complaint> {
    const MOST: Duration = Duration::from_secs(3600);
    let margin = Margins::default().lease;
    let timeout = duration_above_zero(text)?;
    if timeout.saturating_add(margin) <= MOST {
        return Ok(timeout);
    }
    let (margin, most) = (margin.as_secs(), MOST.saturating_sub(margin).as_secs() / 60);
    Err(Complaint::new(
        format!(
            "{} with a margin of {margin}s is more than the 3600s that Buildkite's reservations and job tokens live",
            shown(text)
        ),
        format!("write {most}m or less"),
    ))
}

/// What jobs get that do not say.
fn read_defaults(section: &Section<'_>) -> Shapes {
    let mut shapes = read_largest(section);
    for word in ["disk-type", "arch", "family", "gpu", "image", "spot", "zone", "region"] {
        if let Some(value) = section.get(word, |value| tag_value(word, value)) {
            shapes.words.insert(word.to_owned(), value);
        }
    }
    shapes
}

/// What is measured, and therefore has a largest value.
fn read_largest(section: &Section<'_>) -> Shapes {
    Shapes {
        cpu: section.get("cpu", cpu),
        memory: section.get("memory", size),
        disk: section.get("disk", size),
        local_ssd: section.get("local-ssd", whole(0, 64)),
        time: section.get("time", duration_above_zero),
        words: BTreeMap::new(),
    }
}

/// A class is a set of tags, kept as they are written, for the planner reads them as it reads a
/// job's own.
pub(super) fn read_class(section: &Section<'_>) -> BTreeMap<String, String> {
    let words = [
        "cpu",
        "memory",
        "disk",
        "disk-type",
        "local-ssd",
        "arch",
        "family",
        "gpu",
        "image",
        "spot",
        "time",
        "zone",
        "region",
    ];
    let value = |word: &'static str| {
        let value = section.get(word, |value| tag_value(word, value))?;
        Some((word.to_owned(), value))
    };
    words.into_iter().filter_map(value).collect()
}

/// A value that the planner takes for this word of a shape.
fn tag_value(word: &str, value: &str) -> Result<String, Complaint> {
    match planner::check_tag(word, value) {
        Some(Ok(())) => Ok(value.to_owned()),
        Some(Err(error)) => Err(Complaint::new(error.problem, error.remedy)),
        None => unreachable!("{word} is a word of a shape"),
    }
}

impl PolicyRule {
    pub(super) fn read(section: &Section<'_>, backends: &[String]) -> Self {
        let matches = section.maybe("match", |section| Match {
            pipeline: section.get("pipeline", glob),
            branch: section.get("branch", glob),
            queue: section.get("queue", glob),
            fork: section.get("fork", boolean),
            pull_request: section.get("pull_request", boolean),
            author: section.get("author", glob),
        });
        if matches.is_none() {
            section.missing("match", "say which jobs are meant, or match: {} for all of them");
        }
        if section.is_blank("service_account") {
            let words = "is empty, and nobody can tell which is meant";
            let remedy = "write none, which takes the machine's rights away, or leave the key out";
            section.complain("service_account", Complaint::new(words, remedy));
        }
        Self {
            matches: matches.unwrap_or_default(),
            largest: section.within("largest", read_largest),
            images: section.list("images", glob),
            backends: section.list("backends", reference("backend", backends)),
            spot: section.get("spot", one_of(SPOT)),
            no_rights: section.get("service_account", no_account).is_some(),
            limits: section.within("limits", Limits::read),
        }
    }
}

/// A policy takes rights away and gives none.
fn no_account(text: &str) -> Result<(), Complaint> {
    if text == "none" {
        return Ok(());
    }
    Err(Complaint::new(
        "a policy cannot give a machine another account",
        "write none, which takes its rights away, and name accounts in backends",
    ))
}

impl Limits {
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self {
            machines: section.get("machines", count),
            cpu: section.get("cpu", cpu),
            memory: section.get("memory", size),
            cost_micros_per_hour: section.get("cost_per_hour", micros),
            leak_bond_micros: section.get("leak_bond", micros),
        }
    }
}

/// The key of a queue in Buildkite.
pub(super) fn queue_key(name: &str, section: &Section<'_>) -> QueueKey {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(fits) {
        section.complain_here(Complaint::new(
            "is not the key of a queue",
            "write the queue's key as Buildkite shows it: letters, digits, dashes and underscores",
        ));
    }
    QueueKey::new(name)
}
