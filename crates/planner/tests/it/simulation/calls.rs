//! A call on its way: what it does to the world when it arrives, and what its caller learns when
//! it returns, if it does.

use std::time::Duration;

use planner::{
    Action, Answer, BackendName, CreateOutcome, Event, Failure, FailureClass, FinishOutcome, JobId,
    JobState, LookFailure, Outcome, QueueKey, Record, RetryOutcome, Timestamp,
};

use super::backends::Order;
use super::buildkite::{Stack, Token};
use super::faults::{Brings, Kind, Side};
use super::key::Key;
use super::losses::{record_read, retried};
use super::shell::Shell;
use super::world::{Happening, Sim};

/// What a call did where it arrived.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    States(Vec<(JobId, JobState)>),
    /// How a look failed, if it did.
    Looked(Option<LookFailure>),
    Reserved {
        yes: Vec<JobId>,
        no: Vec<JobId>,
    },
    Minted {
        tokens: Vec<(Token, u32)>,
        refused: Vec<JobId>,
    },
    Made,
    NotMade(Failure),
    Deleted,
    Finished {
        taken: bool,
    },
    Read(Record),
    Retried(RetryOutcome),
    /// The API token is refused.
    NotLetIn,
    Noted,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) shell: usize,
    life: u32,
    pub(crate) epoch: u64,
    pub(crate) sent_at: Timestamp,
    /// When its caller gives it up, if no answer comes before.
    returns_at: Timestamp,
    /// When it was sent, as its shell's clock showed it.
    pub(crate) sent_at_shown: Timestamp,
    pub(crate) action: Action,
    keys: Vec<Key>,
    pub(crate) brings: Brings,
    effect: Option<Effect>,
    order: Option<Order>,
    /// Buildkite's last word on the job, when the call was decided; asked for at a true moment.
    pub(crate) word: Option<Answer>,
    /// Whether the ledger knew then that the job has ended.
    pub(crate) knew_end: bool,
    /// Whether the attempt had been given up because no agent came in time.
    pub(crate) gave_up: bool,
    /// Whether the machine was known to be there.
    pub(crate) known: bool,
    /// Whether the same create had been asked for before.
    pub(crate) repeated: bool,
}

impl Call {
    pub(crate) fn new(
        index: usize,
        shell: &Shell,
        now: Timestamp,
        action: Action,
        keys: Vec<Key>,
        order: Option<Order>,
    ) -> Self {
        let job = keys.first().map(Key::job);
        let word = job.and_then(|job| shell.seen.answers.get(&job));
        let word = word.map(|word| Answer { asked_at: shell.clock.when(word.asked_at), ..*word });
        let entry = job.and_then(|job| shell.ledger.entry(job));
        let number = keys.first().and_then(Key::attempt);
        let attempt = entry
            .and_then(|entry| entry.attempts.iter().find(|attempt| Some(attempt.number) == number));
        Self {
            shell: index,
            life: shell.life,
            epoch: shell.epoch,
            sent_at: now,
            returns_at: now,
            sent_at_shown: shell.clock.shows(now),
            action,
            keys,
            brings: Brings::Word,
            effect: None,
            order,
            word,
            knew_end: entry.is_some_and(|entry| entry.ended.is_some()),
            gave_up: attempt
                .and_then(|attempt| attempt.failed.as_ref())
                .is_some_and(|failed| failed.failure.class == FailureClass::StartTimeout),
            known: attempt.is_some_and(|attempt| matches!(attempt.outcome, Outcome::Made { .. })),
            repeated: attempt.is_some_and(|attempt| attempt.tries > 1 && attempt.holds()),
        }
    }

    /// What its caller hears of what it did.
    pub(crate) fn heard(&self) -> Option<&Effect> {
        self.effect.as_ref().filter(|_| self.brings == Brings::Word)
    }

    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    fn side(&self) -> Side {
        match &self.action {
            Action::Create(create) => Side::Backend(create.offer.backend.clone()),
            Action::Delete { backend, .. } => Side::Backend(backend.clone()),
            Action::Ask { .. }
            | Action::Look { .. }
            | Action::Reserve { .. }
            | Action::Mint { .. }
            | Action::Finish { .. }
            | Action::ReadRecord { .. }
            | Action::Retry { .. }
            | Action::Notify { .. } => Side::Buildkite,
        }
    }
}

