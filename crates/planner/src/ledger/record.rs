//! How each event changes the ledger. Recording an event twice changes nothing more than once, but
//! for counts of tries.

use std::sync::Arc;
use std::time::Duration;

use super::{MOMENTS_MOST, REMEMBER_LEFT, used};
use crate::{
    Adoption, Attempt, BackendName, CreateOutcome, Delete, Doom, Entry, Event, Failed, Failure,
    FailureClass, Finish, JobId, JobRow, JobState, Lease, Ledger, Loss, LossStep, MachineName,
    Moment, Notice, Offer, Outcome, Request, Retry, RetryOutcome, Timestamp, Told,
};

/// First waits before the same request is repeated; doubled each time, up to the longest.
const REPEAT_FIRST: Duration = Duration::from_millis(500);
const REPEAT_MOST: Duration = Duration::from_secs(5);
/// So many jobs that we let go of are remembered without a look at how long ago that was.
const LEFT_FEW: usize = 64;

impl Ledger {
    /// Takes one event in. Events about jobs that the ledger does not hold change nothing, but for
    /// those that begin one.
    pub fn record(&mut self, event: Event) {
        let (job, moment) = (event.job(), event.moment());
        match event {
            Event::Taken { job, row, request, doom, at } => self.take(job, row, request, doom, at),
            Event::Adopted(adoption) => self.adopt(adoption),
            Event::Forgotten { job, at, .. } => self.forget(job, at),
            Event::Told { job, notice, at } => self.tell(job, notice, at),
            Event::Loss { job, loss, at } => self.lose(job, loss, at),
            Event::CreateEnded { job, attempt, outcome, at } => {
                self.create_ended(job, attempt, outcome, at);
            }
            Event::CreateIntended { attempt, name, offer, lifetime, dispatch, at, .. } => {
                let new = Attempt::intended(attempt, name, offer, lifetime, dispatch, at);
                self.with(job, |entry| entry.create_intended(new, at));
            }
            Event::AttemptFailed { attempt, failure, charged, at, .. } => {
                self.attempt_failed(job, attempt, failure, charged, at);
            }
            Event::Reserved { sent_at, until, .. } => self.with(job, |entry| {
                entry.lease = Some(Lease { sent_at, until });
                entry.leased_until = until;
                entry.refused_at = None;
            }),
            Event::NotReserved { sent_at, .. } => self.with(job, |entry| {
                entry.lease = None;
                entry.refused_at = Some(sent_at);
            }),
            // The job may still be ours: only another reservation, or its refusal, tells.
            Event::NotIssued { at, .. } => self.with(job, |entry| {
                entry.lease = None;
                entry.unissued_at = Some(at);
            }),
            Event::Acquired { at, .. } => self.with(job, |entry| entry.acquired(at)),
            Event::Released { .. } => self.with(job, Entry::released),
            Event::JobStopping { at, .. } => {
                self.with(job, |entry| entry.stopping_at = entry.stopping_at.or(Some(at)));
            }
            Event::JobEnded { state, at, .. } => self.with(job, |entry| entry.job_ended(state, at)),
            Event::Doomed { doom, .. } => self.with(job, |entry| entry.doom = Some(Box::new(doom))),
            Event::FinishIntended { at, .. } => self.with(job, |entry| {
                entry.finish = Finish::Intended { at, tries: entry.finish.tries() + 1 };
            }),
            Event::FinishEnded { outcome, at, .. } => self.with(job, |entry| {
                entry.finish = Finish::Ended { outcome, at, tries: entry.finish.tries() };
            }),
            Event::Connected { attempt, at, .. } => {
                self.with_attempt(job, attempt, |attempt| {
                    attempt.connected_at = attempt.connected_at.or(Some(at));
                });
                self.warm(job, attempt);
            }
            Event::MachineEnded { attempt, end, at, .. } => {
                self.with_attempt(job, attempt, |attempt| {
                    attempt.ended.get_or_insert(end);
                    attempt.end_seen_at.get_or_insert(at);
                });
            }
            Event::DeleteIntended { attempt, at, .. } => {
                self.with_attempt(job, attempt, |attempt| {
                    attempt.delete = Delete::Intended { at, tries: attempt.delete.tries() + 1 };
                });
            }
            Event::DeleteEnded { attempt, ok, retry_after, at, .. } => {
                self.with_attempt(job, attempt, |attempt| attempt.delete_ended(ok, retry_after, at))
            }
            Event::Gone { attempt, at, .. } => self.gone(job, attempt, at),
        }
        if let Some(moment) = moment {
            let moment = self.texts.share(moment);
            self.with(job, |entry| entry.remember(moment));
        }
    }

