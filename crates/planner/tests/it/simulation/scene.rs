//! What a seed begins with: the policy, the jobs with their shapes and their times, and when which
//! bad luck comes. Everything is small enough that a story can be read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use planner::{
    BackendKind, BackendName, BackendPolicy, Bytes, Candidate, Cpu, Foreign, Invalid, JobId,
    JobRow, JobState, Limits, Margins, Offer, Policy, QueueKey, QueuePolicy, Request, Rule, Shape,
    Shapes, Spot, TagError, Timestamp, UnknownTags, Verdict,
};

use super::buildkite::Job;
use super::clocks::Skew;
use super::dice::Dice;
use super::faults::Kind;
use super::losses::{Fate, PER_BUILD};
use super::world::{BASE, Happening, Sim, Window};

/// The policy that asks where builds come from, with a limit of its own.
pub(crate) const ASKING: usize = 0;

/// How large a run is, and what does not change in it.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) jobs: u64,
    /// Jobs come and faults strike for this long; then all is calm.
    pub(crate) busy: Duration,
    /// The longest; it may be shorter while the limits are others.
    pub(crate) start_timeout: Duration,
    pub(crate) jobs_alike: bool,
    pub(crate) pace: Pace,
    /// Where it is not drawn by lot.
    pub(crate) policy: Option<Arc<Policy>>,
}

/// How quick the world and those who look at it are; spans of chance in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// The least time between two rounds.
    pub(crate) between_rounds: Duration,
    /// Between two looks at a queue and at a backend, while something is there and while not.
    pub(crate) queue: [u64; 2],
    pub(crate) backend: [u64; 2],
    /// Whether backends tell at once when something changes there.
    pub(crate) watched: bool,
    /// The backend with a rate budget, how many creates it has at once and in a second.
    pub(crate) paced: &'static str,
    pub(crate) creates: [u32; 2],
    /// How long a machine takes to be provisioned, to boot, and to go once it is deleted.
    pub(crate) provisions: [u64; 2],
    pub(crate) boots: [u64; 2],
    pub(crate) goes: [u64; 2],
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            between_rounds: Duration::from_millis(10),
            queue: [250, 1_000],
            backend: [1_000, 5_000],
            watched: true,
            paced: "vms",
            creates: [4, 1],
            provisions: [50, 1_500],
            boots: [100, 6_000],
            goes: [0, 800],
        }
    }
}

impl Scene {
    pub(crate) fn of(dice: &mut Dice) -> Self {
        Self {
            jobs: dice.between(6, 24),
            busy: Duration::from_secs(dice.between(30, 90)),
            start_timeout: Duration::from_secs(dice.between(20, 45)),
            jobs_alike: false,
            pace: Pace::default(),
            policy: None,
        }
    }

    /// A few equal jobs for us, nothing odd: for crashes at every action.
    pub(crate) fn small() -> Self {
        Self {
            jobs: 3,
            busy: Duration::from_secs(20),
            start_timeout: Duration::from_secs(20),
            jobs_alike: true,
            pace: Pace::default(),
            policy: None,
        }
    }

    pub(crate) fn policy(&self, dice: &mut Dice) -> Policy {
        if let Some(policy) = &self.policy {
            return Policy::clone(policy);
        }
        let queue = |name: &str, limits| (QueueKey::new(name), self.queue_policy(limits));
        let mut maybe = |low, high| dice.chance(500).then(|| dice.small(low, high));
        let limits = Limits {
            machines: maybe(3, 10),
            cpu: maybe(12, 40).map(|cpu| Cpu::from_millis(cpu * 1000)),
            memory: maybe(48, 128).map(|gib| Bytes::gib(gib.into())),
            cost_micros_per_hour: maybe(2, 9).map(|units| u64::from(units) * 1_000_000),
        };
        let large = Limits { machines: maybe(1, 4), ..Limits::default() };
        let rule = Limits { machines: maybe(1, 3), ..Limits::default() };
        let pods = Limits { cpu: Some(Cpu::from_millis(16_000)), ..Limits::default() };
        Policy {
            name: "jitney".into(),
            queues: [queue("linux", Limits::default()), queue("large", large)].into(),
            classes: BTreeMap::new(),
            rules: vec![Rule { limits: rule, ..Rule::default() }],
            retry_lost: Some(PER_BUILD),
            limits,
            backends: [
                ("pods".into(), backend(BackendKind::Kubernetes, Duration::ZERO, pods)),
                (
                    "vms".into(),
                    backend(BackendKind::Gce, Duration::from_secs(10), Limits::default()),
                ),
            ]
            .into(),
            margins: Margins::default(),
        }
    }

