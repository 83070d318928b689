//! Takes in one message: observations are replaced, outcomes become events. Nothing is decided.

use std::time::Duration;

use buildkite::Remedy;
use planner::{
    Answer, BackendName, CreateOutcome, Event, Failure, FailureClass, JobId, JobState, LookFailure,
    Origin, OriginSeen, QueueKey, QueueSeen, Timestamp, TokenSeen, Verdict,
};

use super::state::{Paces, State};
use crate::input::{Input, Listed, Machines, Outcome, Query, Refused};
use crate::sources::Pauses;

/// Buildkite's reservations are of whole seconds, and of an hour at most.
const LEASE_MOST_S: u64 = 3_600;
/// Calls fail for this long before Buildkite counts as out of reach: others may go through.
const OUTAGE_AFTER: Duration = Duration::from_secs(2);
/// Times are whole milliseconds. A listing that was begun in the one in which a create ended may
/// have been begun before; it must not count as one that was begun after.
const GRAIN: Duration = Duration::from_millis(1);
/// A batch that brought neither a token nor a refusal is not repeated at once.
const MINT_AGAIN: Duration = Duration::from_secs(1);

impl State {
    pub(crate) fn apply(&mut self, input: Input) {
        match input {
            Input::Registered { queue, stack } => {
                self.executor.add_stack(queue, stack);
                self.dirty = true;
            }
            Input::Listed { queue, started_at, listed } => self.listed(&queue, started_at, listed),
            Input::CallFailed { started_at, error } => {
                self.count("list", true);
                self.unreached(started_at, &error);
            }
            Input::Machines { backend, started_at, listed } => {
                self.machines(&backend, started_at, listed);
            }
            Input::Ended(outcome) => {
                self.executor.ended(&outcome);
                self.dirty = true;
                self.ended(outcome);
            }
            Input::JournalFull(full) => {
                self.dirty |= self.seen.journal_full != full;
                self.seen.journal_full = full;
            }
            Input::Query(query) => self.answer(query),
            Input::Fatal(error) => self.fatal = Some(error),
        }
    }

    fn listed(&mut self, queue: &QueueKey, started_at: Timestamp, listed: Listed) {
        self.reached(started_at);
        self.count("list", false);
        let seen = self.seen.queues.entry(queue.clone()).or_default();
        let same = std::sync::Arc::ptr_eq(&seen.candidates, &listed.candidates)
            && seen.paused == listed.paused
            && seen.listed_at.is_some();
        seen.listed_at = Some(started_at);
        seen.paused = listed.paused;
        seen.candidates = listed.candidates;
        if !same && !seen.origins.is_empty() {
            let listed: std::collections::BTreeSet<JobId> =
                seen.candidates.iter().map(|candidate| candidate.row.id).collect();
            seen.origins.retain(|job, _| listed.contains(job));
        }
        // The same foreign jobs as a moment ago are no news.
        let ours = seen.candidates.iter().any(|candidate| match candidate.verdict {
            Verdict::Ours(_) | Verdict::Invalid(_) | Verdict::Undecided { .. } => true,
            Verdict::Foreign(_) => false,
        });
        self.dirty |= ours || !same;
    }

    fn machines(
        &mut self,
        backend: &BackendName,
        started_at: Timestamp,
        listed: Result<Machines, Failure>,
    ) {
        let busy = self.ledger.entries().next().is_some();
        let seen = self.seen.backends.entry(backend.clone()).or_default();
        match listed {
            Ok(machines) if machines.complete => {
                let same = seen.listed_at.is_some()
                    && seen.failing.is_none()
                    && seen.machines == machines.seen;
                self.dirty |= busy || !same || !machines.seen.is_empty();
                seen.listed_at = Some(started_at);
                seen.machines = machines.seen;
                seen.failing = None;
            }
            // What it lacks is unknown, not gone: the rest of the last full one stays.
            Ok(machines) => {
                seen.machines.extend(machines.seen);
                seen.failing = Some(Failure {
                    class: FailureClass::Ambiguous,
                    words: "a part of its machines cannot be read (the log says which)".into(),
                    retry_after: None,
                    shortage: None,
                });
                self.dirty = true;
            }
            Err(failure) => {
                self.dirty |= seen.failing.is_none();
                seen.failing = Some(failure);
            }
        }
    }