impl Sim<'_> {
    /// Sends a call; says after how long it returns.
    pub(crate) fn dispatch(&mut self, mut call: Call) -> Duration {
        let route = self.route(&call.side());
        call.brings = route.brings;
        call.returns_at = self.now.plus(route.returns);
        self.check_call(&call);
        self.shells[call.shell].in_flight.extend(call.keys.iter().copied());
        for key in call.keys.clone() {
            let (brings, ms) = (route.brings, route.returns.as_millis());
            self.tell(Some(key.job()), || format!("call {key:?}: {brings:?} in {ms} ms"));
        }
        let id = self.serial();
        self.calls.insert(id, call);
        if let Some(span) = route.arrives {
            self.after(span, Happening::CallArrives(id));
        }
        self.after(route.returns, Happening::CallReturns(id));
        route.returns
    }

    pub(crate) fn call_arrives(&mut self, id: u64) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        let effect = match call.action.clone() {
            Action::Ask { jobs, .. } => self.states(&jobs),
            Action::Look { job, .. } => self.look(job),
            Action::Reserve { jobs, lease, .. } => self.reserve(&jobs, lease, call.epoch),
            Action::Mint { jobs, lifetime, .. } => self.mint(&jobs, lifetime),
            Action::Create(_) => self.create(&call),
            Action::Delete { name, backend, .. } => {
                let serial = self.places.get(&backend).and_then(|place| place.named(&name));
                if let Some(serial) = serial {
                    self.check_delete(&call, serial);
                    self.unmake(serial);
                }
                Effect::Deleted
            }
            Action::Finish { job, detail, .. } => {
                let taken = self.buildkite.finish_by_stack(job);
                self.tell(Some(job), || format!("the job is failed ({taken}): {detail}"));
                Effect::Finished { taken }
            }
            Action::ReadRecord { job } => self.record_of(job),
            Action::Retry { job } => self.retry(&call, job),
            Action::Notify { .. } => Effect::Noted,
        };
        call.effect = Some(effect);
        self.calls.insert(id, call);
    }

    fn states(&mut self, jobs: &[JobId]) -> Effect {
        let mut states = Vec::new();
        for job in jobs {
            // Now and then one is left out; some are left out as long as the fault lasts.
            let always = self.faults.has(Kind::AnswerOmits) && job.0.as_bytes()[0] % 8 == 0;
            if always {
                self.faults.count(Kind::AnswerOmits);
            }
            let state = if always || self.strikes(Kind::AnswerOmits, 300) {
                JobState::Unknown
            } else {
                self.buildkite.state(*job)
            };
            states.push((*job, state));
        }
        Effect::States(states)
    }

    fn reserve(&mut self, jobs: &[JobId], lease: Duration, epoch: u64) -> Effect {
        let (mut yes, mut no) = (Vec::new(), Vec::new());
        for job in jobs {
            if self.buildkite.is_free_for(*job, Stack::Ours) && self.strikes(Kind::Refused, 300) {
                no.push(*job);
                continue;
            }
            let lease = if self.strikes(Kind::ShortLease, 300) {
                Duration::from_millis(self.dice.between(500, 10_000)).min(lease)
            } else {
                lease
            };
            let until = self.now.plus(lease);
            if self.buildkite.reserve(*job, Stack::Ours, until, epoch, self.now) {
                self.after(lease, Happening::Lapse(*job));
                yes.push(*job);
            } else {
                no.push(*job);
            }
        }
        Effect::Reserved { yes, no }
    }

    fn mint(&mut self, jobs: &[(JobId, u32)], lifetime: Duration) -> Effect {
        let (mut tokens, mut refused) = (Vec::new(), Vec::new());
        for (job, attempt) in jobs {
            let token = self.buildkite.mint(*job, lifetime, self.now);
            match token.filter(|_| !self.strikes(Kind::NotIssued, 300)) {
                Some(token) => {
                    let early = self.strikes(Kind::TokenDiesEarly, 300);
                    let soon = self.now.plus(Duration::from_millis(self.dice.between(0, 5_000)));
                    let until = if early { soon.min(token.until) } else { token.until };
                    tokens.push((Token { until, ..token }, *attempt));
                }
                None => refused.push(*job),
            }
        }
        Effect::Minted { tokens, refused }
    }

    fn create(&mut self, call: &Call) -> Effect {
        let order = call.order.as_ref().expect("a create that is sent has its order");
        let backend = &order.create.offer.backend;
        let there = self.places.get(backend).and_then(|place| place.named(&order.create.name));
        let before = self.places.get(backend).is_some_and(|place| place.ever(&order.create.name));
        let given_up = call.brings == Brings::Nothing
            || self.shells[call.shell].life != call.life
            || call.repeated;
        // The request's own id, the same for all repetitions, tells a backend that it made this.
        if there.is_some() || (given_up && before) {
            return Effect::Made;
        }
        if let Some(failure) = self.refusal(&order.create.offer) {
            self.tell(Some(order.create.job), || format!("not made: {failure:?}"));
            return Effect::NotMade(failure);
        }
        let order = order.clone();
        let late = self.is_too_late(call, &order.create.offer.backend);
        self.check_create(call, &order, late);
        self.make(&order, late);
        Effect::Made
    }

    /// Whether a create takes effect later than any listing can be waited for that tells of it.
    fn is_too_late(&self, call: &Call, backend: &BackendName) -> bool {
        let shell = &self.shells[call.shell];
        let next_life = (shell.life != call.life).then_some(shell.born_at);
        let given_up_at = next_life.map_or(call.returns_at, |born| born.min(call.returns_at));
        let lag = self.policy.backends.get(backend).map_or(Duration::ZERO, |it| it.listing_lag);
        self.now > given_up_at.plus(lag)
    }

    pub(crate) fn call_returns(&mut self, id: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        let (index, now) = (call.shell, self.now);
        if let Some(until) = self.shells[index].frozen_until.filter(|until| *until > now) {
            return self.after(until.since(now), Happening::CallReturns(id));
        }
        let Some(call) = self.calls.get(&id).cloned() else { return };
        if call.effect.is_some() || call.brings != Brings::Nothing {
            // Else it may still arrive, though nobody waits for it any more.
            self.calls.remove(&id);
        }
        if !self.shells[index].alive || self.shells[index].life != call.life {
            return;
        }
        for key in &call.keys {
            self.shells[index].in_flight.remove(key);
        }
        if call.side() == Side::Buildkite {
            self.heard(index, call.brings);
        }
        self.pace(&call);
        let shown = self.clock(index);
        for event in self.events_of(&call) {
            self.shells[index].stamp(shown);
            self.tell(Some(event.job()), || format!("learned: {event:?}"));
            self.shells[index].drop_spent(&event);
            self.shells[index].record(event);
        }
        self.want_round(index, now);
    }

    /// A failed call is not repeated at once; each time it waits longer.
    fn pace(&mut self, call: &Call) {
        let (queue, lane) = match &call.action {
            Action::Ask { queue, .. } => (queue, 0),
            Action::Look { queue, .. } => (queue, 4),
            Action::Reserve { queue, .. } => (queue, 1),
            Action::Mint { queue, .. } => (queue, 2),
            Action::Finish { queue, .. } => (queue, 3),
            Action::ReadRecord { .. } | Action::Retry { .. } => return self.pace_rest(call),
            Action::Create(_) | Action::Delete { .. } | Action::Notify { .. } => return,
        };
        let shell = &mut self.shells[call.shell];
        if call.brings == Brings::Word {
            shell.failures.remove(&(queue.clone(), lane));
            return;
        }
        let times = shell.failures.entry((queue.clone(), lane)).or_default();
        *times += 1;
        let wait = Duration::from_millis(250) * 2_u32.pow((*times).min(6));
        let until = shell.clock.shows(self.now).plus(wait);
        let seen = shell.seen.queues.entry(QueueKey::clone(queue)).or_default();
        match lane {
            0 => seen.ask_not_before = until,
            1 => seen.reserve_not_before = until,
            2 => seen.mint_not_before = until,
            4 => seen.look_not_before = until,
            _ => seen.finish_not_before = until,
        }
    }

    /// What the caller learns, as events for its ledger; answers and tokens go to what is seen.
    fn events_of(&mut self, call: &Call) -> Vec<Event> {
        let at = self.clock(call.shell);
        let effect = call.heard();
        match &call.action {
            Action::Create(create) => {
                let outcome = made(call.brings, effect);
                let (job, attempt) = (create.job, create.attempt);
                vec![Event::CreateEnded { job, attempt, outcome, at }]
            }
            Action::Delete { job, attempt, .. } => {
                let ok = effect.is_some();
                vec![Event::DeleteEnded { job: *job, attempt: *attempt, ok, retry_after: None, at }]
            }
            Action::Finish { job, .. } => {
                let outcome = match effect {
                    Some(Effect::Finished { taken: true }) => FinishOutcome::Taken,
                    Some(_) => FinishOutcome::TooLate,
                    None => FinishOutcome::Unknown,
                };
                vec![Event::FinishEnded { job: *job, outcome, at }]
            }
            Action::Ask { .. } => {
                if let Some(Effect::States(states)) = effect {
                    self.answered(call, states);
                }
                Vec::new()
            }
            Action::Look { queue, job } => {
                self.look_returned(call, queue, *job);
                Vec::new()
            }
            Action::Reserve { lease, .. } => match effect {
                Some(Effect::Reserved { yes, no }) => reserved(call.sent_at_shown, *lease, yes, no),
                Some(_) | None => Vec::new(),
            },
            Action::Mint { lifetime, .. } => match effect {
                Some(Effect::Minted { tokens, refused }) => {
                    for (token, attempt) in tokens {
                        let asked = call.sent_at_shown;
                        self.shells[call.shell].keep_token(*token, *attempt, asked, *lifetime);
                    }
                    refused.iter().map(|job| Event::NotIssued { job: *job, at }).collect()
                }
                Some(_) | None => Vec::new(),
            },
            Action::ReadRecord { job } => record_read(call, *job),
            Action::Retry { job } => vec![retried(call, *job, at)],
            Action::Notify { .. } => Vec::new(),
        }
    }

    fn answered(&mut self, call: &Call, states: &[(JobId, JobState)]) {
        for (job, state) in states {
            self.tell(Some(*job), || format!("Buildkite answers: {state:?}"));
            let answers = &mut self.shells[call.shell].seen.answers;
            let newer = answers.get(job).is_none_or(|answer| {
                answer.asked_at <= call.sent_at_shown && !answer.state.is_terminal()
            });
            if newer {
                answers.insert(*job, Answer { state: *state, asked_at: call.sent_at_shown });
            }
        }
    }
}

fn made(brings: Brings, effect: Option<&Effect>) -> CreateOutcome {
    let failed = |class, words: &str, retry_after| {
        CreateOutcome::Failed(Failure { class, words: words.into(), retry_after, shortage: None })
    };
    match (brings, effect) {
        (Brings::Word, Some(Effect::NotMade(failure))) => CreateOutcome::Failed(failure.clone()),
        (Brings::Word, _) => CreateOutcome::Made,
        (Brings::Nothing, _) => failed(FailureClass::Ambiguous, "no answer in 10 s", None),
        (Brings::ServerError, _) => failed(FailureClass::Ambiguous, "502", None),
        (Brings::TooMany, _) => {
            failed(FailureClass::Rate, "too many requests", Some(Duration::from_secs(1)))
        }
    }
}

fn reserved(sent_at: Timestamp, lease: Duration, yes: &[JobId], no: &[JobId]) -> Vec<Event> {
    let until = sent_at.plus(lease);
    let yes = yes.iter().map(|job| Event::Reserved { job: *job, sent_at, until });
    let no = no.iter().map(|job| Event::NotReserved { job: *job, sent_at });
    yes.chain(no).collect()
}
