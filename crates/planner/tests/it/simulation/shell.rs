//! What the real shell does, without choices: it keeps ledger, journal and observation, runs a
//! round when something changed or is due, writes down and then does. How it starts and ends is
//! told in `lives`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use planner::{
    Action, BackendName, CreateOutcome, Event, FinishOutcome, Hold, JobId, Ledger, LossStep,
    Observation, QueueKey, RetryOutcome, Step, Timestamp, TokenSeen, WorstCost,
};

use super::backends::Order;
use super::buildkite::Token;
use super::calls::Call;
use super::clocks::Skew;
use super::faults::{CrashAt, Kind, Point};
use super::invariants::Promise;
use super::key::{Key, keys_of, without};
use super::scene::Pace;
use super::world::{Happening, Sim, ToShell};

#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) instance: Arc<str>,
    pub(crate) alive: bool,
    pub(crate) frozen_until: Option<Timestamp>,
    /// Grows with each start: what was meant for an earlier life is not heard.
    pub(crate) life: u32,
    /// When this life began.
    pub(crate) born_at: Timestamp,
    /// Which journal it goes by; another one after a loss.
    pub(crate) epoch: u64,
    /// How far the host's clock is off, and the process's own in this life.
    pub(crate) wall: Skew,
    pub(crate) clock: Skew,
    /// What the clock showed when the journal was last written to.
    pub(crate) written_at: Timestamp,
    /// The same, had the journal taken all that was to be written.
    kept_at: Timestamp,
    /// What the clock showed when the journal was begun.
    pub(crate) journal_since: Option<Timestamp>,
    pub(crate) ledger: Ledger,
    pub(crate) journal: Vec<Event>,
    /// The journal takes no writes, whether that was noticed or not.
    pub(crate) disk_full: bool,
    /// What happened meanwhile.
    pub(crate) unwritten: Vec<Event>,
    pub(crate) seen: Observation,
    pub(crate) in_flight: BTreeSet<Key>,
    /// The tokens themselves, by job, with the attempt that each is for.
    pub(crate) purse: BTreeMap<JobId, (u32, Token)>,
    pub(crate) holds: BTreeMap<JobId, Hold>,
    pub(crate) failures: BTreeMap<(QueueKey, u8), u32>,
    pub(crate) looking: BTreeSet<BackendName>,
    /// When the newest listing was begun that came from each backend, whole or not.
    pub(crate) looked_at: BTreeMap<BackendName, Timestamp>,
    pub(crate) allowance: (Timestamp, u32),
    pub(crate) last_round: Timestamp,
    /// When a listing of a backend last came.
    pub(crate) delivered_at: Timestamp,
    /// What it last said that its crash would cost at most.
    pub(crate) worst_cost: WorstCost,
    pub(crate) round_at: Option<Timestamp>,
    pub(crate) rounds: u64,
    pub(crate) restarting: bool,
    /// What becomes of an event on its way into the ledger: itself, but for a planted bug.
    pub(crate) hears: fn(Event) -> Option<Event>,
}

impl Shell {
    pub(crate) fn new(instance: &str) -> Self {
        Self {
            instance: instance.into(),
            alive: false,
            frozen_until: None,
            life: 0,
            born_at: Timestamp::ZERO,
            epoch: 1,
            wall: Skew::default(),
            clock: Skew::default(),
            written_at: Timestamp::ZERO,
            kept_at: Timestamp::ZERO,
            journal_since: None,
            ledger: Ledger::default(),
            journal: Vec::new(),
            disk_full: false,
            unwritten: Vec::new(),
            seen: Observation::default(),
            in_flight: BTreeSet::new(),
            purse: BTreeMap::new(),
            holds: BTreeMap::new(),
            failures: BTreeMap::new(),
            looking: BTreeSet::new(),
            looked_at: BTreeMap::new(),
            allowance: (Timestamp::ZERO, 0),
            last_round: Timestamp::ZERO,
            delivered_at: Timestamp::ZERO,
            worst_cost: WorstCost::default(),
            round_at: None,
            rounds: 0,
            restarting: false,
            hears: Some,
        }
    }

    pub(crate) fn is_frozen(&self, now: Timestamp) -> bool {
        self.frozen_until.is_some_and(|until| until > now)
    }

