//! A job whose machine was lost under it: what is found out about it, whether Buildkite is asked to
//! retry it, and which job takes its place. Decided in `decide::loss`, kept in the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{BackendName, Entry, JobId, JobRow, Ledger, Timestamp};

/// How long a build's retries, and who takes whose place, are remembered: longer than a build lasts.
pub const RETRIES_REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a lost job is remembered of which nobody knows what takes its place: a rule of the
/// pipeline's retries it at once.
const UNREPLACED_REMEMBERED: Duration = Duration::from_secs(600);

/// A build, as people name it: its number counts within its pipeline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BuildKey {
    pub pipeline: Arc<str>,
    pub number: u64,
}

/// What happens to a job whose machine was lost under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "loss", rename_all = "snake_case")]
pub enum LossStep {
    /// Buildkite counted on its agent when the machine was no more.
    Noticed { attempt: u32 },
    /// Buildkite's own record of it, asked for at the event's time.
    Read { record: Record },
    /// We are about to ask Buildkite to retry it; that counts for its build.
    RetryIntended { build: BuildKey },
    /// What came of that.
    RetryEnded { outcome: RetryOutcome },
    /// Another job takes its place, and had better not be made where this one was lost.
    Replaced {
        by: JobId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<LostOn>,
    },
    /// It is left as it is.
    Left { why: NotRetried },
}

/// On what kind of machine, and where, a job was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostOn {
    pub backend: BackendName,
    pub place: Arc<str>,
    pub spot: bool,
}

impl LostOn {
    /// Of its last machine, unless that was adopted: then nobody knows.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let offer = entry.current()?.offer.as_ref()?;
        let (backend, place) = (offer.backend.clone(), Arc::clone(&offer.place));
        Some(Self { backend, place, spot: offer.spot })
    }
}

/// A job that has ended, as Buildkite's REST API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub end: RecordedEnd,
    /// The job that takes its place, by a rule of the pipeline's or because somebody asked.
    pub successor: Option<JobId>,
    pub build: Option<BuildKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum RecordedEnd {
    /// Not seen there yet.
    None,
    /// Its agent was lost, or stopped under it.
    Lost,
    /// By itself, or by somebody's will.
    Other,
    /// Buildkite does not show it to us.
    Unseen { words: Arc<str> },
}

/// What Buildkite said to our asking for a retry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RetryOutcome {
    Made {
        by: JobId,
    },
    /// It will not; perhaps because it has done so before.
    Refused {
        words: Arc<str>,
    },
    /// No answer, or not sent: the job's record says whether it was done.
    Unknown,
}

/// Why a lost job is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum NotRetried {
    /// Buildkite says that it ended otherwise.
    NotLost,
    /// Its build has had as many retries as it may.
    Budget {
        per_build: u32,
    },
    /// Our API token may not.
    Denied {
        words: Arc<str>,
    },
    Refused {
        words: Arc<str>,
    },
    /// Nobody knows which build it is of, so that nothing can be counted for it.
    NoBuild,
    /// No answer came for too long.
    NoAnswer,
}

/// How far it is with a job whose machine was lost under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub noticed_at: Timestamp,
    /// What Buildkite last said of it, and when it was asked.
    pub record: Option<(Record, Timestamp)>,
    pub retry: Retry,
    /// Why it is left as it is.
    pub left: Option<NotRetried>,
    /// The job that takes its place.
    pub successor: Option<JobId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retry {
    #[default]
    No,
    Intended {
        at: Timestamp,
        tries: u32,
    },
    Ended {
        outcome: RetryOutcome,
        at: Timestamp,
        tries: u32,
    },
}

/// What outlives the jobs that it is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Retries {
    /// The lost jobs of each build that Buildkite was asked to retry.
    #[serde(with = "crate::pairs")]
    asked: BTreeMap<BuildKey, BTreeMap<JobId, Timestamp>>,
    /// By the job that takes another's place.
    predecessors: BTreeMap<JobId, (JobId, Timestamp)>,
    /// By the same job, where the other was lost.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    lost_on: BTreeMap<JobId, (LostOn, Timestamp)>,
    /// Lost jobs that are forgotten and of which nobody knows what takes their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unreplaced: Vec<Unreplaced>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unreplaced {
    row: Arc<JobRow>,
    on: LostOn,
    at: Timestamp,
}

impl LossStep {
    /// Whether it has to be known when the job itself is forgotten.
    #[must_use]
    pub const fn outlives_its_job(&self) -> bool {
        match self {
            Self::RetryIntended { .. } | Self::Replaced { .. } => true,
            Self::Noticed { .. }
            | Self::Read { .. }
            | Self::RetryEnded { .. }
            | Self::Left { .. } => false,
        }
    }
}