    fn with(&mut self, job: JobId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(&job) {
            change(entry);
        }
    }

    fn with_attempt(&mut self, job: JobId, number: u32, change: impl FnOnce(&mut Attempt)) {
        self.with(job, |entry| {
            if let Some(attempt) = entry.attempts.iter_mut().find(|known| known.number == number) {
                change(attempt);
            }
        });
    }

    /// What is to be recorded when a process takes a ledger over: whatever was under way then has
    /// an outcome that nobody knows.
    #[must_use]
    pub fn resume(&self, now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        for entry in self.entries.values() {
            let job = entry.job;
            for attempt in &entry.attempts {
                if attempt.call_at.is_some() {
                    let failure = Failure {
                        class: FailureClass::Ambiguous,
                        words: "Jitney was restarted before the answer came".into(),
                        retry_after: Some(Duration::ZERO),
                        shortage: None,
                    };
                    let outcome = CreateOutcome::Failed(failure);
                    let attempt = attempt.number;
                    events.push(Event::CreateEnded { job, attempt, outcome, at: now });
                }
                if matches!(attempt.delete, Delete::Intended { .. }) {
                    let attempt = attempt.number;
                    let (ok, retry_after) = (false, None);
                    events.push(Event::DeleteEnded { job, attempt, ok, retry_after, at: now });
                }
            }
            if matches!(entry.finish, Finish::Intended { .. }) {
                let outcome = crate::FinishOutcome::Unknown;
                events.push(Event::FinishEnded { job, outcome, at: now });
            }
            if matches!(entry.loss.as_deref(), Some(Loss { retry: Retry::Intended { .. }, .. })) {
                let loss = LossStep::RetryEnded { outcome: RetryOutcome::Unknown };
                events.push(Event::Loss { job, loss, at: now });
            }
        }
        events
    }

    fn take(
        &mut self,
        job: JobId,
        row: Arc<JobRow>,
        request: Option<Arc<Request>>,
        doom: Option<Doom>,
        at: Timestamp,
    ) {
        let told = self.told.remove(&job).unwrap_or_default();
        let new = || Box::new(Entry::new(job, row.queue.clone(), at, told));
        let entry = self.entries.entry(job).or_insert_with(new);
        entry.row = Some(row);
        entry.predecessor = entry.predecessor.or(self.retries.predecessor(job));
        entry.request = request;
        entry.doom = doom.map(Box::new).or(entry.doom.take());
        entry.refused_at = None;
    }

    fn adopt(&mut self, seen: Adoption) {
        let told = self.told.remove(&seen.job).unwrap_or_default();
        let new = || Box::new(Entry::new(seen.job, seen.queue.clone(), seen.at, told));
        let entry = self.entries.entry(seen.job).or_insert_with(new);
        if let Some(known) = entry.attempts.iter_mut().find(|known| known.number == seen.attempt) {
            // It was thought to be gone, and is not; or another was made under its name. If this
            // one has ended, the listing says so.
            known.gone_at = None;
            known.ended = None;
            known.end_seen_at = None;
            known.delete = Delete::No;
            known.outcome = Outcome::Made { at: seen.at };
            return;
        }
        let mut attempt = Attempt::new(seen.attempt, seen.name, seen.backend, seen.created_at);
        attempt.cpu = seen.cpu;
        attempt.memory = seen.memory;
        attempt.dispatch = seen.dispatch;
        attempt.outcome = Outcome::Made { at: seen.at };
        entry.attempts.reserve_exact(1);
        entry.attempts.push(attempt);
        entry.attempts.sort_by_key(|attempt| attempt.number);
    }

    fn gone(&mut self, job: JobId, number: u32, at: Timestamp) {
        let Some(entry) = self.entries.get_mut(&job) else { return };
        let known = entry.attempts.iter_mut().find(|known| known.number == number);
        let Some(attempt) = known.filter(|attempt| attempt.holds()) else { return };
        attempt.gone_at = Some(at);
        self.spent.entry(entry.queue.clone()).or_default().add(used(attempt, at), at);
    }

