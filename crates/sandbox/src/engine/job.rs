//! One attempt at a command step, with everything that is told about it.
//! It holds no rules: who may change a job, and when, stands beside the calls that do.

use std::collections::BTreeSet;
use std::sync::Arc;

use buildkite::wire;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Serialize;
use uuid::Uuid;

use super::log::Log;
use super::records::Annotation;
use super::steps::Command;

/// A job's state, as the agent and Stacks APIs spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Waiting,
    WaitingFailed,
    Limited,
    Scheduled,
    Reserved,
    Accepted,
    Running,
    Canceling,
    Canceled,
    TimingOut,
    TimedOut,
    Finished,
    Expired,
    Broken,
    Skipped,
}

impl State {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::WaitingFailed => "waiting_failed",
            Self::Limited => "limited",
            Self::Scheduled => "scheduled",
            Self::Reserved => "reserved",
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Canceled => "canceled",
            Self::TimingOut => "timing_out",
            Self::TimedOut => "timed_out",
            Self::Finished => "finished",
            Self::Expired => "expired",
            Self::Broken => "broken",
            Self::Skipped => "skipped",
        }
    }

    /// Whether the job will never change again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::WaitingFailed
            | Self::Canceled
            | Self::TimedOut
            | Self::Finished
            | Self::Expired
            | Self::Broken
            | Self::Skipped => true,
            Self::Waiting
            | Self::Limited
            | Self::Scheduled
            | Self::Reserved
            | Self::Accepted
            | Self::Running
            | Self::Canceling
            | Self::TimingOut => false,
        }
    }

    /// Whether an agent holds the job.
    #[must_use]
    pub const fn is_with_agent(self) -> bool {
        matches!(self, Self::Accepted | Self::Running | Self::Canceling | Self::TimingOut)
    }

    /// What the job becomes when its agent is through with it; `None` where no agent has it.
    pub(super) const fn ends_as(self) -> Option<Self> {
        match self {
            Self::Accepted | Self::Running => Some(Self::Finished),
            Self::Canceling => Some(Self::Canceled),
            Self::TimingOut => Some(Self::TimedOut),
            Self::Waiting
            | Self::WaitingFailed
            | Self::Limited
            | Self::Scheduled
            | Self::Reserved
            | Self::Canceled
            | Self::TimedOut
            | Self::Finished
            | Self::Expired
            | Self::Broken
            | Self::Skipped => None,
        }
    }

    /// Which of the three counts of the metrics endpoint has the job in it.
    pub(super) const fn count(self) -> Option<Count> {
        match self {
            Self::Waiting | Self::Limited => Some(Count::Waiting),
            Self::Scheduled | Self::Reserved => Some(Count::Scheduled),
            Self::Accepted | Self::Running | Self::Canceling | Self::TimingOut => {
                Some(Count::Running)
            }
            Self::WaitingFailed
            | Self::Canceled
            | Self::TimedOut
            | Self::Finished
            | Self::Expired
            | Self::Broken
            | Self::Skipped => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Waiting,
    Scheduled,
    Running,
}

impl From<State> for wire::JobState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::WaitingFailed => Self::WaitingFailed,
            State::Limited => Self::Limited,
            State::Scheduled => Self::Scheduled,
            State::Reserved => Self::Reserved,
            State::Accepted => Self::Accepted,
            State::Running => Self::Running,
            State::Canceling => Self::Canceling,
            State::Canceled => Self::Canceled,
            State::TimingOut => Self::TimingOut,
            State::TimedOut => Self::TimedOut,
            State::Finished => Self::Finished,
            State::Expired => Self::Expired,
            State::Broken => Self::Broken,
            State::Skipped => Self::Skipped,
        }
    }
}

/// Something that happened to a job, under GraphQL's name for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    pub at: Timestamp,
    #[serde(rename = "type")]
    pub kind: EventKind,
    pub actor: Actor,
    /// A notification's text, a stack's reason, the id of a new job, a concurrency group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventKind {
    Accepted,
    AcceptedExpired,
    AgentDisconnected,
    AgentLost,
    AgentStopped,
    BuildStepUploadCreated,
    /// The wish to cancel; `Canceled` is its fulfilment.
    Cancelation,
    Canceled,
    Expired,
    Finished,
    Limited,
    LogSizeLimitExceeded,
    Reprioritized,
    Reserved,
    ReservedExpired,
    Retried,
    Scheduled,
    StackErrored,
    StackFinished,
    StackNotification,
    Started,
    TimedOut,
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Actor {
    System,
    User,
    Stack(String),
    Agent(Uuid),
}

