//! Buildkite as it truly is: jobs, their states, reservations and acquires. It knows nothing of
//! what anybody was told about it, and draws no luck of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use planner::{Candidate, JobId, JobRow, JobState, QueueKey, Request, Timestamp, Verdict};

use super::clocks::Skew;
use super::losses::Fate;

/// Who reserves: installations with one name share one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    Ours,
    Other,
}

/// The epoch of what no journal knows of.
pub(crate) const NOBODY: u64 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) by: Stack,
    pub(crate) until: Timestamp,
    /// Which life of which shell's journal knows of it.
    pub(crate) epoch: u64,
}

/// A job acquisition token: good for one job, until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) job: JobId,
    pub(crate) until: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) candidate: Arc<Candidate>,
    /// What it gets, once it is known where its build comes from; for jobs of which a policy asks.
    pub(crate) hidden: Option<Arc<Request>>,
    pub(crate) state: JobState,
    pub(crate) reservation: Option<Reservation>,
    /// The machine whose agent got it, and when.
    pub(crate) acquired: Option<(u64, Timestamp)>,
    pub(crate) acquires: u32,
    pub(crate) runs_for: Duration,
    /// Whether a stack's `finish` ended it.
    pub(crate) failed_by_us: bool,
    pub(crate) fate: Fate,
}

impl Job {
    pub(crate) fn row(&self) -> &Arc<JobRow> {
        &self.candidate.row
    }

    pub(crate) fn request(&self) -> Option<&Arc<Request>> {
        match &self.candidate.verdict {
            Verdict::Ours(request) => Some(request),
            Verdict::Undecided { .. } => self.hidden.as_ref(),
            Verdict::Invalid(_) | Verdict::Foreign(_) => None,
        }
    }

    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self.candidate.verdict, Verdict::Foreign(_))
    }

    /// Whether an agent has it just now.
    pub(crate) fn is_held_by_agent(&self) -> bool {
        matches!(
            self.state,
            JobState::Accepted | JobState::Running | JobState::Canceling | JobState::TimingOut
        )
    }
}

/// What a listing of one queue says.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) candidates: Arc<[Arc<Candidate>]>,
    pub(crate) paused: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Buildkite {
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) paused: BTreeSet<QueueKey>,
    /// How far the times are off that it tells.
    pub(crate) clock: Skew,
    /// Earlier listings, for those that come late: at most ten seconds of them.
    earlier: BTreeMap<QueueKey, VecDeque<(Timestamp, Listed)>>,
}

const REMEMBER: Duration = Duration::from_secs(10);

impl Buildkite {
    pub(crate) fn list(&mut self, queue: &QueueKey, now: Timestamp) -> Listed {
        let mut candidates: Vec<_> = self
            .jobs
            .values()
            .filter(|job| job.state == JobState::Scheduled && job.row().queue == *queue)
            .map(|job| job.candidate.clone())
            .collect();
        candidates.sort_by_key(|candidate| (candidate.row.scheduled_at, candidate.row.id));
        let listed = Listed { candidates: candidates.into(), paused: self.paused.contains(queue) };
        let earlier = self.earlier.entry(queue.clone()).or_default();
        earlier.push_back((now, listed.clone()));
        while earlier.front().is_some_and(|(at, _)| now.since(*at) > REMEMBER) {
            earlier.pop_front();
        }
        listed
    }

    /// What a listing said about `lag` ago.
    pub(crate) fn list_late(&self, queue: &QueueKey, before: Timestamp) -> Option<Listed> {
        let earlier = self.earlier.get(queue)?;
        earlier.iter().rev().find(|(at, _)| *at <= before).map(|(_, listed)| listed.clone())
    }

    pub(crate) fn reserve(
        &mut self,
        job: JobId,
        by: Stack,
        until: Timestamp,
        epoch: u64,
        now: Timestamp,
    ) -> bool {
        let free = self.is_free_for(job, by);
        let Some(job) = self.jobs.get_mut(&job).filter(|_| free && until > now) else {
            return false;
        };
        job.state = JobState::Reserved;
        job.reservation = Some(Reservation { by, until, epoch });
        true
    }

