//! Builds what one round reads, and renders what it decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use planner::{
    Action, Answer, BackendKind, BackendName, BackendPolicy, BackendSeen, Bytes, Candidate, Cpu,
    CreateOutcome, Doom, EndSeen, Event, Failure, FailureClass, Invalid, JobId, JobState, Ledger,
    Limits, MachineName, MachineSeen, Margins, Observation, Offer, Phase, Plan, Policy,
    QueuePolicy, QueueSeen, Shapes, Spot, Timestamp, TokenSeen, UnknownTags, Verdict, decide,
    worst_cost,
};
use uuid::Uuid;

use super::job::{Job, job};
use super::render::render;

const START: u64 = 1_000_000;

/// What one round reads. Each step gives a new scene, so that one can lead to several.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) ledger: Ledger,
    pub(super) seen: Observation,
    pub(super) policy: Policy,
    pub(super) now: Timestamp,
}

impl Scene {
    pub(super) fn new() -> Self {
        let now = Timestamp::from_millis(START);
        let (listed_at, first_listed_at) = (Some(now), Some(now));
        let backend = BackendSeen { listed_at, first_listed_at, ..BackendSeen::default() };
        let seen = Observation {
            instance: "us".into(),
            started_at: now,
            backends: BTreeMap::from([(here(), backend)]),
            ..Observation::default()
        };
        let policy = Policy {
            name: "jitney".into(),
            queues: BTreeMap::new(),
            classes: BTreeMap::new(),
            rules: Vec::new(),
            retry_lost: None,
            limits: Limits::default(),
            backends: BTreeMap::from([(here(), process())]),
            margins: Margins::default(),
        };
        Self { ledger: Ledger::default(), seen, policy, now }.queue("jit", 1)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut scene = self.clone();
        change(&mut scene);
        scene
    }

    pub(super) fn record(&self, event: Event) -> Self {
        self.change(|scene| scene.ledger.record(event))
    }

    pub(super) fn queue(&self, key: &str, share: u32) -> Self {
        self.change(|scene| {
            scene.policy.queues.insert(key.into(), queue_policy(share));
            let seen = QueueSeen { listed_at: Some(scene.now), ..QueueSeen::default() };
            scene.seen.queues.insert(key.into(), seen);
        })
    }

    pub(super) fn each_queue(&self, change: impl Fn(&mut QueueSeen)) -> Self {
        self.change(|scene| scene.seen.queues.values_mut().for_each(change))
    }

    fn backend(&self, change: impl FnOnce(&mut BackendSeen)) -> Self {
        self.change(|scene| change(scene.seen.backends.get_mut(&here()).expect("it is there")))
    }

    pub(super) fn visible(&self, job: Job) -> Self {
        self.change(|scene| {
            let verdict = job.verdict.clone().unwrap_or_else(|| Verdict::Ours(job.request()));
            let candidate = Arc::new(Candidate { row: job.row(), verdict });
            let queue = scene.seen.queues.get_mut(&job.queue.into()).expect("it is there");
            queue.candidates = queue.candidates.iter().cloned().chain([candidate]).collect();
        })
    }

    pub(super) fn id(number: u128) -> JobId {
        id(number)
    }

    pub(super) fn limit_machines(&self, machines: u32) -> Self {
        self.change(|scene| scene.policy.limits.machines = Some(machines))
    }

    pub(super) fn limit_cpu(&self, cpu: u32) -> Self {
        self.change(|scene| scene.policy.limits.cpu = Some(Cpu::from_millis(cpu * 1000)))
    }

    pub(super) fn paused(&self) -> Self {
        self.each_queue(|queue| queue.paused = true)
    }

    pub(super) fn draining(&self) -> Self {
        self.change(|scene| scene.seen.draining = true)
    }

    pub(super) fn journal_full(&self) -> Self {
        self.change(|scene| scene.seen.journal_full = true)
    }

    pub(super) fn backend_unlisted(&self) -> Self {
        self.backend(|backend| backend.listed_at = None)
    }

    /// Time passes, and nothing is heard.
    pub(super) fn after(&self, seconds: u64) -> Self {
        self.change(|scene| scene.now = scene.now.plus(Duration::from_secs(seconds)))
    }

