//! The only ways in which a ledger changes. Events are what the journal keeps: intents are recorded
//! before the call, outcomes after it, facts when a round first established them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BackendName, Bytes, Cpu, Doom, EndSeen, JobId, JobRow, JobState, LossStep, MachineName, Notice,
    Offer, QueueKey, Request, Timestamp,
};

/// Something that happened, or is about to. `at` is the moment of the intent or of the fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// We are about to reserve the job for the first time.
    Taken {
        job: JobId,
        row: Arc<JobRow>,
        /// None where the job can never work and is taken only to be failed.
        request: Option<Arc<Request>>,
        doom: Option<Doom>,
        at: Timestamp,
    },
    /// Buildkite reserved it for us. The lease counts from when the request was sent.
    Reserved {
        job: JobId,
        sent_at: Timestamp,
        until: Timestamp,
    },
    /// Buildkite did not: somebody has it, or it is no longer open.
    NotReserved {
        job: JobId,
        sent_at: Timestamp,
    },
    /// Buildkite did not issue a token: it does not see the job as reserved by us.
    NotIssued {
        job: JobId,
        at: Timestamp,
    },
    /// We are about to ask a backend for a machine; repeated for each repetition of the request.
    CreateIntended {
        job: JobId,
        attempt: u32,
        name: MachineName,
        offer: Offer,
        /// After how long it ends by itself; not said in journals of before 27 November 2026.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifetime: Option<Duration>,
        dispatch: Arc<str>,
        at: Timestamp,
    },
    /// The backend's word on a create.
    CreateEnded {
        job: JobId,
        attempt: u32,
        outcome: CreateOutcome,
        at: Timestamp,
    },
    /// A machine's agent has registered.
    Connected {
        job: JobId,
        attempt: u32,
        at: Timestamp,
    },
    /// Buildkite first said that an agent has the job.
    Acquired {
        job: JobId,
        at: Timestamp,
    },
    /// Buildkite took the job back from an agent that never took it up: it is as before the acquire.
    Released {
        job: JobId,
        at: Timestamp,
    },
    /// Buildkite first said that the job has ended, or is being stopped.
    JobStopping {
        job: JobId,
        at: Timestamp,
    },
    JobEnded {
        job: JobId,
        state: JobState,
        at: Timestamp,
    },
    /// A machine's agent has left.
    MachineEnded {
        job: JobId,
        attempt: u32,
        end: Arc<EndSeen>,
        at: Timestamp,
    },
    /// An attempt will not come to anything: another may be made when no agent can come of it.
    AttemptFailed {
        job: JobId,
        attempt: u32,
        failure: Failure,
        charged: bool,
        at: Timestamp,
    },
    /// We are about to delete a machine.
    DeleteIntended {
        job: JobId,
        attempt: u32,
        at: Timestamp,
    },
    /// The backend confirmed a delete, or refused it for now.
    DeleteEnded {
        job: JobId,
        attempt: u32,
        ok: bool,
        /// When the backend said how long to wait.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<Duration>,
        at: Timestamp,
    },
    /// A listing begun after its end shows that the machine is no more.
    Gone {
        job: JobId,
        attempt: u32,
        at: Timestamp,
    },
    /// The job is to be failed, for this reason.
    Doomed {
        job: JobId,
        doom: Doom,
        at: Timestamp,
    },
    /// We are about to tell Buildkite that the job has failed.
    FinishIntended {
        job: JobId,
        at: Timestamp,
    },
    /// What came of it.
    FinishEnded {
        job: JobId,
        outcome: FinishOutcome,
        at: Timestamp,
    },
    /// We are about to tell the developer something.
    Told {
        job: JobId,
        notice: Notice,
        at: Timestamp,
    },
    /// Something about a job whose machine was lost under it.
    Loss {
        job: JobId,
        loss: LossStep,
        at: Timestamp,
    },
    /// A machine with our mark that we knew nothing of is ours from now on.
    Adopted(Adoption),
    /// Nothing is left to do for the job.
    Forgotten {
        job: JobId,
        at: Timestamp,
        why: Arc<str>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adoption {
    pub job: JobId,
    pub attempt: u32,
    pub name: MachineName,
    pub backend: BackendName,
    pub queue: QueueKey,
    pub dispatch: Arc<str>,
    pub cpu: Cpu,
    pub memory: Bytes,
    pub created_at: Timestamp,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CreateOutcome {
    /// It is there (or was there already).
    Made,
    /// A listing shows it. A call may be under way all the same, and be answered later.
    Listed,
    /// Not made, or nobody knows: the class says which.
    Failed(Failure),
    /// It was not asked for at all: the token had lapsed, or the executor stopped before the call.
    NotSent,
}

/// What Buildkite said to our failing a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishOutcome {
    Taken,
    /// It is decided already: its state says how.
    TooLate,
    /// No answer, or not sent: its state says whether it was taken.
    Unknown,
}

/// Why something did not work, in a class that decides and words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub class: FailureClass,
    pub words: Arc<str>,
    /// When the backend said how long to wait.
    #[serde(default)]
    pub retry_after: Option<Duration>,
    /// What the backend said is short, and where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortage: Option<Arc<Shortage>>,
}

/// What of a backend's words on a shortage is to be acted on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// The quota that is used up.
    #[serde(default)]
    pub metric: Option<Arc<str>>,
    /// Places of the region in which there is room; empty: it did not say.
    #[serde(default)]
    pub room_in: Vec<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    Capacity,
    Quota,
    Rate,
    Ambiguous,
    Rejected,
    Denied,
    /// The machine's agent left before it had the job.
    EndedEarly,
    /// No agent had the job in time.
    StartTimeout,
    /// The machine vanished.
    Lost,
}

impl Event {
    /// Whether it has to be known when the job that it is about is forgotten.
    #[must_use]
    pub const fn outlives_its_job(&self) -> bool {
        if let Self::Loss { loss, .. } = self { loss.outlives_its_job() } else { false }
    }

    /// The job that the event is about.
    #[must_use]
    pub const fn job(&self) -> JobId {
        match self {
            Self::Taken { job, .. }
            | Self::Reserved { job, .. }
            | Self::NotReserved { job, .. }
            | Self::NotIssued { job, .. }
            | Self::CreateIntended { job, .. }
            | Self::CreateEnded { job, .. }
            | Self::Connected { job, .. }
            | Self::Acquired { job, .. }
            | Self::Released { job, .. }
            | Self::JobStopping { job, .. }
            | Self::JobEnded { job, .. }
            | Self::MachineEnded { job, .. }
            | Self::AttemptFailed { job, .. }
            | Self::DeleteIntended { job, .. }
            | Self::DeleteEnded { job, .. }
            | Self::Gone { job, .. }
            | Self::Doomed { job, .. }
            | Self::FinishIntended { job, .. }
            | Self::FinishEnded { job, .. }
            | Self::Told { job, .. }
            | Self::Loss { job, .. }
            | Self::Forgotten { job, .. } => *job,
            Self::Adopted(adoption) => adoption.job,
        }
    }
}