/// A stack's hold on a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reservation {
    pub stack: String,
    pub until: Timestamp,
}

/// What a stack told about the job while it was waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    pub at: Timestamp,
    pub detail: String,
}

/// How a job ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub exit_status: Option<i32>,
    pub signal: Option<String>,
    pub signal_reason: Option<String>,
}

impl Outcome {
    pub(super) fn lost() -> Self {
        Self { exit_status: Some(-1), signal: None, signal_reason: None }
    }

    /// Whether the job did what it should; without a status it did not.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.exit_status == Some(0)
    }
}

#[derive(Clone, Debug)]
pub struct Job {
    pub id: Uuid,
    /// Index in the engine's list of builds.
    pub build: usize,
    /// Index in the build's list of steps.
    pub step: usize,
    /// Index in the engine's list of queues.
    pub queue: usize,
    pub label: String,
    pub step_key: Option<String>,
    pub command: Arc<Command>,
    pub rules: Vec<String>,
    pub state: State,
    pub outcome: Outcome,
    pub soft_failed: bool,
    /// What the stack gave as the reason of a `finish`.
    pub detail: Option<String>,
    pub created_at: Timestamp,
    pub scheduled_at: Timestamp,
    pub runnable_at: Option<Timestamp>,
    pub accepted_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub reservation: Option<Reservation>,
    pub agent: Option<Uuid>,
    pub retry_count: u32,
    pub retried_in: Option<Uuid>,
    pub retry_of: Option<Uuid>,
    pub events: Vec<Event>,
    pub notifications: Vec<Told>,
    pub annotations: Vec<Annotation>,
    pub log: Log,
    pub chunks_failed_count: u64,
    /// Sent again with the same text and time, and therefore not stored twice.
    pub repeated_notifications: u32,
    /// Ties of `scheduled_at` are broken by the order of creation.
    pub(super) sequence: u64,
    /// The job's place in the line of its concurrency group, which a retry keeps.
    pub(super) in_line: (Timestamp, u64),
    /// Which rule of `command.retry` started each retry before this job.
    pub(super) retries_by_rule: Vec<usize>,
    pub(super) token: Option<SecretString>,
    pub(super) uploads: BTreeSet<Uuid>,
}

/// Where a job belongs, by index, and its number in the order of creation.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobPlace {
    pub(super) build: usize,
    pub(super) step: usize,
    pub(super) queue: usize,
    pub(super) sequence: u64,
}

impl Job {
    /// A job that waits and of which nothing is known yet.
    pub(super) fn new(id: Uuid, at: JobPlace, command: Arc<Command>, now: Timestamp) -> Self {
        Self {
            id,
            build: at.build,
            step: at.step,
            queue: at.queue,
            label: String::new(),
            step_key: None,
            rules: command.agents.iter().map(|(key, value)| format!("{key}={value}")).collect(),
            command,
            state: State::Waiting,
            outcome: Outcome::default(),
            soft_failed: false,
            detail: None,
            created_at: now,
            scheduled_at: now,
            runnable_at: None,
            accepted_at: None,
            started_at: None,
            finished_at: None,
            reservation: None,
            agent: None,
            retry_count: 0,
            retried_in: None,
            retry_of: None,
            events: Vec::new(),
            notifications: Vec::new(),
            annotations: Vec::new(),
            log: Log::default(),
            chunks_failed_count: 0,
            repeated_notifications: 0,
            sequence: at.sequence,
            in_line: (now, at.sequence),
            retries_by_rule: Vec::new(),
            token: None,
            uploads: BTreeSet::new(),
        }
    }

    pub(super) fn tell(&mut self, at: Timestamp, kind: EventKind, actor: Actor) {
        self.events.push(Event { at, kind, actor, detail: None });
    }

    pub(super) fn tell_detail(
        &mut self,
        at: Timestamp,
        kind: EventKind,
        actor: Actor,
        detail: String,
    ) {
        self.events.push(Event { at, kind, actor, detail: Some(detail) });
    }

    /// The job's place in its queue's listing.
    pub(super) fn place(&self) -> (Timestamp, u64, Uuid) {
        (self.scheduled_at, self.sequence, self.id)
    }
}