    /// Queues and backends are listed again, and show the same.
    pub(super) fn listed_now(&self) -> Self {
        let now = self.now;
        self.each_queue(|queue| queue.listed_at = Some(now))
            .backend(|backend| backend.listed_at = Some(now))
    }

    pub(super) fn taken(&self, job: Job) -> Self {
        self.record(Event::Taken {
            job: id(job.number),
            row: job.row(),
            request: Some(job.request()),
            doom: None,
            at: self.now,
        })
    }

    pub(super) fn doomed(&self, job: Job) -> Self {
        self.record(Event::Taken {
            job: id(job.number),
            row: job.row(),
            request: None,
            doom: Some(Doom::Invalid { invalid: no_offer() }),
            at: self.now,
        })
    }

    pub(super) fn reserved(&self, job: u128) -> Self {
        let until = self.now.plus(Duration::from_secs(360));
        self.record(Event::Reserved { job: id(job), sent_at: self.now, until })
    }

    pub(super) fn refused(&self, job: u128) -> Self {
        self.record(Event::NotReserved { job: id(job), sent_at: self.now })
    }

    pub(super) fn token(&self, job: u128, attempt: u32) -> Self {
        let (issued_at, expires_at) = (self.now, self.now.plus(Duration::from_secs(360)));
        self.change(|scene| {
            scene.seen.tokens.insert(id(job), TokenSeen { attempt, issued_at, expires_at });
        })
    }

    /// Asked for, made and listed.
    pub(super) fn made(&self, wanted: Job, attempt: u32) -> Self {
        let number = wanted.number;
        self.taken(wanted).reserved(number).remade(number, attempt)
    }

    pub(super) fn remade(&self, number: u128, attempt: u32) -> Self {
        self.asked(number, attempt)
            .answered(number, attempt)
            .record(told_made(number, attempt, self.now))
            .machine(number, attempt, "us")
            .listed_now()
    }

    pub(super) fn unanswered(&self, number: u128, attempt: u32) -> Self {
        self.asked(number, attempt).not_made(number, attempt, FailureClass::Ambiguous, "no answer")
    }

    /// The backend answers that it has no room.
    pub(super) fn no_room(&self, number: u128, attempt: u32) -> Self {
        self.not_made(number, attempt, FailureClass::Capacity, "no room")
    }

    /// The backend answers that it is there.
    pub(super) fn answered(&self, number: u128, attempt: u32) -> Self {
        let outcome = CreateOutcome::Made;
        self.record(Event::CreateEnded { job: id(number), attempt, outcome, at: self.now })
    }

    /// The backend answers that we may not.
    pub(super) fn denied(&self, number: u128, attempt: u32) -> Self {
        self.not_made(number, attempt, FailureClass::Denied, "not you")
    }

    pub(super) fn not_made(
        &self,
        number: u128,
        attempt: u32,
        class: FailureClass,
        words: &str,
    ) -> Self {
        let failure = Failure { class, words: words.into(), retry_after: None, shortage: None };
        self.failed(number, attempt, failure)
    }

    pub(super) fn failed(&self, number: u128, attempt: u32, failure: Failure) -> Self {
        let outcome = CreateOutcome::Failed(failure);
        self.record(Event::CreateEnded { job: id(number), attempt, outcome, at: self.now })
    }

    pub(super) fn asked(&self, number: u128, attempt: u32) -> Self {
        self.asked_for(number, attempt, job(number).request().offers[0].clone())
    }

    /// This offer was taken up.
    pub(super) fn asked_for(&self, number: u128, attempt: u32, offer: Offer) -> Self {
        let name = MachineName::of("jitney", id(number), attempt);
        let (dispatch, at) = ("d".into(), self.now);
        let lifetime = Some(Duration::from_secs(4020));
        let job = id(number);
        self.record(Event::CreateIntended { job, attempt, name, offer, lifetime, dispatch, at })
    }

    pub(super) fn running(&self, job: Job, attempt: u32) -> Self {
        let number = job.number;
        let acquired = Event::Acquired { job: id(number), at: self.now };
        self.made(job, attempt).record(acquired).said(number, JobState::Running)
    }

