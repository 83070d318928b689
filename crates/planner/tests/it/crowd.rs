//! A crowd: as many jobs in our hands as one likes, in every phase, with what Buildkite and the
//! backends say about them. For measuring what a round costs; nothing here is random.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use planner::{
    Answer, BackendKind, BackendName, BackendPolicy, BackendSeen, BuildkiteSeen, Bytes, Candidate,
    Cpu, CreateOutcome, EndSeen, Event, JobId, JobRow, JobState, Ledger, Limits, MachineName,
    MachineSeen, Margins, Observation, Offer, Phase, Plan, Policy, QueueKey, QueuePolicy,
    QueueSeen, Request, Shape, Shapes, Spot, Timestamp, TokenSeen, UnknownTags, Verdict, decide,
};
use uuid::Uuid;

pub(crate) struct Crowd {
    pub(crate) ledger: Ledger,
    pub(crate) seen: Observation,
    pub(crate) policy: Policy,
    pub(crate) now: Timestamp,
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const QUEUES: [&str; 4] = ["linux", "large", "deploy", "nightly"];

fn ago(seconds: u64) -> Timestamp {
    NOW.minus(Duration::from_secs(seconds))
}

/// How long this thread has been at work.
pub(crate) fn on_processor() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

impl Crowd {
    /// Jobs in our hands: of ten, seven run, one starts, one has just ended and one waits for a
    /// limit. A fifth as many stand in the queues and wait as well.
    pub(crate) fn at_work(jobs: u32) -> Self {
        let mut crowd = Self::nobody(Limits { machines: Some(jobs / 2), ..Limits::default() });
        for number in 0..jobs {
            crowd.live(number);
        }
        for number in jobs..jobs + jobs / 5 {
            crowd.visible(number);
        }
        crowd
    }

    /// Nothing in our hands, and so many jobs that all come at once.
    pub(crate) fn at_the_door(jobs: u32) -> Self {
        let mut crowd = Self::nobody(Limits::default());
        for number in 0..jobs {
            crowd.visible(number);
        }
        crowd
    }

    pub(crate) fn round(&self) -> Plan {
        decide(&self.ledger, &self.seen, &self.policy, self.now)
    }

    /// Takes facts and intents in, as the shell does, until a round has none: then all is under
    /// way, and the next rounds only look.
    pub(crate) fn settle(&mut self) {
        for _ in 0..8 {
            let plan = self.round();
            let intents = plan.steps.into_iter().flat_map(|step| step.intents);
            let events: Vec<Event> = plan.facts.into_iter().chain(intents).collect();
            if events.is_empty() {
                return;
            }
            for event in events {
                self.ledger.record(event);
            }
        }
        panic!("eight rounds in a row had something new in a world that stands still");
    }

    /// What one round takes of a processor, on average of so many. Time in which others had it
    /// does not count where the system tells that (Linux does).
    pub(crate) fn cost(&self, rounds: u32) -> Duration {
        let before = on_processor();
        for _ in 0..rounds {
            std::hint::black_box(self.round());
        }
        on_processor().saturating_sub(before) / rounds
    }

    fn nobody(limits: Limits) -> Self {
        let queues = QUEUES.map(|name| (QueueKey::new(name), queue_policy())).into();
        let backends = ["pods", "vms"].map(|name| (BackendName::new(name), backend_policy()));
        let policy = Policy {
            name: "jitney".into(),
            queues,
            classes: BTreeMap::new(),
            rules: Vec::new(),
            retry_lost: None,
            limits,
            backends: backends.into(),
            margins: Margins::default(),
        };
        let listed = || BackendSeen { listed_at: Some(ago(1)), ..BackendSeen::default() };
        let seen = Observation {
            instance: "one".into(),
            dispatch: "0".into(),
            started_at: ago(3600),
            buildkite: BuildkiteSeen { failing_since: None, reachable_since: ago(3600) },
            queues: QUEUES.map(|name| (QueueKey::new(name), queue_seen())).into(),
            backends: [("pods".into(), listed()), ("vms".into(), listed())].into(),
            ..Observation::default()
        };
        Self { ledger: Ledger::default(), seen, policy, now: NOW }
    }

    fn visible(&mut self, number: u32) {
        let row = row(number);
        let verdict = Verdict::Ours(request(number));
        let seen = self.seen.queues.entry(row.queue.clone()).or_default();
        let mut candidates = seen.candidates.to_vec();
        candidates.push(Arc::new(Candidate { row, verdict }));
        seen.candidates = candidates.into();
    }

