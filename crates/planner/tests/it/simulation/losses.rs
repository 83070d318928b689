//! Jobs that are lost with their machines: what Buildkite's records say of them, its own retries by
//! rule, and those that somebody asks for. Each job is retried once at the most.

use std::sync::Arc;
use std::time::Duration;

use planner::{
    BuildKey, Candidate, Event, JobId, JobState, LossStep, Record, RecordedEnd, RetryOutcome,
    Timestamp,
};

use super::buildkite::Job;
use super::calls::{Call, Effect};
use super::faults::{Brings, Kind};
use super::invariants::Promise;
use super::world::{Happening, Sim};

/// How many jobs of one build may be retried because they were lost.
pub(crate) const PER_BUILD: u32 = 2;

/// What became of a job beyond its state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// Its agent was given up.
    pub(crate) lost: bool,
    pub(crate) successor: Option<JobId>,
    /// Whether the successor was asked for.
    pub(crate) asked: bool,
}

impl Sim<'_> {
    /// Buildkite gives an agent up, or hears that it is stopped. Some pipelines have a rule that
    /// retries such a job.
    pub(crate) fn is_lost(&mut self, job: JobId) {
        let Some(known) = self.buildkite.jobs.get_mut(&job) else { return };
        known.fate.lost = true;
        if job.0.as_bytes()[2].is_multiple_of(4) {
            self.succeed(job);
        }
    }

    /// Another job takes its place.
    fn succeed(&mut self, job: JobId) -> JobId {
        let by = JobId(self.dice.uuid());
        let known = self.buildkite.jobs.get_mut(&job).expect("it was looked for");
        known.fate.successor = Some(by);
        let (mut row, verdict) = (known.row().as_ref().clone(), known.candidate.verdict.clone());
        row.id = by;
        row.scheduled_at = self.buildkite.clock.shows(self.now);
        let next = Job {
            candidate: Arc::new(Candidate { row: Arc::new(row), verdict }),
            state: JobState::NotReady,
            reservation: None,
            acquired: None,
            acquires: 0,
            failed_by_us: false,
            fate: Fate::default(),
            ..known.clone()
        };
        self.buildkite.jobs.insert(by, next);
        self.takes_its_place(job, by);
        self.after(Duration::ZERO, Happening::Arrives(by));
        self.tell(Some(job), || format!("job {by} takes its place"));
        by
    }

    pub(crate) fn record_of(&mut self, job: JobId) -> Effect {
        if self.strikes(Kind::Denied, 100) {
            return Effect::NotLetIn;
        }
        let known = self.buildkite.jobs.get(&job);
        let end = match known {
            None => RecordedEnd::Unseen { words: "no such job".into() },
            Some(job) if !job.state.is_terminal() => RecordedEnd::None,
            Some(job) if job.fate.lost => RecordedEnd::Lost,
            Some(_) => RecordedEnd::Other,
        };
        let build = known.map(build);
        let successor = known.and_then(|job| job.fate.successor);
        Effect::Read(Record { end, successor, build })
    }

    pub(crate) fn retry(&mut self, call: &Call, job: JobId) -> Effect {
        self.check_retry(call, job);
        if self.strikes(Kind::Denied, 100) {
            return Effect::NotLetIn;
        }
        let known = self.buildkite.jobs.get(&job);
        let free = known
            .is_some_and(|job| job.state == JobState::Finished && job.fate.successor.is_none());
        if !free {
            let words = "it was retried".into();
            return Effect::Retried(RetryOutcome::Refused { words });
        }
        let by = self.succeed(job);
        if let Some(known) = self.buildkite.jobs.get_mut(&job) {
            known.fate.asked = true;
        }
        Effect::Retried(RetryOutcome::Made { by })
    }

    /// A call that failed is not repeated at once, and a refused token not at all.
    pub(crate) fn pace_rest(&mut self, call: &Call) {
        let shell = &mut self.shells[call.shell];
        if call.brings != Brings::Word {
            shell.seen.rest.not_before = shell.clock.shows(self.now).plus(Duration::from_secs(4));
        } else if matches!(call.heard(), Some(Effect::NotLetIn)) {
            shell.seen.rest.denied = Some("403".into());
        }
    }

    /// Only what was lost is retried, and no more of a build than may be. Whoever lost the journal
    /// has lost the count, and two installations count for themselves.
    fn check_retry(&mut self, call: &Call, job: JobId) {
        let Some(known) = self.buildkite.jobs.get(&job) else { return };
        if !known.fate.lost {
            let text = "a job that was not lost is to be retried".to_owned();
            return self.broke(Promise::Retries, Some(job), text);
        }
        let asked = |(id, other): &(&JobId, &Job)| {
            **id != job && other.fate.asked && build(other) == build(known)
        };
        let before = self.buildkite.jobs.iter().filter(asked).count();
        let counted = call.epoch == 1 && !self.two_installations();
        if counted && u32::try_from(before).is_ok_and(|before| before >= PER_BUILD) {
            let text = format!("{before} jobs of its build were retried before");
            self.broke(Promise::Retries, Some(job), text);
        }
    }
}

fn build(job: &Job) -> BuildKey {
    BuildKey { pipeline: job.row().pipeline.clone(), number: job.row().build }
}

pub(crate) fn record_read(call: &Call, job: JobId) -> Vec<Event> {
    let Some(Effect::Read(record)) = call.heard() else { return Vec::new() };
    let loss = LossStep::Read { record: record.clone() };
    vec![Event::Loss { job, loss, at: call.sent_at_shown }]
}

pub(crate) fn retried(call: &Call, job: JobId, at: Timestamp) -> Event {
    let outcome = match call.heard() {
        Some(Effect::Retried(outcome)) => outcome.clone(),
        Some(_) | None => RetryOutcome::Unknown,
    };
    Event::Loss { job, loss: LossStep::RetryEnded { outcome }, at }
}