    fn queue_policy(&self, limits: Limits) -> QueuePolicy {
        QueuePolicy {
            backends: vec!["pods".into(), "vms".into()],
            tags: BTreeMap::new(),
            unknown_tags: UnknownTags::Wait,
            defaults: Shapes::default(),
            largest: Shapes::default(),
            images: Vec::new(),
            spot: Spot::Allow,
            attempts: 3,
            start_timeout: self.start_timeout,
            priority: 0,
            share: 1,
            limits,
        }
    }
}

fn backend(kind: BackendKind, listing_lag: Duration, capacity: Limits) -> BackendPolicy {
    BackendPolicy {
        kind,
        limits: Limits::default(),
        capacity,
        arch: None,
        listing_lag,
        images: Vec::new(),
        vms: None,
    }
}

fn offer(backend: &str, place: &str, cpu: u32, price: u64) -> Offer {
    Offer {
        backend: BackendName::new(backend),
        place: place.into(),
        machine_type: format!("m{cpu}").into(),
        spot: false,
        cpu: Cpu::from_millis(cpu * 1000),
        memory: Bytes::gib(u64::from(cpu) * 4),
        price_micros_per_hour: price * u64::from(cpu),
        vm: None,
    }
}

fn request(dice: &mut Dice) -> Request {
    let cpu = [1, 2, 4, 8][dice.index(4)];
    let shape = Shape {
        cpu: Cpu::from_millis(cpu * 1000),
        memory: Bytes::gib(u64::from(cpu) * 4),
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
        time: Duration::from_secs(dice.between(60, 120)),
        zone: None,
        region: None,
    };
    let mut offers = vec![
        offer("pods", "", cpu, 90_000),
        offer("vms", "zone-a", cpu, 100_000),
        offer("vms", "zone-b", cpu, 110_000),
    ];
    if dice.chance(200) {
        offers.remove(0);
    }
    let policies = if dice.chance(300) { vec![ASKING] } else { Vec::new() };
    Request { shape, offers, policies, tags: Vec::new(), assumed: None }
}

fn verdict(dice: &mut Dice, alike: bool) -> Verdict {
    let odd = if alike { 999 } else { dice.between(0, 99) };
    match odd {
        0..=5 => Verdict::Foreign(Foreign::UnknownTag {
            tag: "memroy=4G".into(),
            nearest: Some("memory".into()),
        }),
        6..=11 => Verdict::Invalid(Invalid::Tag(TagError {
            tag: "memory=64GB!".into(),
            problem: "`!` is no unit".into(),
            remedy: "write memory=64G".into(),
        })),
        _ => Verdict::Ours(Arc::new(request(dice))),
    }
}

/// How far the clocks of others may be off.
const MINUTES: u64 = 300_000;