    /// The journal of that epoch knows nothing of what it reserved here.
    pub(crate) fn forgotten_by(&mut self, epoch: u64, job: JobId) {
        let held = self.jobs.get_mut(&job).and_then(|job| job.reservation.as_mut());
        if let Some(held) = held.filter(|held| held.by == Stack::Ours && held.epoch == epoch) {
            held.epoch = NOBODY;
        }
    }

    /// Whether this stack may reserve the job, or extend what it has.
    pub(crate) fn is_free_for(&self, job: JobId, by: Stack) -> bool {
        let Some(job) = self.jobs.get(&job) else { return false };
        match job.state {
            JobState::Scheduled => true,
            JobState::Reserved => job.reservation.is_some_and(|held| held.by == by),
            JobState::NotReady
            | JobState::Assigned
            | JobState::Accepted
            | JobState::Running
            | JobState::Canceling
            | JobState::TimingOut
            | JobState::Finished
            | JobState::Canceled
            | JobState::TimedOut
            | JobState::Expired
            | JobState::NeverRun
            | JobState::Unknown => false,
        }
    }

    /// The reservation that was to end now is over, unless it was extended.
    pub(crate) fn lapse(&mut self, job: JobId, now: Timestamp) -> bool {
        let Some(job) = self.jobs.get_mut(&job) else { return false };
        let over = job.reservation.is_some_and(|held| held.until <= now);
        if over && job.state == JobState::Reserved {
            job.state = JobState::Scheduled;
            job.reservation = None;
            return true;
        }
        false
    }

    pub(crate) fn mint(&self, job: JobId, lifetime: Duration, now: Timestamp) -> Option<Token> {
        let held = self.jobs.get(&job).filter(|job| job.state == JobState::Reserved)?.reservation?;
        (held.by == Stack::Ours).then(|| Token { job, until: now.plus(lifetime).min(held.until) })
    }

    pub(crate) fn may_acquire(&self, token: Token, now: Timestamp) -> bool {
        let Some(job) = self.jobs.get(&token.job) else { return false };
        let theirs = job.reservation.is_some_and(|held| held.by == Stack::Other);
        job.state.is_open() && !theirs && token.until > now
    }

    /// One winner: the job has to be open, and the token to be its own and alive.
    pub(crate) fn acquire(&mut self, token: Token, machine: u64, now: Timestamp) -> bool {
        let may = self.may_acquire(token, now);
        let Some(job) = self.jobs.get_mut(&token.job).filter(|_| may) else { return false };
        job.state = JobState::Accepted;
        job.reservation = None;
        job.acquired = Some((machine, now));
        job.acquires += 1;
        true
    }

    pub(crate) fn finish_by_stack(&mut self, job: JobId) -> bool {
        let Some(job) = self.jobs.get_mut(&job).filter(|job| job.state.is_open()) else {
            return false;
        };
        job.state = JobState::Finished;
        job.reservation = None;
        job.failed_by_us = true;
        true
    }

    /// Somebody presses the button.
    pub(crate) fn cancel(&mut self, job: JobId) -> Option<JobState> {
        let job = self.jobs.get_mut(&job)?;
        job.state = match job.state {
            JobState::NotReady | JobState::Scheduled | JobState::Reserved | JobState::Assigned => {
                JobState::Canceled
            }
            JobState::Accepted | JobState::Running => JobState::Canceling,
            state @ (JobState::Canceling
            | JobState::TimingOut
            | JobState::Finished
            | JobState::Canceled
            | JobState::TimedOut
            | JobState::Expired
            | JobState::NeverRun
            | JobState::Unknown) => state,
        };
        Some(job.state)
    }

    pub(crate) fn holds_job(&self, job: JobId, machine: u64) -> bool {
        self.jobs.get(&job).is_some_and(|job| {
            job.is_held_by_agent() && job.acquired.is_some_and(|(winner, _)| winner == machine)
        })
    }

    pub(crate) fn state(&self, job: JobId) -> JobState {
        self.jobs.get(&job).map_or(JobState::Unknown, |job| job.state)
    }

    pub(crate) fn set(&mut self, job: JobId, state: JobState) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.state = state;
        }
    }
}