    fn ended(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Asked { queue, jobs, asked_at, states, failed } => {
                self.count("ask", failed.is_some());
                self.asked(&jobs, asked_at, states, failed.is_none());
                self.call_ended(&queue, asked_at, failed.as_ref(), |pace| &mut pace.ask, ask);
            }
            Outcome::Looked { queue, job, started_at, found } => {
                self.looked(&queue, job, started_at, found);
            }
            Outcome::Reserved { queue, sent_at, lease, reserved, not_reserved, failed, .. } => {
                self.count("reserve", failed.is_some());
                let length = Duration::from_secs(lease.as_secs().clamp(1, LEASE_MOST_S));
                for job in reserved {
                    let until = sent_at.plus(length);
                    self.record(Event::Reserved { job, sent_at, until });
                }
                for job in not_reserved {
                    self.executor.vault().drop_job(job);
                    self.record(Event::NotReserved { job, sent_at });
                }
                let failed = failed.as_ref();
                self.call_ended(&queue, sent_at, failed, |pace| &mut pace.reserve, reserve);
            }
            Outcome::Minted { queue, jobs, sent_at, lifetime, issued, not_issued, failed } => {
                self.count("mint", failed.is_some());
                let missing = issued.len() + not_issued.len() < jobs.len();
                for (job, attempt, secret) in issued {
                    self.keep_token(job, attempt, (sent_at, lifetime), secret);
                }
                for job in not_issued {
                    self.record(Event::NotIssued { job, at: sent_at });
                }
                self.call_ended(&queue, sent_at, failed.as_ref(), |pace| &mut pace.mint, mint);
                if missing && failed.is_none() {
                    let again = self.clock.now().plus(MINT_AGAIN);
                    if let Some(seen) = self.seen.queues.get_mut(&queue) {
                        seen.mint_not_before = seen.mint_not_before.max(again);
                    }
                }
            }
            Outcome::Created { backend, job, attempt, outcome } => {
                self.count("create", matches!(outcome, CreateOutcome::Failed(_)));
                if outcome == CreateOutcome::Made {
                    self.executor.vault().drop_job(job);
                }
                let at = self.clock.now().plus(GRAIN);
                self.record(Event::CreateEnded { job, attempt, outcome, at });
                self.executor.poke(&backend);
            }
            Outcome::Deleted { backend, job, attempt, ok, retry_after } => {
                self.count("delete", !ok);
                let at = self.clock.now();
                self.record(Event::DeleteEnded { job, attempt, ok, retry_after, at });
                self.executor.poke(&backend);
            }
            Outcome::Finished { queue, job, started_at, outcome, failed } => {
                self.count("finish", failed.is_some());
                self.record(Event::FinishEnded { job, outcome, at: self.clock.now() });
                let failed = failed.as_ref();
                self.call_ended(&queue, started_at, failed, |pace| &mut pace.finish, finish);
            }
            Outcome::RecordRead { job, asked_at, found } => {
                self.record_read(job, asked_at, found);
            }
            Outcome::Retried { job, outcome, failed } => {
                self.retried(job, outcome, failed.as_ref());
            }
        }
    }

    /// Keeps the words on jobs in our hands. A job that a whole answer does not mention is unknown
    /// from now on; what is known to have ended stays so.
    fn asked(
        &mut self,
        jobs: &[JobId],
        asked_at: Timestamp,
        states: Vec<(JobId, JobState)>,
        whole: bool,
    ) {
        let mut answers: std::collections::BTreeMap<JobId, JobState> = states.into_iter().collect();
        for job in jobs {
            let state = match answers.remove(job) {
                Some(state) => state,
                None if whole => JobState::Unknown,
                None => continue,
            };
            if self.ledger.entry(*job).is_none() {
                continue;
            }
            let known = self.seen.answers.get(job);
            let newer =
                known.is_none_or(|known| known.asked_at <= asked_at && !known.state.is_terminal());
            if newer {
                self.seen.answers.insert(*job, Answer { state, asked_at });
            }
        }
    }

    /// Keeps where the job's build comes from, and has its row assessed with it.
    fn looked(
        &mut self,
        queue: &QueueKey,
        job: JobId,
        started_at: Timestamp,
        found: Result<Origin, (LookFailure, Refused)>,
    ) {
        self.count("look", found.is_err());
        // A refusal is an answer, and the next job may have another.
        let failed = found.as_ref().err();
        let failed = failed.filter(|(failure, _)| *failure != LookFailure::Refused);
        let failed = failed.map(|(_, refused)| refused.clone());
        self.call_ended(queue, started_at, failed.as_ref(), |pace| &mut pace.look, look);
        let unreachable = self.seen.buildkite.failing_since.is_some();
        let now = self.clock.now();
        let Some(seen) = self.seen.queues.get_mut(queue) else { return };
        let known = seen.origins.entry(job).or_default();
        *known = match found {
            Ok(origin) => OriginSeen::Known(origin),
            Err((LookFailure::Failed, refused)) if unreachable => {
                known.after_failure(LookFailure::Unreachable, &refused.words, now)
            }
            Err((failure, refused)) => known.after_failure(failure, &refused.words, now),
        };
        if let OriginSeen::Denied { words } = known {
            tracing::warn!(%job, %queue, error = %words, "Buildkite does not tell where the job's build comes from; policies that may match it count");
        }
        if let (true, Some(source)) = (known.is_settled(), self.origins.get(queue)) {
            // The source has gone with the program.
            let _ = source.send((job, known.clone()));
        }
    }

    /// A token is good for its lifetime and the reservation's rest. Both are reckoned by our own
    /// clock, from when the request was sent: the server's may show another time.
    fn keep_token(
        &mut self,
        job: JobId,
        attempt: u32,
        (issued_at, lifetime): (Timestamp, Duration),
        secret: secrecy::SecretString,
    ) {
        let Some(lease) = self.ledger.entry(job).and_then(|entry| entry.lease) else { return };
        let expires_at = issued_at.plus(lifetime).min(lease.until);
        self.executor.vault().put(job, TokenSeen { attempt, issued_at, expires_at }, secret);
    }

    fn call_ended(
        &mut self,
        queue: &QueueKey,
        started_at: Timestamp,
        failed: Option<&Refused>,
        pauses: impl Fn(&mut Paces) -> &mut Pauses,
        not_before: impl Fn(&mut QueueSeen) -> &mut Timestamp,
    ) {
        let paces = self.paces.entry(queue.clone()).or_default();
        let Some(refused) = failed else {
            pauses(paces).reset();
            return self.reached(started_at);
        };
        let until = self.clock.now().plus(pauses(paces).next(refused.retry_after));
        if let Some(seen) = self.seen.queues.get_mut(queue) {
            let not_before = not_before(seen);
            *not_before = until.max(*not_before);
        }
        tracing::warn!(%queue, error = refused.words, "a call to Buildkite failed");
        self.unreached(started_at, refused);
    }

    /// A call that was begun then went through.
    fn reached(&mut self, started_at: Timestamp) {
        self.reached_at = self.reached_at.max(started_at);
        if self.unwelcome.take().is_some() {
            tracing::info!("Buildkite lets us in again");
        }
        if self.seen.buildkite.failing_since.take().is_some() {
            self.seen.buildkite.reachable_since = self.clock.now();
            self.dirty = true;
            tracing::info!("Buildkite is reached");
        }
    }

    fn unreached(&mut self, started_at: Timestamp, refused: &Refused) {
        if refused.remedy == Remedy::Unauthorized && self.unwelcome.is_none() {
            tracing::error!(
                error = refused.words,
                "Buildkite does not know our token any more; what runs goes on, nothing else can"
            );
            self.unwelcome = Some((refused.words.clone(), self.clock.now()));
        }
        let useless = !refused.answered || refused.remedy == Remedy::Unauthorized;
        let long = self.clock.now().since(self.reached_at) >= OUTAGE_AFTER;
        if useless && long && self.seen.buildkite.failing_since.is_none() {
            self.seen.buildkite.failing_since = Some(self.reached_at.max(started_at));
            self.dirty = true;
            tracing::warn!(error = refused.words, "Buildkite cannot be reached");
        }
    }

    pub(super) fn count(&mut self, call: &'static str, failed: bool) {
        *self.counts.calls.entry(call).or_default() += 1;
        if failed {
            *self.counts.calls_failed.entry(call).or_default() += 1;
        }
    }

    fn answer(&mut self, query: Query) {
        // Whoever asked may have left; then nobody needs the answer.
        match query {
            Query::Ping(reply) => {
                let _ = reply.send(());
            }
            Query::Ready(reply) => {
                let _ = reply.send(self.missing());
            }
            Query::Snapshot(reply) => {
                let _ = reply.send(Box::new(self.snapshot()));
            }
            Query::Job(job, reply) => {
                let _ = reply.send(self.explain(job));
            }
            Query::Token(job, attempt, reply) => {
                let _ = reply.send(self.token_for(job, attempt));
            }
            Query::History(job, reply) => self.journal.ask_history(job, reply),
            Query::Recent(most, reply) => self.journal.ask_recent(most, reply),
            Query::Drain(draining, reply) => {
                if self.seen.draining != draining {
                    self.seen.draining = draining;
                    self.draining.send_replace(draining);
                    self.dirty = true;
                    let what = if draining { "takes nothing new" } else { "takes jobs again" };
                    tracing::info!("told by an operator: {what}");
                }
                let _ = reply.send(());
            }
        }
    }
}

fn look(seen: &mut QueueSeen) -> &mut Timestamp {
    &mut seen.look_not_before
}

fn ask(seen: &mut QueueSeen) -> &mut Timestamp {
    &mut seen.ask_not_before
}

fn reserve(seen: &mut QueueSeen) -> &mut Timestamp {
    &mut seen.reserve_not_before
}

fn mint(seen: &mut QueueSeen) -> &mut Timestamp {
    &mut seen.mint_not_before
}

fn finish(seen: &mut QueueSeen) -> &mut Timestamp {
    &mut seen.finish_not_before
}