    fn live(&mut self, number: u32) {
        let (job, row, request) = (id(number), row(number), request(number));
        let queue = row.queue.clone();
        let at = ago(120);
        let taken = Event::Taken { job, row, request: Some(request.clone()), doom: None, at };
        self.ledger.record(taken);
        let until = NOW.plus(Duration::from_secs(300));
        self.ledger.record(Event::Reserved { job, sent_at: ago(20), until });
        if number % 10 == 9 {
            return self.answer(job, JobState::Reserved);
        }
        let offer = request.offers[0].clone();
        let name = MachineName::of("jitney", job, 1);
        let made = machine(job, &queue, &offer, name.clone(), number % 10);
        let backend = offer.backend.clone();
        let dispatch = "0".into();
        let lifetime = None;
        let intent = Event::CreateIntended { job, attempt: 1, name, offer, lifetime, dispatch, at };
        self.ledger.record(intent);
        let outcome = CreateOutcome::Made;
        self.ledger.record(Event::CreateEnded { job, attempt: 1, outcome, at });
        let token = TokenSeen { attempt: 1, issued_at: at, expires_at: until };
        self.seen.tokens.insert(job, token);
        let listing = self.seen.backends.entry(backend).or_default();
        listing.machines.insert((job, 1), Arc::new(made));
        self.answer(
            job,
            match number % 10 {
                7 => JobState::Reserved,
                8 => JobState::Finished,
                _ => JobState::Running,
            },
        );
    }

    fn answer(&mut self, job: JobId, state: JobState) {
        self.seen.answers.insert(job, Answer { state, asked_at: ago(1) });
    }
}

fn id(number: u32) -> JobId {
    let mixed = u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    JobId(Uuid::from_u128(mixed))
}

fn row(number: u32) -> Arc<JobRow> {
    let queue = QUEUES[usize::try_from(number).expect("small") % QUEUES.len()];
    Arc::new(JobRow {
        id: id(number),
        queue: queue.into(),
        priority: i64::from(number % 3),
        rules: vec![format!("queue={queue}"), "cpu=4".into()],
        scheduled_at: ago(600).plus(Duration::from_millis(number.into())),
        runnable_at: None,
        pipeline: "web".into(),
        branch: "main".into(),
        build: number.into(),
        step: None,
    })
}

fn request(number: u32) -> Arc<Request> {
    let offer = |backend: &str, place: &str| Offer {
        backend: backend.into(),
        place: place.into(),
        machine_type: "m4".into(),
        spot: false,
        cpu: Cpu::from_millis(4000),
        memory: Bytes::gib(16),
        price_micros_per_hour: 400_000,
        vm: None,
    };
    let shape = Shape {
        cpu: Cpu::from_millis(4000),
        memory: Bytes::gib(16),
        disk: None,
        disk_type: None,
        local_ssds: 0,
        arch: None,
        families: Vec::new(),
        or_any_family: false,
        no_rights: false,
        gpu: None,
        image: None,
        spot: Spot::Allow,
        time: Duration::from_secs(3600),
        zone: None,
        region: None,
    };
    let mut offers = vec![offer("pods", ""), offer("vms", "zone-a"), offer("vms", "zone-b")];
    offers.rotate_left(usize::try_from(number % 2).expect("small"));
    Arc::new(Request { shape, offers, policies: Vec::new(), tags: Vec::new(), assumed: None })
}

fn machine(
    job: JobId,
    queue: &QueueKey,
    offer: &Offer,
    name: MachineName,
    kind: u32,
) -> MachineSeen {
    let phase = match kind {
        7 => Phase::Booting,
        8 => Phase::Ended,
        _ => Phase::Connected,
    };
    MachineSeen {
        job,
        attempt: 1,
        name,
        instance: "one".into(),
        queue: queue.clone(),
        dispatch: "0".into(),
        cpu: offer.cpu,
        memory: offer.memory,
        phase,
        created_at: ago(110),
        connected_at: (kind != 7).then(|| ago(100)),
        deadline_at: NOW.plus(Duration::from_secs(3600)),
        ended: (kind == 8).then(|| Arc::new(end(ago(2)))),
        note: None,
        silent: None,
        leaving: None,
    }
}

/// Of a machine whose agent left in peace.
pub(crate) fn end(at: Timestamp) -> EndSeen {
    EndSeen {
        at,
        cause: "the agent exited with 0".into(),
        log_tail: "".into(),
        cpu_millis_used: None,
        peak_memory: None,
        oom_killed: false,
        ran: None,
        deadline_reached: false,
        taken: false,
        refused: None,
        shortage: None,
    }
}

fn queue_policy() -> QueuePolicy {
    QueuePolicy {
        backends: vec!["pods".into(), "vms".into()],
        tags: BTreeMap::new(),
        unknown_tags: UnknownTags::Wait,
        defaults: Shapes::default(),
        largest: Shapes::default(),
        images: Vec::new(),
        spot: Spot::Allow,
        attempts: 3,
        start_timeout: Duration::from_secs(300),
        priority: 0,
        share: 1,
        limits: Limits::default(),
    }
}

fn backend_policy() -> BackendPolicy {
    BackendPolicy {
        kind: BackendKind::Http,
        limits: Limits::default(),
        capacity: Limits::default(),
        arch: None,
        listing_lag: Duration::ZERO,
        images: Vec::new(),
        vms: None,
    }
}

fn queue_seen() -> QueueSeen {
    QueueSeen { listed_at: Some(ago(1)), ..QueueSeen::default() }
}