    fn forget(&mut self, job: JobId, at: Timestamp) {
        if let Some(entry) = self.entries.remove(&job) {
            self.retries.outlive(&entry, at);
        }
        self.told.remove(&job);
        self.left.insert(job, at);
        if self.left.len() >= self.left_most {
            self.left.retain(|_, left_at| at.since(*left_at) < REMEMBER_LEFT);
            // Twice as many before the next look, so that it costs little for each.
            self.left_most = LEFT_FEW.max(self.left.len() * 2);
        }
    }

    fn tell(&mut self, job: JobId, notice: Notice, at: Timestamp) {
        let told = match self.entries.get_mut(&job) {
            Some(entry) => &mut entry.told,
            None => self.told.entry(job).or_default(),
        };
        told.count = told.count.saturating_add(1);
        match &notice {
            Notice::Made { attempt, .. } => told.made = told.made.max(*attempt),
            Notice::Retrying { attempt, .. } => told.retried = told.retried.max(*attempt),
            Notice::CutShort { attempt, .. } => told.cut_short = told.cut_short.max(*attempt),
            Notice::Assumed { .. } => told.assumed = true,
            Notice::Replaced { .. } | Notice::NotRetried { .. } => told.loss = true,
            Notice::Waiting { reason, .. } => told.hear(reason),
        }
        told.last = Some((notice, at));
    }

    fn create_ended(&mut self, job: JobId, number: u32, outcome: CreateOutcome, at: Timestamp) {
        let Some(entry) = self.entries.get_mut(&job) else { return };
        let Some(attempt) = entry.attempts.iter_mut().find(|known| known.number == number) else {
            return;
        };
        let asked_at = attempt.call_at.unwrap_or(attempt.intended_at);
        if outcome != CreateOutcome::Listed {
            attempt.call_at = None;
        }
        if matches!(attempt.outcome, Outcome::Made { .. }) {
            // A listing was faster. Names are used once, so no answer can take that back.
            return;
        }
        let failure = match outcome {
            CreateOutcome::Made | CreateOutcome::Listed => {
                attempt.outcome = Outcome::Made { at };
                if !self.cooling.is_empty() {
                    let attempt = attempt.clone();
                    self.made(&attempt);
                }
                return;
            }
            CreateOutcome::NotSent => {
                attempt.outcome = Outcome::Again { not_before: at, failure: None };
                return;
            }
            CreateOutcome::Failed(failure) => failure,
        };
        let backend = Some(attempt.backend.clone());
        let failed = Failed { failure: failure.clone(), backend, at, charged: false };
        match failure.class {
            FailureClass::Ambiguous | FailureClass::Rate => {
                attempt.doubtful |= failure.class == FailureClass::Ambiguous;
                let pause = doubled(REPEAT_FIRST, attempt.tries.saturating_sub(1), REPEAT_MOST);
                let not_before = at.plus(failure.retry_after.unwrap_or(pause));
                attempt.outcome = Outcome::Again { not_before, failure: Some(failure) };
            }
            FailureClass::Capacity
            | FailureClass::Quota
            | FailureClass::Denied
            | FailureClass::Rejected
            | FailureClass::EndedEarly
            | FailureClass::StartTimeout
            | FailureClass::Lost => {
                let refused = attempt.clone();
                if attempt.doubtful {
                    attempt.outcome = Outcome::NotMade { at };
                    attempt.failed = Some(Box::new(failed.clone()));
                } else {
                    // There never was such a machine: its number is free.
                    entry.attempts.retain(|known| known.number != number);
                }
                entry.last_failure = Some(Box::new(failed));
                if failure.class != FailureClass::Rejected {
                    let request = entry.request.clone();
                    self.cool(&refused, request.as_deref(), failure, (asked_at, at), false);
                }
            }
        }
    }

    fn attempt_failed(
        &mut self,
        job: JobId,
        number: u32,
        failure: Failure,
        charged: bool,
        at: Timestamp,
    ) {
        let Some(entry) = self.entries.get_mut(&job) else { return };
        let attempt = entry.attempts.iter().find(|known| known.number == number);
        let Some(attempt) = attempt.filter(|attempt| attempt.failed.is_none()) else { return };
        let (refused, asked_at) = (attempt.clone(), attempt.intended_at);
        let request = entry.request.clone();
        entry.attempt_failed(number, failure.clone(), charged, at);
        match failure.class {
            // Its place has refused the machine, and will refuse others.
            FailureClass::Capacity | FailureClass::Quota | FailureClass::Denied => {
                self.cool(&refused, request.as_deref(), failure, (asked_at, at), true);
            }
            FailureClass::Rate
            | FailureClass::Ambiguous
            | FailureClass::Rejected
            | FailureClass::EndedEarly
            | FailureClass::StartTimeout
            | FailureClass::Lost => {}
        }
    }
}

