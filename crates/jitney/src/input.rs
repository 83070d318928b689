//! What the one loop is told: listings, outcomes of calls, questions. It says nothing about what
//! follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backends::Class;
use buildkite::{Remedy, StackClient};
use planner::{
    BackendName, Candidate, CreateOutcome, Failure, FailureClass, FinishOutcome, JobId, JobState,
    LookFailure, MachineSeen, Origin, QueueKey, Record, RetryOutcome, Shortage, Timestamp,
};
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot};

use crate::api::{Explained, Snapshot};
use crate::journal::Closed;
use crate::run::Error;

/// Sends to the loop. It reads in batches and never waits for its senders, so this never blocks;
/// what can be under way at once bounds what can lie here.
pub(crate) type Sender = mpsc::UnboundedSender<Input>;

#[derive(Debug)]
pub(crate) enum Input {
    /// A queue's stack is registered.
    Registered {
        queue: QueueKey,
        stack: Stack,
    },
    /// A queue was listed to its end.
    Listed {
        queue: QueueKey,
        started_at: Timestamp,
        listed: Listed,
    },
    /// A call to Buildkite that belongs to no job has failed.
    CallFailed {
        started_at: Timestamp,
        error: Refused,
    },
    /// A backend was listed, or could not be.
    Machines {
        backend: BackendName,
        started_at: Timestamp,
        listed: Result<Machines, Failure>,
    },
    /// A call has ended, one way or another.
    Ended(Outcome),
    /// The journal takes writes again, or does not.
    JournalFull(bool),
    Query(Query),
    /// The loop cannot go on: what is wrong cannot heal by itself.
    Fatal(Error),
}

/// A registered stack.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub client: StackClient,
    /// The key to list with, the default's sentinel resolved.
    pub queue_key: Arc<str>,
    /// Whether Buildkite issues tokens for single jobs.
    pub issues_tokens: bool,
}

#[derive(Debug)]
pub(crate) struct Listed {
    pub candidates: Arc<[Arc<Candidate>]>,
    pub paused: bool,
}

#[derive(Debug)]
pub(crate) struct Machines {
    pub seen: BTreeMap<(JobId, u32), Arc<MachineSeen>>,
    pub complete: bool,
}

/// One thing under way that must not be begun again meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Ask(JobId),
    Look(JobId),
    Reserve(JobId),
    Mint(JobId),
    Create(JobId, u32),
    Delete(JobId, u32),
    Finish(JobId),
    ReadRecord(JobId),
    Retry(JobId),
}

/// What came of a call. Every call that was begun ends in exactly one of these.
#[derive(Debug)]
pub(crate) enum Outcome {
    Asked {
        queue: QueueKey,
        jobs: Vec<JobId>,
        asked_at: Timestamp,
        states: Vec<(JobId, JobState)>,
        failed: Option<Refused>,
    },
    Looked {
        queue: QueueKey,
        job: JobId,
        started_at: Timestamp,
        found: Result<Origin, (LookFailure, Refused)>,
    },
    Reserved {
        queue: QueueKey,
        jobs: Vec<JobId>,
        sent_at: Timestamp,
        lease: Duration,
        reserved: Vec<JobId>,
        not_reserved: Vec<JobId>,
        failed: Option<Refused>,
    },
    Minted {
        queue: QueueKey,
        jobs: Vec<JobId>,
        sent_at: Timestamp,
        lifetime: Duration,
        issued: Vec<(JobId, u32, SecretString)>,
        not_issued: Vec<JobId>,
        failed: Option<Refused>,
    },
    Created {
        backend: BackendName,
        job: JobId,
        attempt: u32,
        outcome: CreateOutcome,
    },
    Deleted {
        backend: BackendName,
        job: JobId,
        attempt: u32,
        ok: bool,
        retry_after: Option<Duration>,
    },
    Finished {
        queue: QueueKey,
        job: JobId,
        started_at: Timestamp,
        outcome: FinishOutcome,
        failed: Option<Refused>,
    },
    RecordRead {
        job: JobId,
        asked_at: Timestamp,
        found: Result<Record, Refused>,
    },
    Retried {
        job: JobId,
        outcome: RetryOutcome,
        failed: Option<Refused>,
    },
}

/// A failed call to Buildkite, as far as it matters here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    pub remedy: Remedy,
    pub words: String,
    pub retry_after: Option<Duration>,
    /// Whether an answer came at all, and not from a server in trouble.
    pub answered: bool,
}

impl Refused {
    pub(crate) fn timeout(call: &str) -> Self {
        Self {
            remedy: Remedy::Unknown,
            words: format!("{call}: no answer in time"),
            retry_after: None,
            answered: false,
        }
    }
}

impl From<&buildkite::Error> for Refused {
    fn from(error: &buildkite::Error) -> Self {
        Self {
            remedy: error.remedy,
            words: error.to_string(),
            retry_after: error.retry_after,
            answered: error.status.is_some_and(|status| status < 500),
        }
    }
}

/// A question to the loop, or a wish.
#[derive(Debug)]
pub(crate) enum Query {
    /// Whether the loop turns.
    Ping(oneshot::Sender<()>),
    /// What is missing until it is ready.
    Ready(oneshot::Sender<Vec<String>>),
    Snapshot(oneshot::Sender<Box<Snapshot>>),
    Job(JobId, oneshot::Sender<Option<Box<Explained>>>),
    History(JobId, oneshot::Sender<Option<Closed>>),
    Recent(u32, oneshot::Sender<Vec<Closed>>),
    Drain(bool, oneshot::Sender<()>),
    /// The token of a machine that has none.
    Token(JobId, u32, oneshot::Sender<Option<SecretString>>),
}

/// The class alone decides what comes next, so each of the backends' classes has one of ours.
pub(crate) fn failure(error: &backends::Error) -> Failure {
    let class = failure_class(error.class);
    Failure {
        class,
        words: error.words.as_str().into(),
        retry_after: error.retry_after,
        shortage: shortage(&error.fields),
    }
}

/// The quota that is used up, and the places that have room, where the backend named them.
pub(crate) fn shortage(fields: &BTreeMap<String, String>) -> Option<Arc<Shortage>> {
    let metric = fields.get("metric").map(|metric| metric.as_str().into());
    let places = fields.get("room_in").map_or("", String::as_str).split(',').map(str::trim);
    let room_in: Vec<Arc<str>> = places.filter(|place| !place.is_empty()).map(Into::into).collect();
    let said = metric.is_some() || !room_in.is_empty();
    said.then(|| Arc::new(Shortage { metric, room_in }))
}

pub(crate) const fn failure_class(class: Class) -> FailureClass {
    match class {
        Class::Capacity => FailureClass::Capacity,
        Class::Quota => FailureClass::Quota,
        Class::Rate => FailureClass::Rate,
        Class::Ambiguous => FailureClass::Ambiguous,
        Class::Rejected => FailureClass::Rejected,
        Class::Denied => FailureClass::Denied,
    }
}
