//! What the program says of itself, as plain data: the JSON that the command line and a dashboard
//! read. Times are milliseconds since the Unix epoch. It holds no secret, and decides nothing.

use std::collections::BTreeMap;

use planner::{JobId, Moment, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use crate::journal::Phases;

/// `GET /api/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub version: String,
    pub name: String,
    pub instance: String,
    pub now: Timestamp,
    pub started_at: Timestamp,
    /// What is missing until everything can be served; ready when empty.
    pub missing: Vec<String>,
    pub draining: bool,
    /// Draining, and no job is in our hands any more.
    pub drained: bool,
    pub journal_full: bool,
    /// Since when Buildkite cannot be reached.
    pub buildkite_failing_since: Option<Timestamp>,
    pub queues: Vec<Queue>,
    pub backends: Vec<Backend>,
    #[serde(default)]
    pub fleets: Vec<Fleet>,
    /// In our hands, oldest first.
    pub jobs: Vec<Job>,
    /// Waiting in a queue and not in our hands; at most `HELD_MOST`, foreign ones last.
    pub waiting: Vec<Waiting>,
    pub alarms: Vec<Alarm>,
    pub counts: Counts,
}

/// How many waiting jobs a snapshot names.
pub const HELD_MOST: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    pub key: String,
    pub registered: bool,
    pub listed_at: Option<Timestamp>,
    pub paused: bool,
    /// Jobs in its listing, and those of them that are not for us.
    pub scheduled: usize,
    pub foreign: usize,
    pub in_hand: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    pub name: String,
    pub listed_at: Option<Timestamp>,
    /// Why it cannot be listed, or makes no machines until an operator puts something right.
    pub failing: Option<String>,
    pub machines: usize,
    /// What the machines of the jobs in our hands count for.
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    /// The lower of its capacity and its limits; nothing where neither says.
    pub machines_most: Option<u32>,
    pub cpu_millis_most: Option<u32>,
    pub memory_bytes_most: Option<u64>,
}

/// A fleet of interchangeable agents. What is not known is not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    pub name: String,
    pub queue: String,
    pub backend: String,
    /// Of the last round.
    pub dispatch_id: String,
    pub listed_at: Option<Timestamp>,
    pub counted_at: Option<Timestamp>,
    /// Since when Buildkite does not tell the queue's counts.
    pub buildkite_failing_since: Option<Timestamp>,
    pub queued: Option<u32>,
    pub running: Option<u32>,
    pub waiting: Option<u32>,
    /// All agents of the queue, whoever's they are.
    pub agents_total: Option<u32>,
    pub agents_free: Option<u32>,
    pub agents_most: u32,
    pub pods_online: Option<u32>,
    pub pods_pending: Option<u32>,
    pub seconds_waiting_for_dispatch: f64,
    /// Why the last round dispatched nothing, as metrics name it.
    pub hold: Option<String>,
    /// What the last round came to, in a sentence.
    pub text: String,
    /// The dispatch that it waits for.
    #[serde(default)]
    pub awaited_dispatch_id: Option<String>,
    pub dispatches: Vec<FleetDispatch>,
    /// Those that the cluster has removed, as they were last seen: the latest, newest first.
    #[serde(default)]
    pub gone: Vec<FleetDispatch>,
    pub alarms: Vec<Alarm>,
    /// Since the start of the process.
    pub rounds: u64,
    pub dispatched: u64,
    pub agents_dispatched: u64,
}

/// A dispatch: a Job in the cluster, and its pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetDispatch {
    pub id: String,
    /// The Job's name.
    pub name: String,
    pub made_at: Timestamp,
    pub agents: u32,
    pub online: u32,
    /// Pods that are not ready and have not ended.
    pub pending: u32,
    pub done: u32,
    pub failed: u32,
    /// Nothing more comes of it.
    pub over: bool,
    /// Why its pods do not come.
    pub trouble: Option<String>,
    /// What the number of its agents was reckoned from.
    pub sized_on: Option<String>,
    /// What an operator has to look at.
    pub alarm: Option<String>,
    /// Since when the cluster does not have it any more.
    pub gone_at: Option<Timestamp>,
}

/// `GET /api/jobs/:id`, for a job in our hands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub queue: String,
    pub pipeline: Option<String>,
    pub build: Option<u64>,
    pub step: Option<String>,
    pub phase: JobPhase,
    /// The machine's number, from 1; 0 before the first.
    pub attempt: u32,
    pub backend: Option<String>,
    pub machine: Option<String>,
    pub cpu_millis: Option<u32>,
    pub memory_bytes: Option<u64>,
    /// Why it does not move, in a sentence, and since when.
    pub waits: Option<String>,
    pub waits_since: Option<Timestamp>,
    pub reason: Option<Reason>,
    /// The job that was lost with its machine and that this one runs again.
    #[serde(default)]
    pub replaces: Option<JobId>,
    pub last_failure: Option<String>,
    pub phases: Phases,
    pub moments: Vec<Moment>,
}

/// How far a job in our hands has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    Taken,
    Reserved,
    Requested,
    Created,
    Connected,
    Acquired,
    Stopping,
    Ended,
    Failing,
}

impl JobPhase {
    pub const ALL: [Self; 9] = [
        Self::Taken,
        Self::Reserved,
        Self::Requested,
        Self::Created,
        Self::Connected,
        Self::Acquired,
        Self::Stopping,
        Self::Ended,
        Self::Failing,
    ];

    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Reserved => "reserved",
            Self::Requested => "requested",
            Self::Created => "created",
            Self::Connected => "connected",
            Self::Acquired => "acquired",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
            Self::Failing => "failing",
        }
    }
}

/// A job that waits in its queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    pub id: JobId,
    pub queue: String,
    /// What it is a job of; only where one job was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    pub ahead: Option<u32>,
    pub reason: Reason,
    pub text: String,
    pub since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    pub kind: String,
    pub text: String,
    pub since: Timestamp,
}

/// Since the start of the process, but for the first three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub by_phase: BTreeMap<String, usize>,
    pub holds: BTreeMap<String, usize>,
    pub machines: BTreeMap<String, usize>,
    /// What it costs at most if we die now: price × time to the deadline, in millionths.
    pub worst_cost_micros: u64,
    /// Machines that are not in that sum: after a lost journal nobody knows their price.
    #[serde(default)]
    pub unpriced_machines: u32,
    pub rounds: u64,
    pub taken: u64,
    pub forgotten: u64,
    pub calls: BTreeMap<String, u64>,
    pub calls_failed: BTreeMap<String, u64>,
}

/// `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    pub missing: Vec<String>,
}

/// `GET /api/jobs/:id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Explained {
    /// It is in our hands.
    InHand(Box<Job>),
    /// It waits in its queue.
    Waiting(Box<Waiting>),
    /// It is done with.
    Closed(Box<crate::journal::Closed>),
}
