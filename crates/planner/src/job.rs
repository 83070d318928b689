//! A job as Buildkite lists it, what we make of it, and the states that Buildkite says it is in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{JobId, Offer, QueueKey, Shape, TagError, Timestamp};

/// One row of the listing of scheduled jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    pub id: JobId,
    pub queue: QueueKey,
    pub priority: i64,
    /// `key=value` texts.
    pub rules: Vec<String>,
    /// The ordering key, not the time of entry.
    pub scheduled_at: Timestamp,
    pub runnable_at: Option<Timestamp>,
    pub pipeline: Arc<str>,
    pub branch: Arc<str>,
    pub build: u64,
    pub step: Option<Arc<str>>,
}

/// A row with our verdict, made once when the row (or the policy) is new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub row: Arc<JobRow>,
    pub verdict: Verdict,
}

/// Whether a job is for us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is, and this is what it asks for.
    Ours(Arc<Request>),
    /// It is for us and can never work: it is failed at once, with the reason.
    Invalid(Invalid),
    /// It is not for us: left alone.
    Foreign(Foreign),
    /// It is for us, and what it gets depends on where its build comes from, which nobody has told
    /// yet; with the indices of the policies that ask.
    Undecided { policies: Vec<usize> },
}

/// What a job gets: its shape with the defaults filled in, and every way to satisfy it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub shape: Shape,
    /// In order of preference; never empty.
    pub offers: Vec<Offer>,
    /// Indices of the policies that match the job, whose limits count it.
    pub policies: Vec<usize>,
    /// The agent's tags beside the shape's words.
    pub tags: Vec<String>,
    /// Why policies that may match the job count as if they did, where that makes a difference.
    #[serde(default)]
    pub assumed: Option<Arc<str>>,
}

/// Why a job can never work here, with what would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Invalid {
    /// One of our words has a value that does not parse, or that the policy forbids.
    Tag(TagError),
    /// No backend makes such a machine. One sentence for each backend that was asked.
    NoOffer { shape: String, why: Vec<String> },
    /// `unknown_tags: fail`: the queue is ours alone, and nobody else will take the job.
    UnknownTag { tag: String, nearest: Option<String> },
}

/// Why a job is left to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Foreign {
    /// A tag that neither the shape's words nor the queue's own tags know.
    UnknownTag { tag: String, nearest: Option<String> },
    /// A tag of the queue's with another value.
    OtherValue { tag: String, ours: String },
    /// It names another queue.
    OtherQueue { queue: String },
}

/// A job's state, as Buildkite says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobState {
    /// Not runnable now: waiting, blocked or limited.
    NotReady,
    Scheduled,
    Reserved,
    /// Offered to a polling agent that is not ours.
    Assigned,
    Accepted,
    Running,
    Canceling,
    TimingOut,
    Finished,
    Canceled,
    TimedOut,
    Expired,
    /// Skipped, broken, or another end without a run.
    NeverRun,
    /// A word that this version does not know: no information.
    Unknown,
}

/// What a state means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// An agent may still acquire it.
    Open,
    /// An agent has it, or had it a moment ago.
    Acquired,
    /// Somebody asked it to stop; an agent may or may not have it.
    Stopping,
    /// It ended after a run: its agent may still be on its way out.
    Done,
    /// It ended and no agent will ever have it.
    Void,
    /// It cannot be acquired now and has not ended.
    Parked,
    /// No information.
    Unknown,
}

impl JobState {
    pub(crate) const fn standing(self) -> Standing {
        match self {
            Self::Scheduled | Self::Reserved => Standing::Open,
            Self::Assigned | Self::Accepted | Self::Running => Standing::Acquired,
            Self::Canceling | Self::TimingOut => Standing::Stopping,
            Self::Finished | Self::TimedOut => Standing::Done,
            Self::Canceled | Self::Expired | Self::NeverRun => Standing::Void,
            Self::NotReady => Standing::Parked,
            Self::Unknown => Standing::Unknown,
        }
    }

    /// Buildkite's own word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotReady => "waiting",
            Self::Scheduled => "scheduled",
            Self::Reserved => "reserved",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::TimingOut => "timing_out",
            Self::Finished => "finished",
            Self::Canceled => "canceled",
            Self::TimedOut => "timed_out",
            Self::Expired => "expired",
            Self::NeverRun => "skipped",
            Self::Unknown => "unknown",
        }
    }

    /// Whether Buildkite will never change it again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self.standing(), Standing::Done | Standing::Void)
    }

    /// Whether it ended as a job does that ran, or that we failed.
    pub(crate) const fn is_done(self) -> bool {
        matches!(self.standing(), Standing::Done)
    }

    /// Whether an agent acquired it and has it, so that the agent may be ours. An offer never is.
    pub(crate) const fn may_be_ours(self) -> bool {
        matches!(self, Self::Accepted | Self::Running)
    }

    /// Whether an agent may still acquire the job.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self.standing(), Standing::Open)
    }
}
