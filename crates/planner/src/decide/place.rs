//! Where the next machine for a job may be made now, or why nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Round;
use super::trials::Trials;
use super::usage::{Amount, Usage};
use crate::ledger::{Used, sum, used};
use crate::{
    BackendName, BackendPolicy, BackendSeen, Bound, Failure, JobId, JobRow, Ledger, Limits,
    MachineSeen, Observation, Offer, Policy, QueueKey, Reason, Request, Scope, Timestamp,
};

/// How long a backend that is not listed any more is still trusted with new machines.
const LISTED_WITHIN: Duration = Duration::from_secs(60);

/// What is left of limits and rates in this round. A limit that a job did not fit into is closed to
/// those that come after it, so that a large job is not passed by small ones for ever.
pub(super) struct Room<'a> {
    pub usage: Usage,
    creates: BTreeMap<&'a BackendName, u32>,
    closed: BTreeSet<Scope>,
    /// What the job that is being placed would close, if it has to wait.
    closing: Vec<Scope>,
    trials: Trials<'a>,
}

impl<'a> Room<'a> {
    /// What live and promised machines leave.
    pub(super) fn of(
        ledger: &'a Ledger,
        seen: &'a Observation,
        policy: &Policy,
        now: Timestamp,
    ) -> Self {
        let mut usage = Usage::default();
        for (queue, spent) in &ledger.spent {
            usage.spend(queue, spent.left(now));
        }
        // Thousands of machines share a few queues and backends: summed first, then entered.
        let mut alike: BTreeMap<(&QueueKey, &BackendName), (Amount, Used)> = BTreeMap::new();
        for entry in ledger.entries.values() {
            let rules = entry.request.as_ref().map_or(&[][..], |request| &request.policies);
            for attempt in entry.attempts.iter().filter(|attempt| attempt.holds()) {
                let price = attempt.offer.as_ref().map_or(0, |offer| offer.price_micros_per_hour);
                let amount = Amount::machine(attempt.cpu, attempt.memory, price);
                let known = alike.entry((&entry.queue, &attempt.backend)).or_default();
                *known = (known.0.plus(amount), sum(known.1, used(attempt, now)));
                charge_rules(&mut usage, policy, rules, amount);
            }
        }
        for ((queue, backend), (amount, spent)) in alike {
            usage.spend(queue, spent);
            charge(&mut usage, queue, backend, amount);
        }
        let creates = seen
            .backends
            .iter()
            .filter_map(|(name, backend)| Some((name, backend.creates_left?)))
            .collect();
        let trials = Trials::of(ledger, seen);
        Self { usage, creates, closed: BTreeSet::new(), closing: Vec::new(), trials }
    }

    /// Counts a machine that is to be made in limits, and in the rate at which they are made.
    pub(super) fn promise(
        &mut self,
        policy: &Policy,
        queue: &QueueKey,
        request: &Request,
        offer: &Offer,
    ) {
        self.keep(policy, queue, request, offer);
        self.try_place(offer);
        self.take_create(&offer.backend);
    }

    /// Counts a machine that is to be made in limits only: not in this round, perhaps.
    pub(super) fn keep(
        &mut self,
        policy: &Policy,
        queue: &QueueKey,
        request: &Request,
        offer: &Offer,
    ) {
        let amount = offer_amount(offer);
        charge(&mut self.usage, queue, &offer.backend, amount);
        charge_rules(&mut self.usage, policy, &request.policies, amount);
    }

    /// Whoever tries a place that refused others keeps these out until it is known.
    pub(super) fn try_place(&mut self, offer: &Offer) {
        self.trials.begin(offer);
    }

    /// Counts a machine that this round finds: the ledger has it from the next round on.
    pub(super) fn found(&mut self, backend: &BackendName, machine: &MachineSeen) {
        let amount = Amount::machine(machine.cpu, machine.memory, 0);
        charge(&mut self.usage, &machine.queue, backend, amount);
    }

    /// Uses up one create of a backend's budget; false where none is left. A repeated create is
    /// one more call too.
    pub(super) fn take_create(&mut self, backend: &BackendName) -> bool {
        let Some(left) = self.creates.get_mut(backend) else { return true };
        let any = *left > 0;
        *left = left.saturating_sub(1);
        any
    }
}

fn charge(usage: &mut Usage, queue: &QueueKey, backend: &BackendName, amount: Amount) {
    usage.add(&Scope::All, amount);
    usage.add(&Scope::Queue(queue.clone()), amount);
    usage.add(&Scope::Backend(backend.clone()), amount);
}

fn charge_rules(usage: &mut Usage, policy: &Policy, rules: &[usize], amount: Amount) {
    for rule in rules {
        let limited = policy.rules.get(*rule).is_some_and(|rule| rule.limits != Limits::default());
        if limited {
            usage.add(&Scope::Policy(*rule), amount);
        }
    }
}

fn offer_amount(offer: &Offer) -> Amount {
    Amount::machine(offer.cpu, offer.memory, offer.price_micros_per_hour)
}

