//! The trait that every backend implements, and the words it is spoken in.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// A place that makes machines.
pub trait Backend: Send + Sync + std::fmt::Debug + 'static {
    /// All machines that bear our mark, exactly. A listing that may lack some says so.
    fn list(&self) -> Future<'_, Result<Listing, Error>>;

    /// Resolves when something may have changed since the call; a backend that cannot tell waits
    /// for ever, and is listed at `list_every` instead.
    fn changed(&self) -> Future<'_, ()>;

    /// How often to list while machines are alive, where `changed` cannot be relied upon alone.
    fn list_every(&self) -> Duration;

    /// Makes one machine. Asking twice under one name makes one machine and succeeds twice.
    fn create<'a>(&'a self, order: &'a Order) -> Future<'a, Result<(), Error>>;

    /// Removes a machine and everything of it. Removing what is gone succeeds.
    fn delete<'a>(&'a self, name: &'a str) -> Future<'a, Result<(), Error>>;
}

/// What to make, so specific that nothing is left to decide.
#[derive(Clone, Debug)]
pub struct Order {
    /// RFC 1035, at most 63 characters, the same for each try of one (job, attempt).
    pub name: String,
    /// The same for each repetition of this very request, another for every other one.
    pub request_id: Uuid,
    pub labels: Labels,
    pub resources: Resources,
    /// Where, in the backend's own words (a zone, a namespace); empty where there is one place.
    pub place: String,
    pub machine_type: String,
    pub spot: bool,
    /// Where the machine is a virtual one: all that is to be said of it beyond its type.
    pub vm: Option<Vm>,
    pub hardware: Hardware,
    /// Counted from the create: job time + start timeout + grace. The backend enforces it by itself.
    pub deadline: Duration,
    /// Where agents register.
    pub endpoint: String,
    /// Good for this one job only.
    pub token: SecretString,
    pub agent_name: String,
    /// `key=value`, as the agent registers.
    pub agent_tags: Vec<String>,
    pub image: Option<String>,
    /// The machine may do nothing in the cloud in its own name: a policy's word.
    pub no_rights: bool,
}

/// What a machine bears, and what is read back from it. Thousands bear the same texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The configuration's `name`; ownership is equality with it, never a prefix.
    pub mark: Arc<str>,
    /// Which installation under that name made it.
    pub instance: Arc<str>,
    pub job: Uuid,
    pub attempt: u32,
    pub queue: Arc<str>,
    pub dispatch_id: Arc<str>,
    /// What the machine counts for in limits, so that a stray can be counted too.
    pub cpu_millis: u32,
    pub memory_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    pub disk_bytes: Option<u64>,
    pub local_ssds: u32,
}

/// What a virtual machine is made with, chosen beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    pub disk_type: String,
    pub disk_gib: u64,
    /// Local SSDs to be attached; those that come with the type are not in it.
    pub attached_ssds: u32,
    /// Whether it needs Google's own network card.
    pub gvnic: bool,
}

/// Which kind of computer, as far as the job cares. Empty: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    pub arch: Option<String>,
    /// In order of preference.
    pub families: Vec<String>,
    pub zone: Option<String>,
    pub region: Option<String>,
    /// An accelerator in the cloud's words, and how many where that is more than one:
    /// `nvidia-l4:2`.
    pub gpu: Option<String>,
    /// Rather an interruptible one, where the order does not insist on it.
    pub prefers_spot: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    pub machines: Vec<Machine>,
    /// False where a part of the backend could not be read: what is absent is then unknown.
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    pub labels: Labels,
    pub phase: Phase,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_at: Option<Timestamp>,
    /// When the backend ends it by itself.
    pub deadline_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Box<MachineEnd>>,
    /// What the backend says of a machine that is not up yet, in words for a developer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why nobody knows whether a machine that was up still runs. It may come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
    /// Why it is being taken away, while its agent may still be there: it ends within a moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Requested,
    Provisioning,
    Booting,
    /// Its agent has registered.
    Connected,
    /// Its agent has left and it will do no more work.
    Ended,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineEnd {
    pub at: Timestamp,
    /// A sentence fragment: `the agent exited with 1`.
    pub cause: String,
    /// The agent's own last lines.
    #[serde(default)]
    pub log_tail: String,
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    #[serde(default)]
    pub peak_memory_bytes: Option<u64>,
    #[serde(default)]
    pub oom_killed: bool,
    /// Where it ran out of memory, what had most of it, where anybody looked: `3 × rustc (2.1 GiB)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<String>,
    /// It was ended at its deadline, not by its agent's leaving.
    #[serde(default)]
    pub deadline_reached: bool,
    /// It was taken away: preempted, evicted, its node lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken: bool,
    /// Where it never came up because the place would not have it, after the create had been
    /// accepted: as if the create itself had failed so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Class>,
    /// The fields of that refusal, as an `Error` has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// Why a call failed. The class alone decides what happens next; the words are for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Error {
    pub class: Class,
    pub words: String,
    /// When the backend said how long to wait.
    pub retry_after: Option<Duration>,
    /// Fields for a machine-readable log line (metric, region, operation).
    pub fields: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// There is no room in that place now.
    Capacity,
    /// A quota is used up.
    Quota,
    /// We are too fast.
    Rate,
    /// Nobody knows whether it happened: look it up, or repeat the same request.
    Ambiguous,
    /// It will never work; the words are the backend's own.
    Rejected,
    /// We may not.
    Denied,
}

impl Error {
    #[must_use]
    pub fn new(class: Class, words: impl Into<String>) -> Self {
        Self { class, words: words.into(), retry_after: None, fields: BTreeMap::new() }
    }
}
