//! What comes next for a job in our hands: nothing, its end, its lease, its failure, or a machine.

use std::time::Duration;

use super::Round;
use super::machines::CALL_LOST;
use crate::job::Standing;
use crate::ledger::doubled;
use crate::{
    Action, Attempt, Create, Delete, Doom, Entry, Event, Failed, Failure, FailureClass, Finish,
    FinishOutcome, JobId, MachineName, Notice, Offer, Outcome, Reason, Request, Timestamp,
};

/// How long after a refusal a job that is still open is reserved again, or let go of.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);
/// How long after a token that is too short another is tried for.
const MINT_AGAIN: Duration = Duration::from_secs(2);
const FINISH_AGAIN_FIRST: Duration = Duration::from_secs(1);
const FINISH_AGAIN_MOST: Duration = Duration::from_secs(30);

const SOMEBODY_ELSE: &str = "somebody else has the job";

impl Round<'_> {
    pub(super) fn next(&mut self, entry: &Entry) {
        self.tell_assumed(entry);
        if entry.ended.is_some() {
            if self.mends(entry) {
                return;
            }
            return self.part(entry, "the job has ended and nothing of it is left");
        }
        if entry.acquired_at.is_some() || entry.stopping_at.is_some() {
            return;
        }
        let holding = || entry.attempts.iter().filter(|attempt| attempt.holds());
        if let Some(attempt) = holding().find(|attempt| attempt.failed.is_none()) {
            self.renew(entry);
            return self.under_way(entry, attempt);
        }
        if let Some(doom) = &entry.doom {
            return self.fail(entry, doom);
        }
        if let Some(doom) = self.doomed(entry) {
            return self.fact(Event::Doomed { job: entry.job, doom, at: self.now });
        }
        if let Some(attempt) = holding().find(|attempt| may_still_start(attempt)) {
            self.renew(entry);
            let reason = Reason::Removing { backend: attempt.backend.clone() };
            return self.hold(entry.job, &entry.queue, reason, None);
        }
        self.another(entry);
    }

    /// Lets go of the job once no machine of it is left.
    fn part(&mut self, entry: &Entry, why: &str) {
        if !entry.attempts.iter().any(Attempt::holds) {
            self.fact(Event::Forgotten { job: entry.job, at: self.now, why: why.into() });
        }
    }

    /// A machine is asked for or on its way up.
    fn under_way(&mut self, entry: &Entry, attempt: &Attempt) {
        let backend = attempt.backend.clone();
        let reason = match &attempt.outcome {
            Outcome::Made { .. } => {
                self.tell_made(entry, attempt);
                let note = self.machine_of(attempt).and_then(|machine| machine.note.clone());
                match attempt.connected_at {
                    Some(_) => Reason::AgentConnected { backend },
                    None => Reason::Starting { backend, note },
                }
            }
            Outcome::Asked { at } => {
                let lost = self.due(at.plus(CALL_LOST));
                let kept = if lost { self.repeat(entry, attempt) } else { None };
                kept.unwrap_or(Reason::Creating { backend })
            }
            Outcome::Again { not_before, failure } => {
                let due = self.due(*not_before);
                let kept = if due { self.repeat(entry, attempt) } else { None };
                kept.unwrap_or_else(|| match failure.clone() {
                    Some(failure) => Reason::CoolingDown { backend, failure, until: *not_before },
                    None => Reason::Creating { backend },
                })
            }
            Outcome::NotMade { .. } => Reason::Removing { backend },
        };
        self.tell_hold(entry.job, &entry.queue, &entry.told, &reason, None);
        self.hold(entry.job, &entry.queue, reason, None);
    }

    /// Sends the very same request again, or says what keeps it back.
    fn repeat(&mut self, entry: &Entry, attempt: &Attempt) -> Option<Reason> {
        let (Some(request), Some(offer)) = (&entry.request, &attempt.offer) else { return None };
        if let Some(reason) = self.standstill(&entry.queue) {
            return Some(reason);
        }
        if !self.room.take_create(&offer.backend) {
            return Some(Reason::CreateRate { backend: offer.backend.clone() });
        }
        self.create(entry, request, offer, attempt.number);
        None
    }

    /// Keeps what is ours while we work on it: from a third of the lease on, and together with
    /// others from a quarter on.
    fn renew(&mut self, entry: &Entry) {
        let Some(lease) = entry.lease else {
            return self.reserve_anew(entry);
        };
        let length = lease.until.since(lease.sent_at);
        let (at, from) = (lease.sent_at.plus(length / 3), lease.sent_at.plus(length / 4));
        self.reserve(&entry.queue, entry.job, at, from);
    }

    /// The job is not reserved by us, as far as we know. A refusal usually means that an agent has
    /// it, so Buildkite is asked before another try.
    fn reserve_anew(&mut self, entry: &Entry) {
        let at = match entry.refused_at.max(entry.unissued_at) {
            None => self.now,
            Some(refused_at) => {
                if self.word_or_ask(entry, refused_at) != Some(Standing::Open) {
                    return;
                }
                refused_at.plus(REFUSED_AGAIN)
            }
        };
        self.reserve(&entry.queue, entry.job, at, at);
    }

    fn doomed(&self, entry: &Entry) -> Option<Doom> {
        let Failed { failure, backend, .. } = entry.last_failure.as_deref()?;
        if failure.class == FailureClass::Rejected {
            let first = || Some(entry.request.as_ref()?.offers.first()?.backend.clone());
            let backend = backend.clone().or_else(first)?;
            return Some(Doom::Rejected { backend, failure: failure.clone() });
        }
        let most = self.queue_policy(&entry.queue)?.attempts;
        (entry.charged >= most)
            .then(|| Doom::AttemptsUsedUp { attempts: entry.charged, last: failure.clone() })
    }

    /// Tells Buildkite that the job has failed: at most once, as far as it answers.
    fn fail(&mut self, entry: &Entry, doom: &Doom) {
        self.hold(entry.job, &entry.queue, Reason::Failing, None);
        if entry.lease.is_none_or(|lease| lease.until <= self.now) {
            if let_go_at(entry).is_some_and(|at| self.due(at)) {
                return self.part(entry, SOMEBODY_ELSE);
            }
            return self.reserve_anew(entry);
        }
        self.renew(entry);
        match entry.finish {
            Finish::No => {}
            Finish::Intended { at, .. } => {
                let lost = self.due(at.plus(CALL_LOST));
                if !lost || self.word_or_ask(entry, at) != Some(Standing::Open) {
                    return;
                }
            }
            Finish::Ended { outcome: FinishOutcome::Taken, at, .. } => {
                self.word_or_ask(entry, at);
                return;
            }
            Finish::Ended {
                outcome: FinishOutcome::TooLate | FinishOutcome::Unknown,
                at,
                tries,
            } => {
                let pause = doubled(FINISH_AGAIN_FIRST, tries.saturating_sub(1), FINISH_AGAIN_MOST);
                let open = self.word_or_ask(entry, at) == Some(Standing::Open);
                if !open || !self.due(at.plus(pause)) {
                    return;
                }
            }
        }
        let not_before = self.queue(&entry.queue).map(|queue| queue.finish_not_before);
        if not_before.is_none_or(|at| self.due(at)) {
            let intent = Event::FinishIntended { job: entry.job, at: self.now };
            let detail = doom.detail(entry).into();
            let (queue, job) = (entry.queue.clone(), entry.job);
            self.step(vec![intent], Action::Finish { queue, job, detail });
        }
    }

    /// A machine is needed: the first, or another after one that came to nothing.
    fn another(&mut self, entry: &Entry) {
        let Some(request) = &entry.request else {
            return self.hold(entry.job, &entry.queue, Reason::LeaseLapsing, None);
        };
        let lost = entry.leased_until <= self.now;
        if let Some(at) = let_go_at(entry).filter(|_| lost) {
            if self.due(at) {
                return self.part(entry, SOMEBODY_ELSE);
            }
            return self.hold(entry.job, &entry.queue, Reason::Reserving, None);
        }
        // What may not begin just now takes no room from others, and keeps none from trying.
        let offer = match self.standstill(&entry.queue) {
            Some(reason) => Err(reason),
            None => self.place(&entry.queue, entry.job, entry.row.as_deref(), request).cloned(),
        };
        if let Ok(offer) = &offer {
            // Kept for it from the first reservation on: no more are reserved than can start.
            self.room.keep(self.policy, &entry.queue, request, offer);
            self.room.try_place(offer);
        }
        if entry.lease.is_none_or(|lease| lease.until <= self.now) {
            self.reserve_anew(entry);
            return self.hold(entry.job, &entry.queue, Reason::Reserving, None);
        }
        self.renew(entry);
        let reason = match self.not_yet(entry).and(offer) {
            Ok(offer) => {
                self.room.take_create(&offer.backend);
                self.create(entry, request, &offer, self.next_number(entry));
                Reason::Creating { backend: offer.backend }
            }
            Err(reason) => reason,
        };
        self.tell_hold(entry.job, &entry.queue, &entry.told, &reason, None);
        self.hold(entry.job, &entry.queue, reason, None);
    }

    /// What keeps the next machine back, wherever it is made.
    fn not_yet(&mut self, entry: &Entry) -> Result<(), Reason> {
        if let Some(reason) = self.standstill(&entry.queue) {
            return Err(reason);
        }
        self.first_looks()?;
        match &entry.last_failure {
            Some(_) if entry.attempts.is_empty() => Ok(()),
            Some(failed) => self.after_failure(entry, failed),
            None => self.after_release(entry),
        }
    }

    /// Buildkite took the job back from an agent: one of ours may have had it.
    fn after_release(&mut self, entry: &Entry) -> Result<(), Reason> {
        let Some(end) = ends(entry) else { return Ok(()) };
        match self.word_or_ask(entry, end) {
            Some(Standing::Open) => Ok(()),
            Some(_) | None => Err(Reason::Reserving),
        }
    }

    /// After a machine that came to nothing: not before some time has passed, and only on a word
    /// asked for after its end that nobody has the job.
    fn after_failure(&mut self, entry: &Entry, failed: &Failed) -> Result<(), Reason> {
        let most = self.policy.margins.backoff_most;
        let tries = u32::try_from(entry.attempts.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let pause = match failed.failure.class {
            // What refused it is left alone for longer each time; the job, elsewhere, is not.
            FailureClass::Capacity | FailureClass::Quota => self.policy.margins.backoff,
            FailureClass::Rate
            | FailureClass::Ambiguous
            | FailureClass::Rejected
            | FailureClass::Denied
            | FailureClass::EndedEarly
            | FailureClass::StartTimeout
            | FailureClass::Lost => doubled(self.policy.margins.backoff, tries, most),
        };
        let until = failed.at.plus(pause).plus(jitter(entry.job, entry.next_attempt(), pause));
        let waiting = Reason::BackingOff { failure: failed.failure.clone(), until };
        let over = ends(entry).map_or(failed.at, |end| end.max(failed.at));
        if !self.due(until) {
            self.tell_retrying(entry, failed);
            return Err(waiting);
        }
        match self.word_or_ask(entry, over) {
            Some(Standing::Open) => Ok(()),
            Some(_) | None => Err(waiting),
        }
    }

    /// One create, when its lease and its token are long enough for an agent to come of it.
    fn create(&mut self, entry: &Entry, request: &Request, offer: &Offer, attempt: u32) {
        let start_timeout = self.policy.start_timeout(&entry.queue);
        let needed = self.long_enough(start_timeout);
        if entry.lease.is_none_or(|lease| lease.until < needed) {
            return match entry.lease {
                Some(_) => self.reserve(&entry.queue, entry.job, self.now, self.now),
                None => self.reserve_anew(entry),
            };
        }
        let token = self.seen.tokens.get(&entry.job).filter(|token| token.attempt == attempt);
        let Some(token) = token else { return self.mint(&entry.queue, entry.job, attempt) };
        if token.expires_at < needed {
            return self.short_token(entry, attempt, token.issued_at);
        }
        let name = MachineName::of(&self.policy.name, entry.job, attempt);
        let known = entry.attempts.iter().find(|known| known.number == attempt);
        let deadline = known
            .and_then(|known| known.lifetime)
            .unwrap_or_else(|| self.policy.lifetime(&entry.queue, &request.shape));
        let intent = Event::CreateIntended {
            job: entry.job,
            attempt,
            name: name.clone(),
            offer: offer.clone(),
            lifetime: Some(deadline),
            dispatch: self.seen.dispatch.clone(),
            at: self.now,
        };
        let create = Create {
            job: entry.job,
            attempt,
            name,
            queue: entry.queue.clone(),
            offer: offer.clone(),
            shape: request.shape.clone(),
            tags: request.tags.clone(),
            deadline,
        };
        self.step(vec![intent], Action::Create(Box::new(create)));
    }

    /// The token does not live long enough. If it was short from the start, then so is the
    /// reservation in truth, whatever we asked for: it is extended first, and not in haste.
    fn short_token(&mut self, entry: &Entry, attempt: u32, issued_at: Timestamp) {
        let again = issued_at.plus(MINT_AGAIN);
        if entry.lease.is_some_and(|lease| lease.sent_at > issued_at) {
            self.mint(&entry.queue, entry.job, attempt);
        } else if self.due(again) {
            self.reserve(&entry.queue, entry.job, self.now, self.now);
        }
    }

    fn tell_made(&mut self, entry: &Entry, attempt: &Attempt) {
        let machine = attempt.offer.as_ref().map_or_else(
            || format!("{} vCPU, {}", attempt.cpu, attempt.memory),
            |offer| match &*offer.machine_type {
                "" => format!("{} vCPU, {}", offer.cpu, offer.memory),
                named => named.to_owned(),
            },
        );
        let notice = Notice::Made {
            name: attempt.name.clone(),
            backend: attempt.backend.clone(),
            machine: machine.into(),
            attempt: attempt.number,
            after: refused_before(entry),
        };
        self.tell(entry.job, &entry.queue, &entry.told, notice);
    }

    fn tell_retrying(&mut self, entry: &Entry, failed: &Failed) {
        let of = self.queue_policy(&entry.queue).map_or(entry.charged, |queue| queue.attempts);
        let attempt = entry.current().map_or(0, |attempt| attempt.number);
        let notice = Notice::Retrying { attempt, of, failure: failed.failure.clone() };
        self.tell(entry.job, &entry.queue, &entry.told, notice);
    }
}