impl Entry {
    fn acquired(&mut self, at: Timestamp) {
        self.acquired_at.get_or_insert(at);
        self.lease = None;
    }

    /// Nobody had the job after all, so nothing was lost with a machine.
    fn released(&mut self) {
        self.acquired_at = None;
        self.loss = None;
    }

    fn job_ended(&mut self, state: JobState, at: Timestamp) {
        self.ended.get_or_insert((state, at));
        self.lease = None;
    }

    fn create_intended(&mut self, new: Attempt, at: Timestamp) {
        let number = new.number;
        if !self.attempts.iter().any(|known| known.number == number) {
            // Most jobs have one attempt: no room for four is made.
            self.attempts.reserve_exact(1);
            self.attempts.push(new);
        }
        if let Some(attempt) = self.attempts.iter_mut().find(|known| known.number == number) {
            attempt.tries = attempt.tries.saturating_add(1);
            attempt.call_at = Some(at);
            attempt.outcome = Outcome::Asked { at };
        }
    }

    fn attempt_failed(&mut self, number: u32, failure: Failure, charged: bool, at: Timestamp) {
        let Some(attempt) = self.attempts.iter_mut().find(|known| known.number == number) else {
            return;
        };
        if attempt.failed.is_some() {
            return;
        }
        let failed = Failed { failure, backend: Some(attempt.backend.clone()), at, charged };
        attempt.failed = Some(Box::new(failed.clone()));
        self.last_failure = Some(Box::new(failed));
        self.charged += u32::from(charged);
    }

    fn remember(&mut self, moment: Moment) {
        if self.moments.last().is_some_and(|last| last.what == moment.what) {
            return;
        }
        if self.moments.len() >= MOMENTS_MOST {
            // The beginning of a story and its end say most.
            self.moments.remove(MOMENTS_MOST / 2);
        }
        if self.moments.len() == self.moments.capacity() {
            // Ten are the story of most jobs, for which a doubling would make room for sixteen.
            self.moments.reserve_exact(2);
        }
        self.moments.push(moment);
    }
}

impl Attempt {
    fn delete_ended(&mut self, ok: bool, retry_after: Option<Duration>, at: Timestamp) {
        self.delete = if ok {
            Delete::Confirmed { at }
        } else {
            Delete::Refused { at, tries: self.delete.tries(), retry_after }
        };
    }
}

impl Entry {
    fn new(job: JobId, queue: crate::QueueKey, at: Timestamp, told: Told) -> Self {
        Self {
            job,
            queue,
            row: None,
            request: None,
            taken_at: at,
            lease: None,
            leased_until: Timestamp::ZERO,
            refused_at: None,
            unissued_at: None,
            attempts: Vec::new(),
            charged: 0,
            last_failure: None,
            acquired_at: None,
            stopping_at: None,
            ended: None,
            doom: None,
            finish: Finish::No,
            loss: None,
            predecessor: None,
            told,
            moments: Vec::new(),
        }
    }
}

impl Attempt {
    fn intended(
        number: u32,
        name: MachineName,
        offer: Offer,
        lifetime: Option<Duration>,
        dispatch: Arc<str>,
        at: Timestamp,
    ) -> Self {
        let backend = offer.backend.clone();
        Self {
            cpu: offer.cpu,
            memory: offer.memory,
            offer: Some(offer),
            lifetime,
            dispatch,
            ..Self::new(number, name, backend, at)
        }
    }

    fn new(number: u32, name: MachineName, backend: BackendName, at: Timestamp) -> Self {
        Self {
            number,
            name,
            backend,
            cpu: crate::Cpu::default(),
            memory: crate::Bytes::default(),
            offer: None,
            lifetime: None,
            dispatch: "".into(),
            intended_at: at,
            outcome: Outcome::Asked { at },
            call_at: None,
            tries: 0,
            doubtful: false,
            connected_at: None,
            ended: None,
            end_seen_at: None,
            failed: None,
            delete: Delete::No,
            gone_at: None,
        }
    }
}

/// `first` doubled `times` times, at most `most`.
pub(crate) fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times.min(16)).unwrap_or(u32::MAX)).min(most)
}
