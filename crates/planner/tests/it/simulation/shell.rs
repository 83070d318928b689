//! What the real shell will do, without choices: it keeps ledger, journal and observation, runs a
//! round when something changed or is due, writes down and then does. It can crash, freeze, lose
//! its journal, and be one of two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use planner::{
    Action, BackendName, BuildkiteSeen, CreateOutcome, Event, Hold, JobId, Ledger, Observation,
    QueueKey, Step, Timestamp, TokenSeen,
};

use super::backends::Order;
use super::buildkite::Token;
use super::calls::{Call, Key, keys_of, without};
use super::faults::{Kind, Point};
use super::invariants::Promise;
use super::world::{Happening, Sim, ToShell};

#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) instance: Arc<str>,
    pub(crate) alive: bool,
    pub(crate) frozen_until: Option<Timestamp>,
    /// Grows with each start: what was meant for an earlier life is not heard.
    pub(crate) life: u32,
    /// Which journal it goes by; another one after a loss.
    pub(crate) epoch: u64,
    pub(crate) ledger: Ledger,
    pub(crate) journal: Vec<Event>,
    /// What happened while the journal took no writes.
    unwritten: Vec<Event>,
    pub(crate) seen: Observation,
    pub(crate) in_flight: BTreeSet<Key>,
    /// The tokens themselves, by job, with the attempt that each is for.
    pub(crate) purse: BTreeMap<JobId, (u32, Token)>,
    pub(crate) holds: BTreeMap<JobId, Hold>,
    pub(crate) failures: BTreeMap<(QueueKey, u8), u32>,
    pub(crate) looking: BTreeSet<BackendName>,
    pub(crate) allowance: (Timestamp, u32),
    pub(crate) last_round: Timestamp,
    round_at: Option<Timestamp>,
    rounds: u64,
    restarting: bool,
}

/// The least time between two rounds.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(10);
const FROZEN: Duration = Duration::from_secs(600);
/// The backend with a rate budget, and how it fills.
const PACED: &str = "vms";
const ALLOWANCE: u32 = 4;

impl Shell {
    pub(crate) fn new(instance: &str) -> Self {
        Self {
            instance: instance.into(),
            alive: false,
            frozen_until: None,
            life: 0,
            epoch: 1,
            ledger: Ledger::default(),
            journal: Vec::new(),
            unwritten: Vec::new(),
            seen: Observation::default(),
            in_flight: BTreeSet::new(),
            purse: BTreeMap::new(),
            holds: BTreeMap::new(),
            failures: BTreeMap::new(),
            looking: BTreeSet::new(),
            allowance: (Timestamp::ZERO, ALLOWANCE),
            last_round: Timestamp::ZERO,
            round_at: None,
            rounds: 0,
            restarting: false,
        }
    }

    pub(crate) fn is_frozen(&self, now: Timestamp) -> bool {
        self.frozen_until.is_some_and(|until| until > now)
    }

    pub(crate) fn record(&mut self, event: Event) {
        if self.seen.journal_full {
            self.unwritten.push(event.clone());
        } else {
            self.journal.push(event.clone());
        }
        self.ledger.record(event);
    }
}

