//! What the operator wants, parsed once from the configuration: later code cannot meet a bad value.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{BackendName, Bytes, Cpu, QueueKey, Shape, Spot, Vms};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Our mark on machines.
    pub name: Arc<str>,
    pub queues: BTreeMap<QueueKey, QueuePolicy>,
    /// Names for shapes, as tags that stand for them (`cpu` → `16`).
    pub classes: BTreeMap<String, BTreeMap<String, String>>,
    /// Every one that matches applies, the strictest wins.
    pub rules: Vec<Rule>,
    /// How many jobs of one build that the infrastructure lost are retried; none: nobody asks.
    pub retry_lost: Option<u32>,
    pub limits: Limits,
    pub backends: BTreeMap<BackendName, BackendPolicy>,
    pub margins: Margins,
}

impl Policy {
    /// How long a job of this queue may take from the create to the agent's getting it.
    pub(crate) fn start_timeout(&self, queue: &QueueKey) -> Duration {
        const UNKNOWN_QUEUE: Duration = Duration::from_secs(300);
        self.queues.get(queue).map_or(UNKNOWN_QUEUE, |queue| queue.start_timeout)
    }

    /// How long a reservation and a token are asked for.
    #[must_use]
    pub fn lease(&self, queue: &QueueKey) -> Duration {
        self.start_timeout(queue).saturating_add(self.margins.lease)
    }

    /// After how long a machine of this shape ends by itself, from its create on.
    pub(crate) fn lifetime(&self, queue: &QueueKey, shape: &Shape) -> Duration {
        let start_timeout = self.start_timeout(queue);
        shape.time.saturating_add(start_timeout).saturating_add(self.margins.grace)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueuePolicy {
    /// In order of preference at equal price.
    pub backends: Vec<BackendName>,
    /// What our agents carry beside a shape's words.
    pub tags: BTreeMap<String, String>,
    pub unknown_tags: UnknownTags,
    pub defaults: Shapes,
    pub largest: Shapes,
    /// What a job may ask for; empty: what the backends have.
    pub images: Vec<Glob>,
    pub spot: SpotPolicy,
    /// Machines per job before we give up.
    pub attempts: u32,
    pub start_timeout: Duration,
    /// Higher first, before any job's own priority.
    pub priority: i64,
    /// Weight between queues that share limits; at least 1.
    pub share: u32,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownTags {
    /// The job is somebody else's.
    #[default]
    Wait,
    /// The queue is ours alone.
    Fail,
}

/// What the administrator says about interruptible machines: `allow` leaves it to the job.
pub type SpotPolicy = Spot;

/// A partial shape: defaults of a queue, or the largest that it allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shapes {
    pub cpu: Option<Cpu>,
    pub memory: Option<Bytes>,
    pub disk: Option<Bytes>,
    pub local_ssd: Option<u32>,
    pub time: Option<Duration>,
    /// Words of a shape that have a default only (`arch`, `image`, `family`…), as tags.
    pub words: BTreeMap<String, String>,
}

/// A text with `*` for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(Arc<str>);

impl Glob {
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

/// A policy: the administrator's word over the job's, for the jobs that it matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub pipeline: Option<Glob>,
    pub branch: Option<Glob>,
    pub queue: Option<Glob>,
    /// These three ask for a job's origin.
    pub pull_request: Option<bool>,
    pub fork: Option<bool>,
    pub author: Option<Glob>,
    pub largest: Shapes,
    pub images: Option<Vec<Glob>>,
    /// Only these, where named.
    pub backends: Option<Vec<BackendName>>,
    pub spot: Option<SpotPolicy>,
    /// Machines may do nothing in the cloud in their own name.
    #[serde(default)]
    pub no_rights: bool,
    pub limits: Limits,
}

/// None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub machines: Option<u32>,
    pub cpu: Option<Cpu>,
    pub memory: Option<Bytes>,
    /// In millionths of the prices' currency.
    pub cost_micros_per_hour: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendPolicy {
    pub kind: BackendKind,
    pub limits: Limits,
    /// What it has in all; counts like a limit, but is said in other words.
    pub capacity: Limits,
    /// The only one that it has, where that is known.
    pub arch: Option<Arch>,
    /// How far a listing may be behind the calls that had returned when it was begun. Zero where
    /// the listing is the truth itself; some seconds where it comes from a cache of a cloud's.
    pub listing_lag: Duration,
    /// Names that a job may ask for as `image`, where the backend has images.
    pub images: Vec<Glob>,
    /// Which virtual machines it makes, and where; none: it makes others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<Arc<Vms>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    Process,
    Http,
    Kubernetes,
    Gce,
    CloudRun,
}

/// The word that stands in the configuration.
impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Http => "http",
            Self::Kubernetes => "kubernetes",
            Self::Gce => "gce",
            Self::CloudRun => "cloud-run",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    Amd64,
    Arm64,
}

/// The word that a job writes.
impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// The times that the core reckons with. One place, so that tests and the simulation can shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Margins {
    /// Added to `start_timeout` for the lease and the token.
    pub lease: Duration,
    /// Added to job time + start timeout for a machine's own deadline.
    pub grace: Duration,
    /// Older words about the world allow nothing.
    pub fresh: Duration,
    /// How often Buildkite is asked about a job until it runs, and after.
    pub ask_starting: Duration,
    pub ask_running: Duration,
    /// How long an agent may take to leave after its job has ended, or was told to stop.
    pub linger: Duration,
    /// The first wait after a failed attempt; doubled each time.
    pub backoff: Duration,
    pub backoff_most: Duration,
    /// How long a wait has to last before a developer is told, and between two words on the same wait.
    pub tell_after: Duration,
    pub tell_again: Duration,
}

impl Default for Margins {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            grace: Duration::from_secs(120),
            fresh: Duration::from_secs(30),
            ask_starting: Duration::from_secs(1),
            ask_running: Duration::from_secs(5),
            linger: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            backoff_most: Duration::from_secs(60),
            tell_after: Duration::from_secs(1),
            tell_again: Duration::from_secs(60),
        }
    }
}