    /// Whether the backend has not been listed yet.
    pub(crate) fn is_blind(&self, backend: &BackendName) -> bool {
        self.seen.backends.get(backend).is_none_or(|seen| seen.listed_at.is_none())
    }

    pub(crate) fn record(&mut self, event: Event) {
        let Some(event) = (self.hears)(event) else { return };
        self.unwritten.push(event.clone());
        if !self.disk_full {
            self.write_down();
        }
        self.ledger.record(event);
    }

    /// When the journal was begun; now, where there is none yet.
    pub(crate) fn begin_journal(&mut self, shown: Timestamp) -> Timestamp {
        if let Some(since) = self.journal_since {
            return since;
        }
        self.written_at = shown;
        *self.journal_since.insert(shown)
    }

    /// What is written down bears the moment at which that is done.
    pub(crate) fn stamp(&mut self, shown: Timestamp) {
        self.kept_at = shown;
        if !self.disk_full {
            self.written_at = shown;
        }
    }

    /// The journal takes writes again, and gets what was kept for it, with its time.
    pub(crate) fn catch_up(&mut self) {
        if !self.unwritten.is_empty() {
            self.written_at = self.written_at.max(self.kept_at);
        }
        self.write_down();
    }

    /// Jobs that a full disk kept out of the journal: a crash forgets them, as a lost journal does.
    pub(crate) fn known_to_memory_alone(&self) -> BTreeSet<JobId> {
        let mut jobs: BTreeSet<_> = self.unwritten.iter().map(Event::job).collect();
        for event in &self.journal {
            jobs.remove(&event.job());
        }
        jobs
    }

    /// What is done with leaves the journal, with all that was written of it but what outlives it.
    fn write_down(&mut self) {
        for event in std::mem::take(&mut self.unwritten) {
            if let Event::Forgotten { job, .. } = event {
                self.journal.retain(|event| event.job() != job || event.outlives_its_job());
            } else {
                self.journal.push(event);
            }
        }
    }
}