    pub(super) fn machine(&self, number: u128, attempt: u32, instance: &str) -> Self {
        let seen = MachineSeen {
            job: id(number),
            attempt,
            name: MachineName::of("jitney", id(number), attempt),
            instance: instance.into(),
            queue: "jit".into(),
            dispatch: "d".into(),
            cpu: Cpu::from_millis(1000),
            memory: Bytes::gib(1),
            phase: Phase::Booting,
            created_at: self.now,
            connected_at: None,
            deadline_at: self.now.plus(Duration::from_secs(4000)),
            ended: None,
            note: None,
            silent: None,
            leaving: None,
        };
        self.backend(|backend| {
            backend.machines.insert((id(number), attempt), Arc::new(seen));
        })
    }

    /// Nobody knows whether the machine still runs.
    pub(super) fn silent(&self, number: u128, attempt: u32) -> Self {
        self.backend(|backend| {
            let machine = backend.machines.get_mut(&(id(number), attempt)).expect("it is listed");
            Arc::make_mut(machine).silent = Some("its node `n1` does not answer any more".into());
        })
    }

    /// What the backend says of a machine that is not up yet.
    pub(super) fn leaving(&self, number: u128, attempt: u32, cause: &str) -> Self {
        let key = (id(number), attempt);
        self.backend(|backend| {
            let machine = backend.machines.get_mut(&key).expect("it was made");
            Arc::make_mut(machine).leaving = Some(cause.into());
        })
    }

    pub(super) fn noted(&self, number: u128, attempt: u32, words: &str) -> Self {
        self.backend(|backend| {
            let machine = backend.machines.get_mut(&(id(number), attempt)).expect("it is listed");
            Arc::make_mut(machine).note = Some(words.into());
        })
    }

    pub(super) fn stray(&self, number: u128, attempt: u32, instance: &str) -> Self {
        self.machine(number, attempt, instance)
    }

    /// The machine's agent has left, and that is in the ledger.
    pub(super) fn ended_machine(&self, number: u128, attempt: u32) -> Self {
        self.ended_with(number, attempt, |_| {})
    }

    pub(super) fn ended_with(
        &self,
        number: u128,
        attempt: u32,
        change: impl FnOnce(&mut EndSeen),
    ) -> Self {
        let mut end = EndSeen {
            at: self.now,
            cause: "the agent exited with 1".into(),
            log_tail: "".into(),
            cpu_millis_used: None,
            peak_memory: None,
            oom_killed: false,
            ran: None,
            deadline_reached: false,
            taken: false,
            refused: None,
            shortage: None,
        };
        change(&mut end);
        let end = Arc::new(end);
        let event =
            Event::MachineEnded { job: id(number), attempt, end: Arc::clone(&end), at: self.now };
        let key = (id(number), attempt);
        self.record(event).listed_now().backend(|backend| {
            let machine = backend.machines.get_mut(&key).expect("it was made");
            Arc::make_mut(machine).ended = Some(end);
        })
    }

    pub(super) fn told_cut_short(&self, number: u128, attempt: u32) -> Self {
        let why = planner::CutShort::OutOfMemory { memory: Bytes::gib(1), ran: None };
        let notice = planner::Notice::CutShort { attempt, why };
        self.record(Event::Told { job: id(number), notice, at: self.now })
    }

    pub(super) fn deleted(&self, number: u128, attempt: u32) -> Self {
        let (job, at) = (id(number), self.now);
        self.record(Event::DeleteEnded { job, attempt, ok: true, retry_after: None, at })
            .backend(|backend| {
                backend.machines.remove(&(job, attempt));
            })
            .listed_now()
    }

    /// A listing does not show the machine any more.
    pub(super) fn vanished(&self, number: u128, attempt: u32) -> Self {
        let key = (id(number), attempt);
        self.listed_now().backend(|backend| {
            backend.machines.remove(&key);
        })
    }

    pub(super) fn said(&self, number: u128, state: JobState) -> Self {
        let answer = Answer { state, asked_at: self.now };
        self.change(|scene| {
            scene.seen.answers.insert(id(number), answer);
        })
    }