impl Sim<'_> {
    /// All jobs and all bad luck, each at its time.
    pub(crate) fn set_the_scene(&mut self) {
        let busy = u64::try_from(self.scene.busy.as_millis()).expect("a short time");
        self.set_other_clocks();
        for number in 0..self.scene.jobs {
            let at = match number % 3 {
                0 => 200,
                _ => self.dice.between(0, busy * 2 / 3),
            };
            self.add_job(number, at);
        }
        if self.faults.has(Kind::Pauses) {
            let (from, to) = (self.dice.between(0, busy / 2), self.dice.between(busy / 2, busy));
            self.at(from, Happening::Pause("linux".into(), true));
            self.at(to, Happening::Pause("linux".into(), false));
        }
        self.windows(busy);
        self.process_faults(busy);
        self.after(self.scene.busy, Happening::Calm);
        self.after(Duration::from_secs(1), Happening::Check);
        self.start_shell(0);
    }

    fn set_other_clocks(&mut self) {
        if self.faults.has(Kind::OtherClocks) {
            self.faults.count(Kind::OtherClocks);
            self.buildkite.clock = Skew::of(&mut self.dice, MINUTES);
            for place in self.places.values_mut() {
                place.clock = Skew::of(&mut self.dice, MINUTES);
            }
        }
    }

    fn add_job(&mut self, number: u64, at: u64) {
        let id = JobId(self.dice.uuid());
        let verdict = verdict(&mut self.dice, self.scene.jobs_alike);
        let queue = if self.dice.chance(300) { "large" } else { "linux" };
        let row = JobRow {
            id,
            queue: queue.into(),
            priority: 0,
            rules: vec![format!("queue={queue}")],
            scheduled_at: self.buildkite.clock.shows(Timestamp::from_millis(BASE + at)),
            runnable_at: None,
            pipeline: "web".into(),
            branch: "main".into(),
            build: 1 + number / 24,
            step: None,
        };
        let mut runs_for = self.dice.millis(500, 15_000);
        if self.strikes(Kind::RunsTooLong, 250) {
            runs_for = Duration::from_secs(400);
        }
        let (verdict, hidden) = self.hide(id, verdict);
        let job = Job {
            candidate: Arc::new(Candidate { row: Arc::new(row), verdict }),
            hidden,
            state: JobState::NotReady,
            reservation: None,
            acquired: None,
            acquires: 0,
            runs_for,
            failed_by_us: false,
            fate: Fate::default(),
        };
        self.buildkite.jobs.insert(id, job);
        self.at(at, Happening::Arrives(id));
        if self.looms(Kind::Cancels, 500) {
            let later = at + self.dice.between(0, 15_000);
            self.at(later, Happening::Cancel(id));
        }
        if self.looms(Kind::Priorities, 500) {
            let later = at + self.dice.between(0, 10_000);
            self.at(later, Happening::Reprioritise(id));
        }
    }

    /// Of some jobs a policy asks where their builds come from, and only a look tells.
    fn hide(&self, id: JobId, verdict: Verdict) -> (Verdict, Option<Arc<Request>>) {
        let [_, one, two, ..] = id.0.as_bytes();
        let asks = !self.scene.jobs_alike && one.is_multiple_of(4);
        match verdict {
            Verdict::Ours(request) if asks => {
                let policies = if two.is_multiple_of(2) { vec![ASKING] } else { Vec::new() };
                let request = Request { policies, ..Arc::unwrap_or_clone(request) };
                (Verdict::Undecided { policies: vec![ASKING] }, Some(Arc::new(request)))
            }
            verdict @ (Verdict::Ours(_)
            | Verdict::Invalid(_)
            | Verdict::Foreign(_)
            | Verdict::Undecided { .. }) => (verdict, None),
        }
    }

    /// Outages and other things that last for a while.
    fn windows(&mut self, busy: u64) {
        let windows = [
            (Kind::BuildkiteOutage, Window::Buildkite),
            (Kind::BackendOutage, Window::Backend),
            (Kind::JournalFull, Window::Journal),
            (Kind::Drained, Window::Drain),
        ];
        for (kind, window) in windows {
            if self.faults.has(kind) {
                let from = self.dice.between(0, busy / 2);
                let to = from + self.dice.between(5_000, 60_000);
                self.at(from, Happening::Window(window, true));
                self.at(to, Happening::Window(window, false));
            }
        }
    }

    /// What happens to our own processes.
    fn process_faults(&mut self, busy: u64) {
        if self.faults.has(Kind::Frozen) {
            let from = self.dice.between(1_000, busy * 2 / 3);
            self.at(from, Happening::Freeze(0));
        }
        if self.faults.has(Kind::CrashLoop) {
            for _ in 0..self.dice.between(3, 8) {
                let from = self.dice.between(500, busy);
                self.at(from, Happening::CrashAgain(0));
            }
        }
        // Both need a start that is not the first.
        if self.faults.has(Kind::ClockSet) || self.faults.has(Kind::LostJournal) {
            for _ in 0..self.dice.between(1, 3) {
                let from = self.dice.between(500, busy);
                self.at(from, Happening::CrashAgain(0));
            }
        }
        if self.faults.has(Kind::TwoInstallations) {
            let from = self.dice.between(1_000, busy / 2);
            self.at(from, Happening::OtherInstallation);
        }
        if self.faults.has(Kind::OtherStack) {
            for _ in 0..self.dice.between(5, 20) {
                let from = self.dice.between(300, busy);
                self.at(from, Happening::OtherStack);
            }
        }
        if self.faults.has(Kind::TakenBack) {
            for _ in 0..self.dice.between(3, 10) {
                let from = self.dice.between(300, busy);
                self.at(from, Happening::Offered);
            }
        }
        if self.faults.has(Kind::LimitsChange) {
            for _ in 0..self.dice.between(1, 4) {
                let from = self.dice.between(500, busy);
                self.at(from, Happening::Limits);
            }
        }
    }
}