/// What refused the machine before another offer gave it: that was tried at once, so that the
/// refusal was no wait and has not been told.
fn refused_before(entry: &Entry) -> Option<Failure> {
    let last = entry.last_failure.as_ref()?;
    let of_a_machine = |attempt: &Attempt| attempt.failed.as_ref() == Some(last);
    let untold = !entry.attempts.iter().any(of_a_machine);
    untold.then(|| last.failure.clone())
}

/// When the last of its machines ended, as far as that is known.
fn ends(entry: &Entry) -> Option<Timestamp> {
    let ends = entry.attempts.iter().filter_map(|attempt| match attempt.delete {
        Delete::Confirmed { at } => attempt.end_seen_at.or(Some(at)),
        // A listing may show that it is gone before its delete is answered.
        Delete::No | Delete::Intended { .. } | Delete::Refused { .. } => {
            attempt.end_seen_at.or(attempt.gone_at)
        }
    });
    ends.max()
}

/// Whether an agent may still come of a failed attempt's machine. A create that was not answered
/// may take effect late, also after its delete: then only a listing says that nothing came of it.
fn may_still_start(attempt: &Attempt) -> bool {
    let deleted = match (&attempt.delete, &attempt.outcome) {
        (Delete::Confirmed { at }, Outcome::Made { at: made_at }) => made_at <= at,
        (
            Delete::Confirmed { .. },
            Outcome::Asked { .. } | Outcome::Again { .. } | Outcome::NotMade { .. },
        ) => !attempt.doubtful,
        (Delete::No | Delete::Intended { .. } | Delete::Refused { .. }, _) => false,
    };
    attempt.ended.is_none() && !deleted
}

/// Up to half of `pause`, the same for the same attempt always, so that many do not come at once.
fn jitter(job: JobId, attempt: u32, pause: Duration) -> Duration {
    let (high, low) = job.0.as_u64_pair();
    let mixed = (high ^ low.rotate_left(17) ^ u64::from(attempt))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23);
    let share = u32::try_from(mixed % 1000).unwrap_or_default();
    pause.saturating_mul(share) / 2000
}

/// When to let go of a job that was refused, and of which we have no machine. To extend what we have
/// may be refused too: until its end nobody else can work on the job. A listing may show the job for
/// some time yet, so it is kept for a moment, and not reserved at every look.
fn let_go_at(entry: &Entry) -> Option<Timestamp> {
    let refused_at = entry.refused_at.filter(|_| entry.attempts.is_empty())?;
    Some(entry.leased_until.max(refused_at.plus(REFUSED_AGAIN)))
}