impl<'a> Round<'a> {
    /// The first offer that can be taken up now; else why the best of them can not. After a loss
    /// they are tried in another order.
    pub(super) fn place<'r>(
        &mut self,
        queue: &QueueKey,
        job: JobId,
        row: Option<&JobRow>,
        request: &'r Request,
    ) -> Result<&'r Offer, Reason> {
        match self.after_loss_of(job, row, request) {
            Some(offers) => self.first_open(queue, request, offers.into_iter()),
            None => self.first_open(queue, request, request.offers.iter()),
        }
    }

    fn first_open<'r>(
        &mut self,
        queue: &QueueKey,
        request: &'r Request,
        offers: impl Iterator<Item = &'r Offer> + Clone,
    ) -> Result<&'r Offer, Reason> {
        let Some(best) = offers.clone().next() else {
            let words = "the configuration names no backend for the job any more".into();
            return Err(Reason::BackendUnreachable { backend: "none".into(), words });
        };
        let shared = self.shared(queue, request);
        self.room.closing.clear();
        let open = self.open_one(&shared, best, offers);
        if open.is_err() {
            // Only what waits closes anything.
            self.room.closed.extend(self.room.closing.drain(..));
        }
        open
    }

    fn open_one<'r>(
        &mut self,
        shared: &[(Scope, Limits)],
        best: &Offer,
        offers: impl Iterator<Item = &'r Offer>,
    ) -> Result<&'r Offer, Reason> {
        for (scope, limits) in shared {
            self.fits(scope.clone(), limits, offer_amount(best))?;
        }
        let mut reason = None;
        for (index, offer) in offers.enumerate() {
            let mut open = self.offer_open(offer);
            if index > 0 {
                open = open.and_then(|()| self.shared_room(shared, offer));
            }
            match open {
                Ok(()) => return Ok(offer),
                Err(why) => reason = reason.or(Some(why)),
            }
        }
        Err(reason.expect("there is a best offer, and it was not open"))
    }

    /// A dearer or larger offer than the best may be too much where the best is not. That is no
    /// reason to keep others out, so it closes nothing.
    fn shared_room(&self, shared: &[(Scope, Limits)], offer: &Offer) -> Result<(), Reason> {
        for (scope, limits) in shared {
            if let Some(limit) = self.room.usage.broken(scope, limits, offer_amount(offer)) {
                return Err(Reason::Limit { scope: scope.clone(), limit });
            }
        }
        Ok(())
    }

    /// The limits that count every offer alike.
    fn shared(&self, queue: &QueueKey, request: &Request) -> Vec<(Scope, Limits)> {
        let policy = self.policy;
        let mut shared = vec![(Scope::All, policy.limits)];
        if let Some(queue_policy) = policy.queues.get(queue) {
            shared.push((Scope::Queue(queue.clone()), queue_policy.limits));
        }
        for index in &request.policies {
            if let Some(rule) = policy.rules.get(*index) {
                shared.push((Scope::Policy(*index), rule.limits));
            }
        }
        shared
    }

    /// Whether one more fits. Where it has to wait, the limits that it does not fit into are closed
    /// to those who come later; not by what is larger than the whole limit, since that was lowered: it waits for ever.
    fn fits(&mut self, scope: Scope, limits: &Limits, more: Amount) -> Result<(), Reason> {
        let broken = self.room.usage.broken(&scope, limits, more);
        let closed = self.room.closed.contains(&scope);
        let Some(limit) = broken.or(closed.then_some(Bound::Turn)) else { return Ok(()) };
        if more.over(limits).is_none() {
            self.room.closing.push(scope.clone());
        }
        Err(Reason::Limit { scope, limit })
    }

    fn offer_open(&mut self, offer: &Offer) -> Result<(), Reason> {
        let backend = offer.backend.clone();
        let Some(policy) = self.policy.backends.get(&backend) else {
            let words = "it is no longer in the configuration".into();
            return Err(Reason::BackendUnreachable { backend, words });
        };
        let Some(seen) = self.listed(&backend) else {
            return Err(self.unlisted(backend));
        };
        if let Some(cooling) = self.ledger.cooling_at(offer)
            && (!self.due(cooling.until) || self.room.trials.waits(offer))
        {
            let (failure, until) = (cooling.failure.clone(), cooling.until);
            return Err(Reason::CoolingDown { backend, failure, until });
        }
        if seen.creates_left.is_some() && self.room.creates.get(&backend) == Some(&0) {
            return Err(Reason::CreateRate { backend });
        }
        self.backend_fits(backend, policy, offer)
    }

    fn backend_fits(
        &mut self,
        backend: BackendName,
        policy: &BackendPolicy,
        offer: &Offer,
    ) -> Result<(), Reason> {
        let more = offer_amount(offer);
        let scope = Scope::Backend(backend);
        self.fits(scope.clone(), &policy.capacity, more)?;
        self.fits(scope, &policy.limits, more)
    }

    /// The backend, if it has been listed and still can be.
    fn listed(&self, name: &BackendName) -> Option<&'a BackendSeen> {
        let seen = self.backend(name)?;
        let listed_at = seen.listed_at?;
        (self.now.since(listed_at) <= LISTED_WITHIN).then_some(seen)
    }

    pub(super) fn unlisted(&self, backend: BackendName) -> Reason {
        let failing = self.backend(&backend).and_then(|seen| seen.failing.as_ref());
        let words = failing.map_or_else(
            || "its machines have not been listed yet".into(),
            |failure: &Failure| failure.words.clone(),
        );
        Reason::BackendUnreachable { backend, words }
    }

    /// Why nothing at all is begun now, if so.
    pub(super) fn standstill(&self, queue: &QueueKey) -> Option<Reason> {
        if self.seen.journal_full {
            return Some(Reason::JournalFull);
        }
        if let Some(instance) = self.other_installation.clone() {
            return Some(Reason::TwoInstallations { instance });
        }
        let paused = self.queue(queue).is_some_and(|queue| queue.paused);
        paused.then_some(Reason::QueuePaused)
    }

    /// When a lease or a token is long enough for a machine that is made now.
    pub(super) fn long_enough(&self, start_timeout: Duration) -> Timestamp {
        self.now.plus(start_timeout).plus(self.policy.margins.lease / 4)
    }
}
