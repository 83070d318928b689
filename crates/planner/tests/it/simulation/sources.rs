//! How a shell comes to know the world: listings of queues and backends, and whether Buildkite can
//! be reached. Each carries the moment at which its request started, also when it is late or old.

use std::sync::Arc;
use std::time::Duration;

use planner::{
    BackendName, Candidate, Failure, FailureClass, JobId, LookFailure, Origin, OriginSeen,
    QueueKey, Request, Timestamp, Verdict,
};

use super::backends::Listing;
use super::buildkite::Listed;
use super::calls::{Call, Effect};
use super::faults::{Brings, Kind, Side};
use super::scene::ASKING;
use super::world::{Happening, Sim, ToShell};

/// What a source has for its shell.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    Queue { queue: QueueKey, listed_at: Timestamp, listed: Option<Listed>, brings: Brings },
    Backend { backend: BackendName, listed_at: Timestamp, listing: Option<Shown> },
}

/// What a backend shows of its machines.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    listing: Listing,
    /// Whether that is all of them; the backend says so.
    complete: bool,
}

/// An outage shorter than this is a hiccup: nobody's time is stopped for it.
const HICCUP: Duration = Duration::from_secs(3);

impl Sim<'_> {
    pub(crate) fn list_queue(&mut self, index: usize, queue: QueueKey) {
        let route = self.route(&Side::Buildkite);
        let now = self.now;
        let fresh = self.buildkite.list(&queue, now);
        let idle = fresh.candidates.is_empty() && self.shells[index].in_flight.is_empty();
        let late = self.looms(Kind::StaleQueue, 300).then(|| self.dice.millis(300, 6_000));
        let old = late.and_then(|lag| self.buildkite.list_late(&queue, now.minus(lag)));
        if old.as_ref().is_some_and(|old| old.candidates.len() != fresh.candidates.len()) {
            self.faults.count(Kind::StaleQueue);
        }
        let half = self.strikes(Kind::HalfListing, 300);
        let whole = route.brings == Brings::Word && !half;
        let listed = whole.then(|| old.unwrap_or(fresh));
        let again = self.scene.pace.queue[usize::from(idle)];
        self.shell_soon(index, again, ToShell::ListQueue(queue.clone()));
        let brings = route.brings;
        let listed_at = self.clock(index);
        let delivery = Delivery::Queue { queue, listed_at, listed, brings };
        self.carry(index, route.returns, delivery);
    }

    /// `regular`: the next regular look follows.
    pub(crate) fn list_backend(&mut self, index: usize, backend: BackendName, regular: bool) {
        if !regular {
            self.shells[index].looking.remove(&backend);
        }
        let route = self.route(&Side::Backend(backend.clone()));
        let now = self.now;
        let lags =
            self.policy.backends.get(&backend).is_some_and(|policy| !policy.listing_lag.is_zero());
        let late =
            (lags && self.looms(Kind::StaleMachines, 300)).then(|| self.dice.millis(500, 6_000));
        let half = self.strikes(Kind::HalfListing, 300);
        let place = self.places.entry(backend.clone()).or_default();
        let fresh = place.list(now);
        let busy = !fresh.is_empty()
            || self.shells[index].ledger.entries().any(|entry| !entry.attempts.is_empty());
        let old = late.and_then(|lag| place.list_late(now, lag));
        if old.as_ref().is_some_and(|old| !old.keys().eq(fresh.keys())) {
            self.faults.count(Kind::StaleMachines);
        }
        let whole = route.brings == Brings::Word && !half;
        let listing = whole.then(|| self.shown(old.unwrap_or(fresh)));
        if regular {
            let again = self.scene.pace.backend[usize::from(!busy)];
            self.shell_soon(index, again, ToShell::ListBackend(backend.clone()));
        }
        let listed_at = self.clock(index);
        self.carry(index, route.returns, Delivery::Backend { backend, listed_at, listing });
    }

    /// All of it, or a part that says that it is one.
    fn shown(&mut self, mut listing: Listing) -> Shown {
        let complete = listing.is_empty() || !self.strikes(Kind::PartialListing, 300);
        if !complete {
            listing.retain(|_, _| self.dice.chance(500));
        }
        Shown { listing, complete }
    }

    fn carry(&mut self, index: usize, span: Duration, delivery: Delivery) {
        let life = self.shells[index].life;
        let what = ToShell::Deliver(Box::new(delivery));
        self.after(span, Happening::Shell(index, life, what));
    }

    /// Something changed at a backend: those who watch it look soon, unless the word is lost.
    pub(crate) fn nudge(&mut self, backend: &BackendName) {
        if !self.scene.pace.watched {
            return;
        }
        for index in 0..self.shells.len() {
            let lost = self.strikes(Kind::HalfListing, 500);
            let shell = &mut self.shells[index];
            if shell.alive && !lost && shell.looking.insert(backend.clone()) {
                let soon = self.dice.between(10, 60);
                self.shell_soon(index, soon, ToShell::Look(backend.clone()));
            }
        }
    }

    pub(crate) fn deliver(&mut self, index: usize, delivery: Delivery) {
        match delivery {
            Delivery::Queue { queue, listed_at, listed, brings } => {
                self.heard(index, brings);
                self.queue_listed(index, queue, listed_at, listed);
            }
            Delivery::Backend { backend, listed_at, listing } => {
                self.backend_listed(index, &backend, listed_at, listing);
            }
        }
    }

    fn queue_listed(
        &mut self,
        index: usize,
        queue: QueueKey,
        listed_at: Timestamp,
        listed: Option<Listed>,
    ) {
        let Some(listed) = listed else { return };
        let now = self.now;
        let candidates = self.decided(index, &queue, &listed.candidates);
        let shell = &mut self.shells[index];
        let seen = shell.seen.queues.entry(queue).or_default();
        if seen.listed_at.is_some_and(|at| at >= listed_at) {
            return;
        }
        let first = seen.listed_at.is_none();
        let same = seen.paused == listed.paused
            && seen.candidates.len() == candidates.len()
            && seen.candidates.iter().zip(candidates.iter()).all(|(a, b)| a.row == b.row);
        seen.listed_at = Some(listed_at);
        seen.paused = listed.paused;
        seen.candidates = candidates;
        let stale_round = now.since(shell.last_round) >= Duration::from_secs(1);
        if first || !same || stale_round {
            self.want_round(index, now);
        }
    }

    /// Of some jobs Buildkite never tells, of others it may not.
    pub(crate) fn look(&mut self, job: JobId) -> Effect {
        if self.strikes(Kind::Denied, 500) {
            return Effect::Looked(Some(LookFailure::Refused));
        }
        let always = self.faults.has(Kind::AnswerOmits) && job.0.as_bytes()[0].is_multiple_of(8);
        Effect::Looked(always.then_some(LookFailure::Failed))
    }

    pub(crate) fn look_returned(&mut self, call: &Call, queue: &QueueKey, job: JobId) {
        let failure = match (call.heard(), call.brings) {
            (Some(Effect::Looked(failure)), _) => *failure,
            (_, Brings::TooMany) => Some(LookFailure::Unreachable),
            (_, _) => Some(LookFailure::Failed),
        };
        self.looked(call.shell, queue, job, failure);
    }

    /// What a look at a job has brought; its row is assessed anew with it.
    fn looked(&mut self, index: usize, queue: &QueueKey, job: JobId, failure: Option<LookFailure>) {
        let now = self.clock(index);
        let shell = &mut self.shells[index];
        let seen = shell.seen.queues.entry(queue.clone()).or_default();
        let origin = seen.origins.entry(job).or_default();
        *origin = match failure {
            None => OriginSeen::Known(Origin::default()),
            Some(failure) => origin.after_failure(failure, "no environment", now),
        };
        let candidates = Arc::clone(&seen.candidates);
        let candidates = self.decided(index, queue, &candidates);
        let seen = self.shells[index].seen.queues.entry(queue.clone()).or_default();
        seen.candidates = candidates;
    }

    /// The listing with the verdicts on those rows that could not be judged without a look.
    fn decided(
        &self,
        index: usize,
        queue: &QueueKey,
        candidates: &[Arc<Candidate>],
    ) -> Arc<[Arc<Candidate>]> {
        let seen = self.shells[index].seen.queues.get(queue);
        let decided = |candidate: &Arc<Candidate>| {
            let id = candidate.row.id;
            let hidden = self.buildkite.jobs.get(&id).and_then(|job| job.hidden.clone())?;
            let request = match seen?.origins.get(&id)? {
                OriginSeen::Unknown { .. } => return None,
                OriginSeen::Known(_) => hidden,
                OriginSeen::Denied { words } => Arc::new(Request {
                    policies: vec![ASKING],
                    assumed: Some(words.clone()),
                    ..Request::clone(&hidden)
                }),
            };
            let (row, verdict) = (Arc::clone(&candidate.row), Verdict::Ours(request));
            Some(Arc::new(Candidate { row, verdict }))
        };
        candidates.iter().map(|known| decided(known).unwrap_or_else(|| Arc::clone(known))).collect()
    }

    fn backend_listed(
        &mut self,
        index: usize,
        backend: &BackendName,
        listed_at: Timestamp,
        shown: Option<Shown>,
    ) {
        let now = self.now;
        let shell = &mut self.shells[index];
        let seen = shell.seen.backends.entry(backend.clone()).or_default();
        let failing = |words: &str| {
            let class = FailureClass::Ambiguous;
            Some(Failure { class, words: words.into(), retry_after: None, shortage: None })
        };
        let Some(Shown { listing, complete }) = shown else {
            seen.failing = failing("the listing did not come to its end");
            return self.want_round(index, now);
        };
        if shell.looked_at.get(backend).is_some_and(|at| *at >= listed_at) {
            return;
        }
        shell.looked_at.insert(backend.clone(), listed_at);
        shell.delivered_at = now;
        if complete {
            seen.failing = None;
            seen.listed_at = Some(listed_at);
            seen.machines = listing;
        } else {
            // What it lacks is unknown, not gone: the rest of the last whole one stays.
            seen.failing = failing("a part of its machines cannot be read");
            seen.machines.extend(listing);
        }
        self.want_round(index, now);
        self.make_known(index, backend);
    }

    /// What a listing has shown to a process counts for it from now on, whoever asked for it.
    fn make_known(&mut self, index: usize, backend: &BackendName) {
        if self.two_installations() || self.shells[index].is_blind(backend) {
            // What the other one makes is not ours to count, nor what a part of a listing shows
            // before there was a whole one.
            return;
        }
        let (now, epoch) = (self.now, self.shells[index].epoch);
        for machine in self.places.entry(backend.clone()).or_default().machines.values_mut() {
            let key = (machine.seen.job, machine.seen.attempt);
            let shown = self.shells[index].seen.backends[backend].machines.contains_key(&key);
            if shown && machine.epoch != epoch && machine.gone_at.is_none() {
                machine.epoch = epoch;
                machine.known_since = now;
                machine.adopted = true;
            }
        }
    }

    /// Whether Buildkite can be reached, as the shell makes of it.
    pub(crate) fn heard(&mut self, index: usize, brings: Brings) {
        let now = self.clock(index);
        let buildkite = &mut self.shells[index].seen.buildkite;
        match (brings, buildkite.failing_since) {
            (Brings::Word | Brings::TooMany, Some(since)) => {
                buildkite.failing_since = None;
                if now.since(since) >= HICCUP || since == self.shells[index].seen.started_at {
                    self.shells[index].seen.buildkite.reachable_since = now;
                }
                self.want_round(index, self.now);
            }
            (Brings::Nothing | Brings::ServerError, None) => {
                buildkite.failing_since = Some(now);
                self.want_round(index, self.now);
            }
            (Brings::Word | Brings::TooMany, None)
            | (Brings::Nothing | Brings::ServerError, Some(_)) => {}
        }
    }
}