impl Sim<'_> {
    pub(crate) fn shell_soon(&mut self, index: usize, millis: u64, what: ToShell) {
        let life = self.shells[index].life;
        self.after(Duration::from_millis(millis), Happening::Shell(index, life, what));
    }

    pub(crate) fn reach_shell(&mut self, index: usize, life: u32, what: ToShell) {
        let shell = &mut self.shells[index];
        if !shell.alive || shell.life != life {
            return;
        }
        if let Some(until) = shell.frozen_until.filter(|until| *until > self.now) {
            return self.after(until.since(self.now), Happening::Shell(index, life, what));
        }
        match what {
            ToShell::Round => self.round(index),
            ToShell::ListQueue(queue) => self.list_queue(index, queue),
            ToShell::ListBackend(backend) => self.list_backend(index, backend, true),
            ToShell::Look(backend) => self.list_backend(index, backend, false),
            ToShell::Deliver(delivery) => self.deliver(index, *delivery),
        }
    }

    pub(crate) fn want_round(&mut self, index: usize, at: Timestamp) {
        let between = self.scene.pace.between_rounds;
        let shell = &mut self.shells[index];
        let at = at.max(shell.last_round.plus(between)).max(self.now);
        if shell.round_at.is_some_and(|planned| planned <= at) {
            return;
        }
        shell.round_at = Some(at);
        let (life, span) = (shell.life, at.since(self.now));
        self.after(span, Happening::Shell(index, life, ToShell::Round));
    }

    fn round(&mut self, index: usize) {
        let now = self.now;
        let shell = &mut self.shells[index];
        if shell.round_at.is_none_or(|at| at > now) {
            return;
        }
        shell.round_at = None;
        shell.last_round = now;
        shell.rounds += 1;
        shell.seen.dispatch = format!("{index}-{}", shell.rounds).into();
        shell.refill(&self.scene.pace, now);
        for seen in shell.seen.backends.values_mut() {
            seen.first_listed_at = seen.first_listed_at.or(seen.listed_at);
        }
        let shown = shell.clock.shows(now);
        let plan = (self.decide)(&shell.ledger, &shell.seen, &self.policy, shown);
        let shell = &mut self.shells[index];
        let wake_at = plan.wake_at.map(|at| shell.clock.when(at));
        shell.holds = plan.holds;
        self.check_alarms(index, &plan.alarms);
        let mut changed = !plan.facts.is_empty();
        for fact in plan.facts {
            self.tell(Some(fact.job()), || format!("fact: {fact:?}"));
            self.check_begun(index, &fact);
            self.shells[index].record(fact);
        }
        let wrote = changed || plan.steps.iter().any(|step| !step.intents.is_empty());
        if wrote {
            // Also where the process dies in the midst of this round.
            self.shells[index].stamp(shown);
        }
        for step in plan.steps {
            changed |= self.perform(index, step);
            if !self.shells[index].alive {
                return;
            }
        }
        // What was written shows that the disk is full.
        let shell = &mut self.shells[index];
        shell.seen.journal_full |= wrote && shell.disk_full;
        self.check_round(changed);
        self.check_told(index);
        self.shells[index].tidy();
        self.number(index);
        if changed {
            self.want_round(index, now);
        }
        if let Some(at) = wake_at {
            self.want_round(index, at);
        }
    }

    /// Carries one step out: written down, then sent. What is in flight already is left out.
    /// False: there was nothing to do.
    fn perform(&mut self, index: usize, step: Step) -> bool {
        let Step { mut intents, mut action } = step;
        let shell = &self.shells[index];
        let (busy, free): (Vec<Key>, Vec<Key>) =
            keys_of(&action).into_iter().partition(|key| shell.in_flight.contains(key));
        if free.is_empty() {
            return false;
        }
        let left_out: BTreeSet<JobId> = busy.iter().map(Key::job).collect();
        without(&mut action, &left_out);
        intents.retain(|event| !left_out.contains(&event.job()));
        self.steps += 1;
        if self.faults.cancel_at == Some(self.steps) {
            self.canceled(free[0].job());
        }
        let crash = self.crash_here();
        if crash == Some(Point::Journal) {
            self.crash(index);
            return true;
        }
        let changed = !intents.is_empty();
        let begun: BTreeSet<JobId> = intents.iter().map(Event::job).collect();
        for event in intents {
            self.tell(Some(event.job()), || format!("written down: {event:?}"));
            self.check_begun(index, &event);
            self.shells[index].record(event);
        }
        if crash == Some(Point::Call) {
            self.crash(index);
            return true;
        }
        if self.shells[index].disk_full && !self.goes_unwritten(index, &mut action, &begun) {
            return changed;
        }
        let free = keys_of(&action);
        let returns = self.send(index, action, free);
        if crash == Some(Point::Reply) {
            let span = returns.unwrap_or_default() / 2;
            self.after(span, Happening::Crash(index));
        }
        changed
    }

    /// Whether the step is taken though it could not be written down: what begins something is
    /// not, as if its call had come to nothing.
    fn goes_unwritten(
        &mut self,
        index: usize,
        action: &mut Action,
        begun: &BTreeSet<JobId>,
    ) -> bool {
        let at = self.clock(index);
        let shell = &mut self.shells[index];
        match action {
            Action::Create(create) => {
                let (job, attempt) = (create.job, create.attempt);
                let outcome = CreateOutcome::NotSent;
                shell.record(Event::CreateEnded { job, attempt, outcome, at });
                false
            }
            Action::Finish { job, .. } => {
                let outcome = FinishOutcome::Unknown;
                shell.record(Event::FinishEnded { job: *job, outcome, at });
                false
            }
            Action::Retry { job } => {
                let loss = LossStep::RetryEnded { outcome: RetryOutcome::Unknown };
                shell.record(Event::Loss { job: *job, loss, at });
                false
            }
            Action::Reserve { .. } => {
                for job in begun {
                    shell.record(Event::NotReserved { job: *job, sent_at: at });
                }
                without(action, begun);
                !keys_of(action).is_empty()
            }
            Action::Ask { .. }
            | Action::Look { .. }
            | Action::ReadRecord { .. }
            | Action::Mint { .. }
            | Action::Delete { .. }
            | Action::Notify { .. } => true,
        }
    }

    /// Whether the process dies at this step: on purpose, or by bad luck.
    fn crash_here(&mut self) -> Option<Point> {
        let here = |crash: &CrashAt| crash.step == self.steps && !self.faults.is_calm();
        let planned = self.faults.crash_at.filter(here);
        if let Some(crash) = planned {
            return Some(crash.point);
        }
        if self.faults.crashes_left == 0 || !self.strikes(Kind::Crash, 30) {
            return None;
        }
        self.faults.crashes_left -= 1;
        let points = [Point::Journal, Point::Call, Point::Reply];
        Some(points[self.dice.index(points.len())])
    }

    /// The call goes out. None: it did not, and the caller knows at once.
    fn send(&mut self, index: usize, action: Action, keys: Vec<Key>) -> Option<Duration> {
        let order = match &action {
            Action::Create(create) => {
                let Some(order) = self.order(index, create) else {
                    self.not_sent(index, create.job, create.attempt);
                    return None;
                };
                Some(order)
            }
            Action::Ask { .. }
            | Action::Look { .. }
            | Action::Reserve { .. }
            | Action::Mint { .. }
            | Action::Delete { .. }
            | Action::Finish { .. }
            | Action::ReadRecord { .. }
            | Action::Retry { .. }
            | Action::Notify { .. } => None,
        };
        let call = Call::new(index, &self.shells[index], self.now, action, keys, order);
        Some(self.dispatch(call))
    }

    fn order(&mut self, index: usize, create: &planner::Create) -> Option<Order> {
        let shell = &mut self.shells[index];
        let (attempt, token) = *shell.purse.get(&create.job)?;
        let told = shell.seen.tokens.get(&create.job)?;
        if attempt != create.attempt || told.expires_at <= shell.clock.shows(self.now) {
            return None;
        }
        let paced = self.scene.pace.paced;
        let over = create.offer.backend.as_str() == paced && shell.allowance.1 == 0;
        if create.offer.backend.as_str() == paced {
            shell.allowance.1 = shell.allowance.1.saturating_sub(1);
        }
        let order = Order {
            create: create.clone(),
            dispatch: shell.seen.dispatch.clone(),
            instance: shell.instance.clone(),
            token,
            epoch: shell.epoch,
        };
        if over {
            let text = format!("{} is sent above the rate of {paced}", create.name);
            self.broke(Promise::Bounded, Some(create.job), text);
        }
        Some(order)
    }

    fn not_sent(&mut self, index: usize, job: JobId, attempt: u32) {
        self.tell(Some(job), || format!("create {attempt} is not sent: no token for it"));
        let at = self.clock(index);
        let outcome = CreateOutcome::NotSent;
        self.shells[index].record(Event::CreateEnded { job, attempt, outcome, at });
        self.want_round(index, self.now);
    }
}

