//! What a round decided: steps to take, jobs that do not move and why, and when to look again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BackendName, Bytes, Event, Failure, JobId, MachineName, NotRetried, Offer, QueueKey, Shape,
    Timestamp,
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Facts that this round established: recorded and journaled, nothing is done for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Event>,
    /// What to do, in order; what is in flight already is dropped by the executor, with its intents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Every job of ours that waits, with its reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<JobId, Hold>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
    /// When to look again even if nothing changes.
    pub wake_at: Option<Timestamp>,
}

/// An action, and what is to be in the journal before it is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<Event>,
    pub action: Action,
}

/// So specific that whoever carries it out has nothing left to decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Ask Buildkite for the states of exactly these jobs.
    Ask {
        queue: QueueKey,
        jobs: Vec<JobId>,
    },
    /// Ask Buildkite where the job's build comes from.
    Look {
        queue: QueueKey,
        job: JobId,
    },
    /// Reserve, or extend what we have.
    Reserve {
        queue: QueueKey,
        jobs: Vec<JobId>,
        lease: Duration,
    },
    /// Have tokens issued, each for one attempt.
    Mint {
        queue: QueueKey,
        jobs: Vec<(JobId, u32)>,
        lifetime: Duration,
    },
    Create(Box<Create>),
    Delete {
        backend: BackendName,
        name: MachineName,
        job: JobId,
        attempt: u32,
    },
    /// Fail the job in Buildkite, with this text.
    Finish {
        queue: QueueKey,
        job: JobId,
        detail: Arc<str>,
    },
    /// Read Buildkite's own record of a job that has ended.
    ReadRecord {
        job: JobId,
    },
    /// Ask Buildkite to run the job once more, as another job.
    Retry {
        job: JobId,
    },
    Notify {
        queue: QueueKey,
        job: JobId,
        notice: Notice,
        at: Timestamp,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub job: JobId,
    pub attempt: u32,
    pub name: MachineName,
    pub queue: QueueKey,
    pub offer: Offer,
    pub shape: Shape,
    pub tags: Vec<String>,
    /// From the create: job time + start timeout + grace.
    pub deadline: Duration,
}

/// A job that does not move, and since when for this reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    pub queue: QueueKey,
    pub reason: Reason,
    /// How many jobs of the queue come before it, where it waits for a turn.
    pub ahead: Option<u32>,
}

/// What of a limit keeps a job back. It is serialized as its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    Machines,
    Cpu,
    Memory,
    CostPerHour,
    /// There is room for the job, but a larger one comes before it.
    Turn,
}

impl Reason {
    /// Whether both tell the same, but for how long or how often. All limits are one story: which
    /// of them keeps a job back may change from one second to the next.
    pub(crate) fn is_story_of(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::CoolingDown { backend, failure, .. },
                Self::CoolingDown { backend: other, failure: now, .. },
            ) => backend == other && failure.class == now.class,
            (
                Self::BackendUnreachable { backend, .. },
                Self::BackendUnreachable { backend: other, .. },
            ) => backend == other,
            (Self::Limit { .. }, Self::Limit { .. })
            | (Self::LookingUp { .. }, Self::LookingUp { .. }) => true,
            (one, other) => one == other,
        }
    }
}

/// The closed set of reasons to wait. Every text about a wait is rendered from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// A limit is reached; `scope` says whose, `limit` which.
    Limit {
        scope: Scope,
        limit: Bound,
    },
    /// The backend takes no more creates for now.
    CreateRate {
        backend: BackendName,
    },
    QueuePaused,
    Draining,
    JournalFull,
    /// Buildkite cannot be reached; what runs goes on.
    BuildkiteUnreachable,
    /// No backend that could serve the job has been listed.
    BackendUnreachable {
        backend: BackendName,
        words: Arc<str>,
    },
    /// The last try failed in a way that time may heal.
    CoolingDown {
        backend: BackendName,
        failure: Failure,
        until: Timestamp,
    },
    /// Another machine is made after a failed attempt.
    BackingOff {
        failure: Failure,
        until: Timestamp,
    },
    /// Another installation with our name is at work.
    TwoInstallations {
        instance: Arc<str>,
    },
    /// A policy asks where its build comes from, and Buildkite is being asked; with what the last
    /// look failed with.
    LookingUp {
        policies: Vec<usize>,
        words: Option<Arc<str>>,
    },
    /// We wait for Buildkite's answer to a call.
    Reserving,
    /// A machine is asked for and its backend has not answered yet.
    Creating {
        backend: BackendName,
    },
    /// The machine is there; its agent has not registered yet.
    Starting {
        backend: BackendName,
        note: Option<Arc<str>>,
    },
    /// The agent has registered and has not got the job yet.
    AgentConnected {
        backend: BackendName,
    },
    /// The machine of an earlier attempt has to go first.
    Removing {
        backend: BackendName,
    },
    /// We know the job from a machine that is gone; it shows again when its lease lapses.
    LeaseLapsing,
    /// The job is being failed.
    Failing,
    /// Not for us; a near miss is named.
    Foreign {
        tag: Arc<str>,
        nearest: Option<Arc<str>>,
    },
}

/// Whose limit it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "scope", content = "of", rename_all = "snake_case")]
pub enum Scope {
    All,
    Queue(QueueKey),
    Policy(usize),
    Backend(BackendName),
}

/// What a developer is told while the job waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// It waits; with its place in the queue.
    Waiting { reason: Reason, ahead: Option<u32> },
    /// A machine was made for it.
    Made {
        name: MachineName,
        backend: BackendName,
        machine: Arc<str>,
        attempt: u32,
        /// What the last of the offers before was refused with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Failure>,
    },
    /// It gets what the strictest of the policies that may match it allow.
    Assumed { why: Arc<str> },
    /// Its machine came to nothing; another is made.
    Retrying { attempt: u32, of: u32, failure: Failure },
    /// It was lost, and another job takes its place.
    Replaced { by: JobId },
    /// It was lost, and nothing takes its place.
    NotRetried { why: NotRetried },
    /// Its machine ended under it, for a reason that its own log cannot tell.
    CutShort { attempt: u32, why: CutShort },
}

/// Why a machine ended before its job had come to its own end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum CutShort {
    OutOfMemory {
        memory: Bytes,
        /// What had most of it, as far as anybody looked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ran: Option<Arc<str>>,
    },
    Deadline,
    /// Buildkite still counts on the agent, and its machine is no more.
    Lost {
        cause: Arc<str>,
    },
    /// Its place takes it away; the agent may have the time to give its job up.
    Taken {
        cause: Arc<str>,
    },
    /// As with `Lost`, as long as nobody knows whether the machine is no more.
    Silent {
        cause: Arc<str>,
    },
}

/// What an operator has to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "alarm", rename_all = "snake_case")]
pub enum Alarm {
    /// A machine with our name that another installation made while we were running.
    TwoInstallations { instance: Arc<str>, machine: MachineName },
    /// A backend denies us machines, some or all, until an operator has put something right.
    Denied { backend: BackendName, words: Arc<str> },
    /// Buildkite's REST API refuses our token: lost jobs are not retried.
    ApiDenied { words: Arc<str> },
}