impl Retry {
    pub(crate) const fn tries(&self) -> u32 {
        match self {
            Self::No => 0,
            Self::Intended { tries, .. } | Self::Ended { tries, .. } => *tries,
        }
    }
}

impl Retries {
    /// How many other jobs of the build were retried.
    pub(crate) fn of(&self, build: &BuildKey, but: JobId) -> usize {
        let jobs = self.asked.get(build);
        jobs.map_or(0, |jobs| jobs.keys().filter(|job| **job != but).count())
    }

    pub(crate) fn predecessor(&self, job: JobId) -> Option<JobId> {
        self.predecessors.get(&job).map(|(predecessor, _)| *predecessor)
    }

    /// Where the job was lost whose place this one takes.
    pub(crate) fn lost_on(&self, job: JobId) -> Option<&LostOn> {
        self.lost_on.get(&job).map(|(lost_on, _)| lost_on)
    }

    /// A job that is forgotten may have been lost, and its successor may be about to come.
    pub(crate) fn outlive(&mut self, entry: &Entry, at: Timestamp) {
        if let Some((row, on)) = entry.unreplaced() {
            self.unreplaced.retain(|lost| at.since(lost.at) < UNREPLACED_REMEMBERED);
            self.unreplaced.push(Unreplaced { row: Arc::clone(row), on, at });
        }
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.predecessors.retain(|_, (_, at)| now.since(*at) < RETRIES_REMEMBERED);
        self.lost_on.retain(|_, (_, at)| now.since(*at) < RETRIES_REMEMBERED);
        for jobs in self.asked.values_mut() {
            jobs.retain(|_, at| now.since(*at) < RETRIES_REMEMBERED);
        }
        self.asked.retain(|_, jobs| !jobs.is_empty());
    }
}

impl Ledger {
    /// Lost jobs of which nobody knows what takes their place, and where they were lost.
    pub(crate) fn unreplaced(&self, now: Timestamp) -> Vec<(&JobRow, LostOn)> {
        let here = self.entries.values().filter_map(|entry| entry.unreplaced());
        let here = here.map(|(row, on)| (&**row, on));
        let lately = self.retries.unreplaced.iter();
        let lately = lately.filter(|lost| now.since(lost.at) < UNREPLACED_REMEMBERED);
        here.chain(lately.map(|lost| (&*lost.row, lost.on.clone()))).collect()
    }

    pub(crate) fn lose(&mut self, job: JobId, step: LossStep, at: Timestamp) {
        match &step {
            LossStep::RetryIntended { build } => {
                self.retries.forget_old(at);
                self.retries.asked.entry(build.clone()).or_default().insert(job, at);
            }
            LossStep::Replaced { by, on } => {
                self.retries.predecessors.insert(*by, (job, at));
                if let Some(on) = on {
                    self.retries.lost_on.insert(*by, (on.clone(), at));
                }
                if let Some(entry) = self.entries.get_mut(by) {
                    entry.predecessor = Some(job);
                }
            }
            LossStep::Noticed { .. }
            | LossStep::Read { .. }
            | LossStep::RetryEnded { .. }
            | LossStep::Left { .. } => {}
        }
        if let Some(entry) = self.entries.get_mut(&job) {
            entry.lose(step, at);
        }
    }
}

impl Entry {
    fn unreplaced(&self) -> Option<(&Arc<JobRow>, LostOn)> {
        let loss = self.loss.as_ref().filter(|loss| loss.successor.is_none())?;
        if loss.left == Some(NotRetried::NotLost) {
            return None;
        }
        Some((self.row.as_ref()?, LostOn::of(self)?))
    }

    fn lose(&mut self, step: LossStep, at: Timestamp) {
        let loss = self.loss.get_or_insert_with(|| {
            let (record, left, successor) = (None, None, None);
            Box::new(Loss { noticed_at: at, record, retry: Retry::No, left, successor })
        });
        match step {
            LossStep::Noticed { .. } => {}
            LossStep::Read { record } => loss.record = Some((record, at)),
            LossStep::RetryIntended { .. } => {
                loss.retry = Retry::Intended { at, tries: loss.retry.tries() + 1 };
            }
            LossStep::RetryEnded { outcome } => {
                loss.retry = Retry::Ended { outcome, at, tries: loss.retry.tries() };
            }
            LossStep::Replaced { by, .. } => loss.successor = Some(by),
            LossStep::Left { why } => loss.left = Some(why),
        }
    }
}