impl Shell {
    /// The rate budget fills up.
    fn refill(&mut self, pace: &Pace, now: Timestamp) {
        let [most, a_second] = pace.creates;
        let seconds = u32::try_from(now.since(self.allowance.0).as_secs()).unwrap_or(most);
        if seconds > 0 {
            let more = seconds.saturating_mul(a_second);
            self.allowance = (now, self.allowance.1.saturating_add(more).min(most));
        }
        let left = self.allowance.1;
        self.seen.backends.entry(pace.paced.into()).or_default().creates_left = Some(left);
    }

    /// What is of no use any more is dropped.
    fn tidy(&mut self) {
        let ledger = &self.ledger;
        self.purse.retain(|job, _| ledger.entry(*job).is_some());
        self.seen.tokens.retain(|job, _| ledger.entry(*job).is_some());
        self.seen.answers.retain(|job, _| ledger.entry(*job).is_some());
    }

    /// A token whose reservation is gone is dropped. One that has been used stays here, unlike in
    /// the real shell: that no second machine is made with it is the core's to keep.
    pub(crate) fn drop_spent(&mut self, event: &Event) {
        if let Event::NotReserved { job, .. } = event {
            self.purse.remove(job);
            self.seen.tokens.remove(job);
        }
    }

    /// A token is good for its lifetime and the reservation's rest, both reckoned by our own clock
    /// from when the request was sent: Buildkite's may show another time.
    pub(crate) fn keep_token(
        &mut self,
        token: Token,
        attempt: u32,
        asked: Timestamp,
        lifetime: Duration,
    ) {
        let lease = self.ledger.entry(token.job).and_then(|entry| entry.lease);
        let Some(lease) = lease else { return };
        self.purse.insert(token.job, (attempt, token));
        let expires_at = asked.plus(lifetime).min(lease.until);
        let seen = TokenSeen { attempt, issued_at: asked, expires_at };
        self.seen.tokens.insert(token.job, seen);
    }
}