    /// Facts are recorded until a round finds no new ones.
    pub(super) fn settled(&self) -> Self {
        let mut scene = self.clone();
        for _ in 0..10 {
            let plan = decide(&scene.ledger, &scene.seen, &scene.policy, scene.now);
            if plan.facts.is_empty() {
                return scene;
            }
            let forgotten = |event: &Event| matches!(event, Event::Forgotten { .. });
            if plan.facts.iter().all(forgotten) {
                return scene;
            }
            plan.facts.into_iter().for_each(|fact| scene.ledger.record(fact));
        }
        panic!("facts without end");
    }

    /// Listings may be so many seconds behind.
    pub(super) fn listings_lag(&self, seconds: u64) -> Self {
        let lag = Duration::from_secs(seconds);
        self.change(|scene| {
            scene.policy.backends.values_mut().for_each(|backend| backend.listing_lag = lag);
        })
    }

    /// The process starts again, with the same journal.
    pub(super) fn restarted(&self) -> Self {
        self.change(|scene| scene.seen.started_at = scene.now)
    }

    /// The first listing that this process sees of its backend.
    pub(super) fn first_listed_now(&self) -> Self {
        let now = self.now;
        self.listed_now().backend(|backend| backend.first_listed_at = Some(now))
    }

    /// What a crash costs at worst, and how many machines are not in that.
    pub(super) fn worst_cost(&self) -> (u64, u32) {
        let cost = worst_cost(&self.ledger, &self.seen, &self.policy, self.now);
        (cost.micros, cost.unpriced)
    }

    /// What is written down before what the round would do.
    pub(super) fn intents(&self) -> Vec<Event> {
        self.decided().steps.into_iter().flat_map(|step| step.intents).collect()
    }

    /// The plan as one line: facts and calls; waits; alarms.
    /// Of the machine that is asked for now, its type, its place and whether it is on spot; else why
    /// the job waits.
    pub(super) fn choice(&self, number: u128) -> String {
        let plan = decide(&self.ledger, &self.seen, &self.policy, self.now);
        let choice = plan.steps.iter().find_map(|step| {
            let Action::Create(create) = &step.action else { return None };
            let Offer { machine_type, place, spot, .. } = &create.offer;
            let words = format!("{machine_type} {place}{}", if *spot { " spot" } else { "" });
            (create.job == id(number)).then_some(words)
        });
        let hold = plan.holds.get(&id(number)).map(|hold| hold.reason.key().to_owned());
        choice.or(hold).unwrap_or_default()
    }

    /// The ledger as it is written and read again.
    pub(super) fn reread(&self, change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let mut json = serde_json::to_value(&self.ledger).expect("it has a form");
        change(&mut json);
        let ledger = serde_json::from_value(json).expect("it is read again");
        self.change(|scene| scene.ledger = ledger)
    }

    pub(super) fn plan(&self) -> String {
        render(&self.decided())
    }

    pub(super) fn decided(&self) -> Plan {
        decide(&self.ledger, &self.seen, &self.policy, self.now)
    }
}

pub(super) fn id(number: u128) -> JobId {
    JobId(Uuid::from_u128(number))
}

pub(super) fn here() -> BackendName {
    "here".into()
}

pub(super) fn no_offer() -> Invalid {
    Invalid::NoOffer { shape: "96 vCPU".into(), why: vec!["here has 8".into()] }
}

fn told_made(number: u128, attempt: u32, at: Timestamp) -> Event {
    let notice = planner::Notice::Made {
        name: MachineName::of("jitney", id(number), attempt),
        backend: here(),
        machine: "1 vCPU".into(),
        attempt,
        after: None,
    };
    Event::Told { job: id(number), notice, at }
}

fn process() -> BackendPolicy {
    BackendPolicy {
        kind: BackendKind::Process,
        limits: Limits::default(),
        capacity: Limits::default(),
        arch: None,
        listing_lag: Duration::ZERO,
        images: Vec::new(),
        vms: None,
    }
}

fn queue_policy(share: u32) -> QueuePolicy {
    QueuePolicy {
        backends: vec![here()],
        tags: BTreeMap::new(),
        unknown_tags: UnknownTags::Wait,
        defaults: Shapes::default(),
        largest: Shapes::default(),
        images: Vec::new(),
        spot: Spot::Allow,
        attempts: 3,
        start_timeout: Duration::from_secs(300),
        priority: 0,
        share,
        limits: Limits::default(),
    }
}
