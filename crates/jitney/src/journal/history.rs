//! A job that is done with, in one row: what became of it, when, and what it used.

use planner::{Entry, JobId, JobState, Moment, Outcome, QueueKey, Timestamp};
use serde::{Deserialize, Serialize};

/// A job that is done with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    pub job: JobId,
    pub queue: QueueKey,
    pub pipeline: Option<String>,
    pub build: Option<u64>,
    pub step: Option<String>,
    /// Buildkite's word for how it ended; `left` where it did not end with us.
    pub outcome: String,
    /// Why nothing was left to do.
    pub why: String,
    /// How many machines were made or asked for.
    pub attempts: u32,
    pub backend: Option<String>,
    pub machine: Option<String>,
    /// The lost job that this one ran again, and the job that runs this one again.
    #[serde(default)]
    pub replaces: Option<JobId>,
    #[serde(default)]
    pub replaced_by: Option<JobId>,
    pub phases: Phases,
    pub cpu_millis_used: Option<u64>,
    pub peak_memory_bytes: Option<u64>,
    pub closed_at: Timestamp,
    pub moments: Vec<Moment>,
}

/// When a job came to each phase; those that it never came to are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    pub runnable: Option<Timestamp>,
    pub seen: Option<Timestamp>,
    pub reserved: Option<Timestamp>,
    /// When its (last) machine was asked for, and was there.
    pub asked: Option<Timestamp>,
    pub created: Option<Timestamp>,
    pub connected: Option<Timestamp>,
    pub acquired: Option<Timestamp>,
    /// When Buildkite said that the job had ended, and when its machine had.
    pub ended: Option<Timestamp>,
    pub machine_ended: Option<Timestamp>,
    pub gone: Option<Timestamp>,
}

impl Phases {
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let attempt = entry.current();
        let reserved = entry.moments.iter().find(|moment| &*moment.what == "reserved");
        Self {
            runnable: entry.row.as_ref().and_then(|row| row.runnable_at),
            seen: Some(entry.taken_at),
            reserved: reserved.map(|moment| moment.at),
            asked: attempt.map(|attempt| attempt.intended_at),
            created: attempt.and_then(|attempt| match attempt.outcome {
                Outcome::Made { at } => Some(at),
                Outcome::Asked { .. } | Outcome::Again { .. } | Outcome::NotMade { .. } => None,
            }),
            connected: attempt.and_then(|attempt| attempt.connected_at),
            acquired: entry.acquired_at,
            ended: entry.ended.map(|(_, at)| at),
            machine_ended: attempt.and_then(|attempt| attempt.ended.as_ref()).map(|end| end.at),
            gone: attempt.and_then(|attempt| attempt.gone_at),
        }
    }
}

impl Closed {
    /// The row of a job that is let go of.
    #[must_use]
    pub fn of(entry: &Entry, why: &str, at: Timestamp) -> Self {
        let (row, attempt) = (entry.row.as_deref(), entry.current());
        let end = attempt.and_then(|attempt| attempt.ended.as_ref());
        Self {
            job: entry.job,
            queue: entry.queue.clone(),
            pipeline: row.map(|row| row.pipeline.to_string()),
            build: row.map(|row| row.build),
            step: row.and_then(|row| row.step.as_deref()).map(str::to_owned),
            outcome: entry.ended.map_or("left", |(state, _)| JobState::word(state)).to_owned(),
            why: why.to_owned(),
            attempts: u32::try_from(entry.attempts.len()).unwrap_or(u32::MAX),
            backend: attempt.map(|attempt| attempt.backend.to_string()),
            machine: attempt.map(|attempt| attempt.name.to_string()),
            replaces: entry.predecessor,
            replaced_by: entry.loss.as_ref().and_then(|loss| loss.successor),
            phases: Phases::of(entry),
            cpu_millis_used: end.and_then(|end| end.cpu_millis_used),
            peak_memory_bytes: end.and_then(|end| end.peak_memory).map(planner::Bytes::get),
            closed_at: at,
            moments: entry.moments.clone(),
        }
    }
}
