//! What Buildkite and the backends last told us, and when. Never kept: a restart begins without.
//! Each part carries the moment at which its request *started*; "after" compares with that.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    BackendName, Bytes, Candidate, Cpu, Failure, FailureClass, JobId, JobState, MachineName,
    OriginSeen, QueueKey, Shortage, Timestamp,
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// This installation's mark on its machines, beside the name.
    pub instance: Arc<str>,
    /// The id that everything this round causes will bear.
    pub dispatch: Arc<str>,
    /// When this process began to look.
    pub started_at: Timestamp,
    /// When the journal was begun. What we did before then is not in it.
    #[serde(default)]
    pub journal_since: Timestamp,
    pub buildkite: BuildkiteSeen,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub queues: BTreeMap<QueueKey, QueueSeen>,
    /// Answers to `Ask`. Of a job that was asked about and not mentioned the answer is `Unknown`,
    /// so that it is not asked about again at once; an end that is known stays.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<JobId, Answer>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backends: BTreeMap<BackendName, BackendSeen>,
    #[serde(default)]
    pub rest: RestSeen,
    /// Job acquisition tokens that the executor holds; the secrets are not here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<JobId, TokenSeen>,
    /// Whether the journal takes writes; where it does not, nothing new is begun.
    pub journal_full: bool,
    /// The operator wants nothing new to be taken.
    pub draining: bool,
}

/// Whether Buildkite can be reached at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildkiteSeen {
    /// Since when every call fails; none while they succeed. At a start: since the start.
    pub failing_since: Option<Timestamp>,
    /// When the last outage ended (at a start: the first contact). Timeouts count from here.
    pub reachable_since: Timestamp,
}

/// Buildkite's REST API, where we have a token for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestSeen {
    /// When it may be called again (rates, and the back-off of failed calls).
    pub not_before: Timestamp,
    /// Why it does not let us in, once it has said so.
    pub denied: Option<Arc<str>>,
}

/// One queue: its listing, read to its end (one that failed half way is not here), and when its
/// stack may be called again (rates, and the back-off of failed calls).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueSeen {
    /// When the last complete listing was begun; none until there was one.
    pub listed_at: Option<Timestamp>,
    pub paused: bool,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub candidates: Arc<[Arc<Candidate>]>,
    /// Where the builds of listed jobs come from, of those that were looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<JobId, OriginSeen>,
    #[serde(default)]
    pub look_not_before: Timestamp,
    pub ask_not_before: Timestamp,
    pub reserve_not_before: Timestamp,
    pub mint_not_before: Timestamp,
    pub finish_not_before: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub state: JobState,
    /// When the question was sent.
    pub asked_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendSeen {
    /// When the last complete listing was begun; none until there was one.
    pub listed_at: Option<Timestamp>,
    /// When the listing was begun that was the first for a round of this process.
    pub first_listed_at: Option<Timestamp>,
    /// All machines with our mark in that listing (and, in parts newer than it, what watches said).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "crate::pairs")]
    pub machines: BTreeMap<(JobId, u32), Arc<MachineSeen>>,
    /// How many creates may be sent now; none while it has no limit.
    pub creates_left: Option<u32>,
    /// Why the last listing failed, while it does.
    pub failing: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSeen {
    pub job: JobId,
    pub attempt: u32,
    pub name: MachineName,
    /// Which installation made it.
    pub instance: Arc<str>,
    pub queue: QueueKey,
    pub dispatch: Arc<str>,
    pub cpu: Cpu,
    pub memory: Bytes,
    pub phase: Phase,
    pub created_at: Timestamp,
    pub connected_at: Option<Timestamp>,
    pub deadline_at: Timestamp,
    pub ended: Option<Arc<EndSeen>>,
    /// What the backend says about a machine that is not up yet.
    pub note: Option<Arc<str>>,
    /// Why nobody knows whether a machine that was up still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Arc<str>>,
    /// Why it is being taken away, while its agent may still be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    Requested,
    Provisioning,
    Booting,
    Connected,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSeen {
    pub at: Timestamp,
    /// `the agent exited with 1`.
    pub cause: Arc<str>,
    pub log_tail: Arc<str>,
    pub cpu_millis_used: Option<u64>,
    pub peak_memory: Option<Bytes>,
    pub oom_killed: bool,
    /// Where it ran out of memory, what had most of it, as far as anybody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<Arc<str>>,
    /// It was ended at its deadline, not by its agent's leaving.
    #[serde(default)]
    pub deadline_reached: bool,
    /// The place took it away (preempted, evicted, its node lost): what ran on it was lost by that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken: bool,
    /// The place took the create and then would not have the machine: as if the create had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<FailureClass>,
    /// What the place said is short, where it was that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortage: Option<Arc<Shortage>>,
}

/// A token in the executor's keeping, good for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSeen {
    pub attempt: u32,
    /// When it was asked for.
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}