impl Sim<'_> {
    pub(crate) fn start_shell(&mut self, index: usize) {
        let (now, full, draining) = (self.now, self.journal_is_full, self.is_draining);
        let shell = &mut self.shells[index];
        shell.alive = true;
        shell.restarting = false;
        shell.life += 1;
        shell.round_at = None;
        shell.ledger = Ledger::default();
        for event in shell.journal.clone() {
            shell.ledger.record(event);
        }
        shell.seen = Observation {
            instance: shell.instance.clone(),
            started_at: now,
            buildkite: BuildkiteSeen { failing_since: Some(now), reachable_since: now },
            journal_full: full,
            draining,
            ..Observation::default()
        };
        // What was under way when the last life ended has an outcome that nobody knows.
        for event in shell.ledger.resume(now) {
            shell.record(event);
        }
        self.tell(None, || format!("process {index} starts"));
        let queues: Vec<_> = self.policy.queues.keys().cloned().collect();
        let backends: Vec<_> = self.policy.backends.keys().cloned().collect();
        for queue in queues {
            self.shell_soon(index, 1, ToShell::ListQueue(queue));
        }
        for backend in backends {
            self.shell_soon(index, 1, ToShell::ListBackend(backend));
        }
        self.want_round(index, now);
    }

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

    pub(crate) fn crash(&mut self, index: usize) {
        if !self.shells[index].alive || self.faults.is_calm() {
            return;
        }
        let lost = self.strikes(Kind::LostJournal, 600);
        let epoch = self.serial();
        let renamed = lost && self.dice.chance(300);
        let shell = &mut self.shells[index];
        shell.alive = false;
        shell.frozen_until = None;
        shell.life += 1;
        shell.in_flight.clear();
        shell.purse.clear();
        shell.holds.clear();
        shell.failures.clear();
        shell.looking.clear();
        shell.unwritten.clear();
        if lost {
            shell.journal.clear();
            shell.epoch = epoch;
        }
        if renamed {
            shell.instance = format!("again-{epoch}").into();
        }
        let restarting = std::mem::replace(&mut shell.restarting, true);
        self.tell(None, || format!("process {index} crashes; journal lost: {lost}"));
        if !restarting {
            let down = self.dice.millis(100, 4_000);
            self.after(down, Happening::Restart(index));
        }
    }

    pub(crate) fn freeze(&mut self, index: usize) {
        self.shells[index].frozen_until = Some(self.now.plus(FROZEN));
        self.tell(None, || format!("process {index} is frozen for {} s", FROZEN.as_secs()));
    }

    pub(crate) fn other_installation(&mut self) {
        let mut shell = Shell::new("second");
        shell.epoch = self.serial();
        self.shells.push(shell);
        self.start_shell(self.shells.len() - 1);
    }

    pub(crate) fn journal_takes_writes(&mut self, takes: bool) {
        self.journal_is_full = !takes;
        for index in 0..self.shells.len() {
            let shell = &mut self.shells[index];
            shell.seen.journal_full = !takes;
            if takes {
                shell.journal.append(&mut shell.unwritten);
            }
            if shell.alive {
                self.want_round(index, self.now);
            }
        }
    }

    pub(crate) fn drain(&mut self, draining: bool) {
        self.is_draining = draining;
        for index in 0..self.shells.len() {
            self.shells[index].seen.draining = draining;
            if self.shells[index].alive {
                self.want_round(index, self.now);
            }
        }
    }

    pub(crate) fn want_round(&mut self, index: usize, at: Timestamp) {
        let shell = &mut self.shells[index];
        let at = at.max(shell.last_round.plus(BETWEEN_ROUNDS)).max(self.now);
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
        shell.refill(now);
        let plan = (self.decide)(&shell.ledger, &shell.seen, &self.policy, now);
        shell.holds.clone_from(&plan.holds);
        let mut changed = !plan.facts.is_empty();
        for fact in plan.facts {
            self.tell(Some(fact.job()), || format!("fact: {fact:?}"));
            self.check_begun(index, &fact);
            self.shells[index].record(fact);
        }
        for step in plan.steps {
            changed |= self.perform(index, step);
            if !self.shells[index].alive {
                return;
            }
        }
        self.check_round(changed);
        self.shells[index].tidy();
        if changed {
            self.want_round(index, now);
        }
        if let Some(at) = plan.wake_at {
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
        let crash = self.crash_here();
        if crash == Some(Point::Journal) {
            self.crash(index);
            return true;
        }
        let changed = !intents.is_empty();
        for event in intents {
            self.tell(Some(event.job()), || format!("written down: {event:?}"));
            self.check_begun(index, &event);
            self.shells[index].record(event);
        }
        if crash == Some(Point::Call) {
            self.crash(index);
            return true;
        }
        let returns = self.send(index, action, free);
        if crash == Some(Point::Reply) {
            let span = returns.unwrap_or_default() / 2;
            self.after(span, Happening::Crash(index));
        }
        changed
    }

    /// Whether the process dies at this step: on purpose, or by bad luck.
    fn crash_here(&mut self) -> Option<Point> {
        let planned = self.faults.crash_at.filter(|crash| crash.step == self.steps);
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
        if attempt != create.attempt || told.expires_at <= self.now {
            return None;
        }
        let over = create.offer.backend.as_str() == PACED && shell.allowance.1 == 0;
        if create.offer.backend.as_str() == PACED {
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
            let text = format!("{} is sent above the rate of {PACED}", create.name);
            self.broke(Promise::Bounded, Some(create.job), text);
        }
        Some(order)
    }

    fn not_sent(&mut self, index: usize, job: JobId, attempt: u32) {
        self.tell(Some(job), || format!("create {attempt} is not sent: no token for it"));
        let at = self.now;
        let outcome = CreateOutcome::NotSent;
        self.shells[index].record(Event::CreateEnded { job, attempt, outcome, at });
        self.want_round(index, at);
    }
}

impl Shell {
    /// The rate budget fills up.
    fn refill(&mut self, now: Timestamp) {
        let seconds = u32::try_from(now.since(self.allowance.0).as_secs()).unwrap_or(ALLOWANCE);
        if seconds > 0 {
            self.allowance = (now, self.allowance.1.saturating_add(seconds).min(ALLOWANCE));
        }
        let left = self.allowance.1;
        self.seen.backends.entry(PACED.into()).or_default().creates_left = Some(left);
    }

    /// What is of no use any more is dropped.
    fn tidy(&mut self) {
        let ledger = &self.ledger;
        self.purse.retain(|job, _| ledger.entry(*job).is_some());
        self.seen.tokens.retain(|job, _| ledger.entry(*job).is_some());
        self.seen.answers.retain(|job, _| ledger.entry(*job).is_some());
    }

    pub(crate) fn keep_token(
        &mut self,
        token: Token,
        attempt: u32,
        asked: Timestamp,
        told: Timestamp,
    ) {
        self.purse.insert(token.job, (attempt, token));
        let seen = TokenSeen { attempt, issued_at: asked, expires_at: told };
        self.seen.tokens.insert(token.job, seen);
    }
}
