//! What we took on and are about to do. Kept in the journal as the events that made it; `record`
//! is the only way in which it changes, and it is as pure as the decisions.

mod cooling;
mod moments;
mod record;
mod spent;

pub(crate) use cooling::{Cooling, Refuser};
pub(crate) use record::doubled;
pub(crate) use spent::{Spent, Used, sum, used};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moments::Texts;
use serde::{Deserialize, Serialize};

use crate::loss::Retries;
use crate::{
    BackendName, Bytes, Cpu, EndSeen, Failure, FinishOutcome, Invalid, JobId, JobRow, JobState,
    Loss, MachineName, Notice, Offer, QueueKey, Reason, Request, Timestamp,
};

/// How many moments of a job are kept.
const MOMENTS_MOST: usize = 48;
/// How long we remember that we let go of a job: longer than a listing is under way. What an older
/// one brings is looked into, and let go of again.
const REMEMBER_LEFT: Duration = Duration::from_secs(90);

/// All jobs in our hands, and what we remember beyond single jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// By reference, as they are large and a map keeps room for nearly twice as many as it has.
    pub(crate) entries: BTreeMap<JobId, Box<Entry>>,
    /// What refused machines lately, for a reason that time may heal.
    #[serde(with = "crate::pairs")]
    pub(crate) cooling: BTreeMap<Refuser, Cooling>,
    /// What developers of jobs that are not in our hands yet were told.
    pub(crate) told: BTreeMap<JobId, Told>,
    /// What machines that are gone have used lately, by queue.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) spent: BTreeMap<QueueKey, Spent>,
    /// Which jobs were retried, and whose place they take.
    #[serde(default)]
    pub(crate) retries: Retries,
    /// Jobs that we let go of, and when: a listing begun before says nothing new about them.
    pub(crate) left: BTreeMap<JobId, Timestamp>,
    /// From so many on the old ones among them are forgotten.
    pub(crate) left_most: usize,
    #[serde(skip)]
    texts: Texts,
}

/// One job in our hands. What few of them have is kept by reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub job: JobId,
    pub queue: QueueKey,
    /// None for a job that we know from its machine only, after a lost journal.
    pub row: Option<Arc<JobRow>>,
    /// None for a job that is to be failed, or that we know from its machine only.
    pub request: Option<Arc<Request>>,
    pub taken_at: Timestamp,
    pub lease: Option<Lease>,
    /// Until when Buildkite last reserved the job for us, also where it refused to extend that.
    pub leased_until: Timestamp,
    /// When Buildkite last refused to reserve the job for us: the request's start.
    pub refused_at: Option<Timestamp>,
    /// When Buildkite last gave no token, because it did not see the job as reserved by us.
    pub unissued_at: Option<Timestamp>,
    /// In order of their numbers; the last is the current one.
    pub attempts: Vec<Attempt>,
    /// How many attempts count against the queue's limit.
    pub charged: u32,
    /// The last failure, also of a create that made nothing.
    pub last_failure: Option<Box<Failed>>,
    pub acquired_at: Option<Timestamp>,
    /// When Buildkite first said that the job is being stopped.
    pub stopping_at: Option<Timestamp>,
    /// How and when it ended, as far as Buildkite said.
    pub ended: Option<(JobState, Timestamp)>,
    pub doom: Option<Box<Doom>>,
    pub finish: Finish,
    /// Whether its machine was lost under it, and what follows.
    pub loss: Option<Box<Loss>>,
    /// The lost job whose place it takes.
    pub predecessor: Option<JobId>,
    pub told: Told,
    /// What happened, for `explain`: bounded, oldest first.
    pub moments: Vec<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub sent_at: Timestamp,
    pub until: Timestamp,
}

/// The n-th machine for a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub number: u32,
    pub name: MachineName,
    pub backend: BackendName,
    /// What it counts for in limits.
    pub cpu: Cpu,
    pub memory: Bytes,
    /// None for an adopted machine.
    pub offer: Option<Offer>,
    /// After how long it ends by itself, as it was first asked for: later requests are the same.
    #[serde(default)]
    pub lifetime: Option<Duration>,
    pub dispatch: Arc<str>,
    /// When it was first about to be asked for.
    pub intended_at: Timestamp,
    pub outcome: Outcome,
    /// When the call was begun that asks for it and has not been answered yet.
    pub call_at: Option<Timestamp>,
    /// How many times it has been asked for.
    pub tries: u32,
    /// Whether any try's outcome was not known: then only a listing says that it is not there.
    pub doubtful: bool,
    pub connected_at: Option<Timestamp>,
    pub ended: Option<Arc<EndSeen>>,
    /// When we saw that it had ended.
    pub end_seen_at: Option<Timestamp>,
    pub failed: Option<Box<Failed>>,
    pub delete: Delete,
    /// When a listing showed that it is no more. From then on the attempt holds nothing.
    pub gone_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Asked for (or about to be), no word yet.
    Asked { at: Timestamp },
    /// The backend's word is that it is there, or a listing showed it.
    Made { at: Timestamp },
    /// The same request is to be sent again, not before `not_before`.
    Again { not_before: Timestamp, failure: Option<Failure> },
    /// The backend's last word is that it was not made, after one that told nothing: only a
    /// listing settles it.
    NotMade { at: Timestamp },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    pub failure: Failure,
    /// Where the machine was, or would have been.
    #[serde(default)]
    pub backend: Option<BackendName>,
    pub at: Timestamp,
    pub charged: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delete {
    #[default]
    No,
    Intended {
        at: Timestamp,
        tries: u32,
    },
    Refused {
        at: Timestamp,
        tries: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<Duration>,
    },
    Confirmed {
        at: Timestamp,
    },
}

/// Whether the job's failure has been told to Buildkite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    #[default]
    No,
    Intended {
        at: Timestamp,
        tries: u32,
    },
    Ended {
        outcome: FinishOutcome,
        at: Timestamp,
        tries: u32,
    },
}

/// Why a job is failed by us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "doom", rename_all = "snake_case")]
pub enum Doom {
    /// It can never work.
    Invalid { invalid: Invalid },
    /// All attempts came to nothing.
    AttemptsUsedUp { attempts: u32, last: Failure },
    /// The backend refuses such a machine for good.
    Rejected { backend: BackendName, failure: Failure },
}

/// What a developer was told so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub count: u32,
    pub last: Option<(Notice, Timestamp)>,
    /// Up to which attempt its machine, or its failure, was told.
    pub made: u32,
    pub retried: u32,
    pub cut_short: u32,
    /// Whether it was told what follows on its loss.
    pub loss: bool,
    /// Whether it was told that policies count which may not match.
    pub assumed: bool,
    /// Why it waits, as far as that was told: one reason of each story.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Reason>,
}

/// One thing that happened to a job, as `explain` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    pub at: Timestamp,
    pub what: Arc<str>,
}

impl Ledger {
    /// All jobs in our hands.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(|entry| &**entry)
    }

    #[must_use]
    pub fn entry(&self, job: JobId) -> Option<&Entry> {
        self.entries.get(&job).map(|entry| &**entry)
    }
}

impl Entry {
    /// The attempt that may still come to something, or did.
    #[must_use]
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The number that the next machine gets: never one that was used.
    #[must_use]
    pub fn next_attempt(&self) -> u32 {
        self.attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0) + 1
    }
}

/// With more stories than these, every one counts as told.
const STORIES_MOST: usize = 16;

impl Told {
    /// Whether the developer knows of the wait, but perhaps not for how long or how often.
    pub(crate) fn knows(&self, reason: &Reason) -> bool {
        let full = self.waits.len() >= STORIES_MOST;
        full || self.waits.iter().any(|known| known.is_story_of(reason))
    }

    pub(crate) fn hear(&mut self, reason: &Reason) {
        if !self.knows(reason) {
            // Most jobs are told of one or two, and there are thousands.
            self.waits.reserve_exact(1);
            self.waits.push(reason.clone());
        }
    }
}

impl Finish {
    pub(crate) const fn tries(self) -> u32 {
        match self {
            Self::No => 0,
            Self::Intended { tries, .. } | Self::Ended { tries, .. } => tries,
        }
    }
}

impl Delete {
    pub(crate) const fn tries(self) -> u32 {
        match self {
            Self::No | Self::Confirmed { .. } => 0,
            Self::Intended { tries, .. } | Self::Refused { tries, .. } => tries,
        }
    }
}

impl Attempt {
    /// Whether it may still hold a machine, and so counts in limits.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.gone_at.is_none()
    }
}
