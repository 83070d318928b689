//! The run itself: virtual time, what is to happen at which moment, and what it does to the world.
//! One thread; between two happenings nothing changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use planner::{
    BackendName, Candidate, JobId, JobState, Ledger, Observation, Plan, Policy, QueueKey, Timestamp,
};

use super::backends::{Place, Stage};
use super::buildkite::{Buildkite, Stack};
use super::calls::Call;
use super::cost::Reckon;
use super::day::Day;
use super::dice::Dice;
use super::faults::{Faults, Kind};
use super::invariants::{Broken, Watch};
use super::scene::Scene;
use super::shell::Shell;
use super::sources::Delivery;
use super::story::{Story, short};

/// By how much a change of the limits shortens the start timeout at most.
const SHORTER_MOST: Duration = Duration::from_secs(5);
/// When every run begins, in milliseconds since the epoch.
pub(crate) const BASE: u64 = 1_800_000_000_000;

pub(crate) type Decide<'d> = dyn FnMut(&Ledger, &Observation, &Policy, Timestamp) -> Plan + 'd;

#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Arrives(JobId),
    Cancel(JobId),
    Reprioritise(JobId),
    Pause(QueueKey, bool),
    /// Another stack takes a job that is free, and gives it back or runs it.
    OtherStack,
    OtherStackIsDone(JobId),
    /// Buildkite offers a free job to an agent that polls.
    Offered,
    TakenBack(JobId),
    Lapse(JobId),
    JobRuns(JobId, u64),
    JobEnds(JobId, u64),
    AgentLost(JobId),
    /// The agent saw that its job is to stop, or Buildkite waited long enough for it.
    StopSeen(JobId),
    Machine(u64, Stage),
    CallArrives(u64),
    CallReturns(u64),
    /// For this shell, in this life of it.
    Shell(usize, u32, ToShell),
    Crash(usize),
    /// One more of several.
    CrashAgain(usize),
    Restart(usize),
    Freeze(usize),
    OtherInstallation,
    Window(Window, bool),
    /// The operator has the configuration read again.
    Limits,
    Check,
    /// The next minute of a simulated day.
    Minute,
    Calm,
}

/// What is out of order for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    Buildkite,
    Backend,
    Journal,
    /// The operator wants nothing new to be taken.
    Drain,
}

impl Window {
    const fn kind(self) -> Kind {
        match self {
            Self::Buildkite => Kind::BuildkiteOutage,
            Self::Backend => Kind::BackendOutage,
            Self::Journal => Kind::JournalFull,
            Self::Drain => Kind::Drained,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum ToShell {
    Round,
    ListQueue(QueueKey),
    ListBackend(BackendName),
    /// Out of turn, because something changed there.
    Look(BackendName),
    Deliver(Box<Delivery>),
}

pub(crate) struct Sim<'d> {
    pub(crate) now: Timestamp,
    agenda: BTreeMap<(Timestamp, u64), Happening>,
    serials: u64,
    pub(crate) dice: Dice,
    pub(crate) faults: Faults,
    pub(crate) scene: Scene,
    pub(crate) policy: Policy,
    /// What the policy's limits were before, and until when.
    pub(crate) earlier_limits: Vec<(Timestamp, Policy)>,
    pub(crate) buildkite: Buildkite,
    pub(crate) places: BTreeMap<BackendName, Place>,
    pub(crate) shells: Vec<Shell>,
    pub(crate) calls: BTreeMap<u64, Call>,
    pub(crate) steps: u64,
    pub(crate) watch: Watch,
    pub(crate) broken: Option<Broken>,
    pub(crate) story: Story,
    pub(crate) decide: &'d mut Decide<'d>,
    /// How the processes reckon what their crash would cost.
    pub(crate) reckon: Reckon,
    pub(crate) calm_since: Option<Timestamp>,
    pub(crate) journal_is_full: bool,
    pub(crate) is_draining: bool,
    /// What is so in a day at full size only.
    pub(crate) day: Option<Box<Day>>,
}

impl<'d> Sim<'d> {
    pub(crate) fn new(
        mut dice: Dice,
        scene: Scene,
        faults: Faults,
        story: bool,
        decide: &'d mut Decide<'d>,
    ) -> Self {
        let policy = scene.policy(&mut dice);
        let places = policy.backends.keys().map(|name| (name.clone(), Place::default())).collect();
        Self {
            now: Timestamp::from_millis(BASE),
            agenda: BTreeMap::new(),
            serials: 0,
            dice,
            faults,
            scene,
            policy,
            earlier_limits: Vec::new(),
            buildkite: Buildkite::default(),
            places,
            shells: vec![Shell::new("first")],
            calls: BTreeMap::new(),
            steps: 0,
            watch: Watch::default(),
            broken: None,
            story: Story::new(story),
            decide,
            reckon: planner::worst_cost,
            calm_since: None,
            journal_is_full: false,
            is_draining: false,
            day: None,
        }
    }

    pub(crate) fn serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    /// At so many milliseconds after the beginning.
    pub(crate) fn at(&mut self, millis: u64, what: Happening) {
        let serial = self.serial();
        self.agenda.insert((Timestamp::from_millis(BASE + millis), serial), what);
    }

    pub(crate) fn after(&mut self, span: Duration, what: Happening) {
        let serial = self.serial();
        self.agenda.insert((self.now.plus(span), serial), what);
    }

    pub(crate) fn tell(&mut self, job: Option<JobId>, what: impl FnOnce() -> String) {
        self.story.tell(self.now, job, what);
    }

    /// The next thing happens. False: nothing is left.
    pub(crate) fn step(&mut self) -> bool {
        let Some(((at, _), what)) = self.agenda.pop_first() else { return false };
        self.now = at;
        self.happen(what);
        true
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrives(job) => self.arrives(job),
            Happening::Cancel(job) => self.canceled(job),
            Happening::Reprioritise(job) => self.reprioritised(job),
            Happening::Pause(queue, paused) => self.paused(&queue, paused),
            Happening::OtherStack => self.other_stack(),
            Happening::OtherStackIsDone(job) => self.other_stack_is_done(job),
            Happening::Offered => self.offered(),
            Happening::TakenBack(job) => self.taken_back(job),
            Happening::Lapse(job) => self.lapses(job),
            Happening::JobRuns(job, machine) => self.job_runs(job, machine),
            Happening::JobEnds(job, machine) => self.job_ends(job, machine),
            Happening::AgentLost(job) => self.agent_lost(job),
            Happening::StopSeen(job) => self.stop_seen(job),
            Happening::Machine(machine, stage) => self.stage(machine, stage),
            Happening::CallArrives(call) => self.call_arrives(call),
            Happening::CallReturns(call) => self.call_returns(call),
            Happening::Shell(shell, life, what) => self.reach_shell(shell, life, what),
            Happening::Crash(shell) => self.crash(shell),
            Happening::CrashAgain(shell) => self.crash_again(shell),
            Happening::Restart(shell) => self.start_shell(shell),
            Happening::Freeze(shell) => self.freeze(shell),
            Happening::OtherInstallation => self.other_installation(),
            Happening::Window(kind, open) => self.window(kind, open),
            Happening::Limits => self.change_limits(),
            Happening::Check => self.check(),
            Happening::Minute => self.minute(),
            Happening::Calm => self.calm(),
        }
    }

    fn arrives(&mut self, job: JobId) {
        if self.buildkite.state(job) == JobState::NotReady {
            self.buildkite.set(job, JobState::Scheduled);
            self.tell(Some(job), || "Buildkite schedules the job".to_owned());
        }
    }

    pub(crate) fn canceled(&mut self, job: JobId) {
        let before = self.buildkite.state(job);
        let state = self.buildkite.cancel(job);
        if state != Some(before) {
            self.faults.count(Kind::Cancels);
        }
        self.tell(Some(job), || format!("somebody cancels the job: {state:?}"));
        if state == Some(JobState::Canceling) {
            let seen = self.dice.millis(1_000, 6_000);
            self.after(seen, Happening::StopSeen(job));
        }
    }

    fn reprioritised(&mut self, job: JobId) {
        let priority = i64::from(self.dice.small(0, 20)) - 10;
        let Some(job) = self.buildkite.jobs.get_mut(&job) else { return };
        if job.state == JobState::Scheduled {
            self.faults.count(Kind::Priorities);
        }
        let mut candidate = Candidate::clone(&job.candidate);
        Arc::make_mut(&mut candidate.row).priority = priority;
        job.candidate = Arc::new(candidate);
    }

    fn paused(&mut self, queue: &QueueKey, paused: bool) {
        if paused {
            self.faults.count(Kind::Pauses);
            self.buildkite.paused.insert(queue.clone());
        } else {
            self.buildkite.paused.remove(queue);
        }
        self.tell(None, || format!("queue {queue}: paused is {paused}"));
    }

    fn other_stack(&mut self) {
        let free: Vec<JobId> = self
            .buildkite
            .jobs
            .iter()
            .filter(|(_, job)| job.state == JobState::Scheduled)
            .map(|(id, _)| *id)
            .collect();
        if free.is_empty() || self.faults.is_calm() {
            return;
        }
        let job = free[self.dice.index(free.len())];
        let lease = self.dice.millis(2_000, 20_000);
        self.faults.count(Kind::OtherStack);
        self.buildkite.reserve(job, Stack::Other, self.now.plus(lease), 0, self.now);
        self.tell(Some(job), || "another stack reserves the job".to_owned());
        self.after(lease, Happening::Lapse(job));
        if self.dice.chance(400) {
            let done = self.dice.millis(500, 1_900);
            self.after(done, Happening::OtherStackIsDone(job));
        }
    }

    fn other_stack_is_done(&mut self, job: JobId) {
        let theirs = self
            .buildkite
            .jobs
            .get(&job)
            .and_then(|job| job.reservation)
            .is_some_and(|held| held.by == Stack::Other);
        if theirs {
            self.buildkite.finish_by_stack(job);
            self.tell(Some(job), || "the other stack ran the job".to_owned());
        }
    }

    fn lapses(&mut self, job: JobId) {
        if self.buildkite.lapse(job, self.now) {
            self.tell(Some(job), || "the reservation lapses: visible again".to_owned());
        }
    }

    fn job_runs(&mut self, job: JobId, machine: u64) {
        let alive = self.machine(machine).is_some_and(|machine| machine.is_alive());
        if alive && self.buildkite.state(job) == JobState::Accepted {
            self.buildkite.set(job, JobState::Running);
            let runs = self.buildkite.jobs.get(&job).map_or(Duration::ZERO, |job| job.runs_for);
            self.after(runs, Happening::JobEnds(job, machine));
        }
    }

    fn job_ends(&mut self, job: JobId, machine: u64) {
        let alive = self.machine(machine).is_some_and(|machine| machine.is_alive());
        if !alive || self.buildkite.state(job) != JobState::Running {
            return;
        }
        if self.faults.buildkite_down {
            return self.after(Duration::from_secs(2), Happening::JobEnds(job, machine));
        }
        self.job_over(job, machine, JobState::Finished);
    }

    fn job_over(&mut self, job: JobId, machine: u64, state: JobState) {
        self.buildkite.set(job, state);
        self.tell(Some(job), || format!("the job is over: {state:?}"));
        let lingers =
            self.machine(machine).is_some_and(|m| m.fate == super::backends::Fate::Lingers);
        let stays = if lingers { Duration::from_secs(300) } else { self.dice.millis(20, 6_000) };
        self.after(stays, Happening::Machine(machine, Stage::Leaves));
    }

    fn agent_lost(&mut self, job: JobId) {
        let state = self.buildkite.state(job);
        if matches!(state, JobState::Accepted | JobState::Running) {
            self.buildkite.set(job, JobState::Finished);
            self.tell(Some(job), || {
                "Buildkite gives the agent up: the job ends with -1".to_owned()
            });
            self.is_lost(job);
        }
    }

    fn stop_seen(&mut self, job: JobId) {
        if self.buildkite.state(job) != JobState::Canceling {
            return;
        }
        if self.faults.buildkite_down {
            return self.after(Duration::from_secs(2), Happening::StopSeen(job));
        }
        let holder = self.buildkite.jobs.get(&job).and_then(|job| job.acquired);
        if let Some((machine, _)) = holder {
            self.job_over(job, machine, JobState::Canceled);
        }
    }

    fn crash_again(&mut self, index: usize) {
        if self.faults.has(Kind::CrashLoop) && self.shells[index].alive {
            self.faults.count(Kind::CrashLoop);
        }
        self.crash(index);
    }

    /// The shortest that the start timeout may have been so far.
    pub(crate) fn least_start_timeout(&self) -> Duration {
        let changed = !self.earlier_limits.is_empty();
        self.scene.start_timeout - if changed { SHORTER_MOST } else { Duration::ZERO }
    }

    fn change_limits(&mut self) {
        if self.faults.is_calm() {
            return;
        }
        self.faults.count(Kind::LimitsChange);
        let mut next = self.scene.policy(&mut self.dice);
        let shorter = self.dice.between(0, SHORTER_MOST.as_secs());
        let start_timeout = self.scene.start_timeout - Duration::from_secs(shorter);
        for queue in next.queues.values_mut() {
            queue.start_timeout = start_timeout;
        }
        let before = std::mem::replace(&mut self.policy, next);
        self.earlier_limits.push((self.now, before));
        self.tell(None, || "the limits are others from now on".to_owned());
        for index in 0..self.shells.len() {
            if self.shells[index].alive {
                self.want_round(index, self.now);
            }
        }
    }

    fn window(&mut self, window: Window, open: bool) {
        let open = open && !self.faults.is_calm();
        if open {
            self.faults.count(window.kind());
        }
        match window {
            Window::Buildkite => self.faults.buildkite_down = open,
            Window::Backend if open => {
                let names: Vec<_> = self.places.keys().cloned().collect();
                let name = names[self.dice.index(names.len())].clone();
                self.faults.backend_down.insert(name);
            }
            Window::Backend => self.faults.backend_down.clear(),
            Window::Journal => self.journal_takes_writes(!open),
            Window::Drain => self.drain(open),
        }
        self.tell(None, || format!("{window:?} is out: {open}"));
    }

    /// No bad luck from here on: what is left has to come to a good end.
    fn calm(&mut self) {
        self.tell(None, || "all is calm from here on".to_owned());
        self.faults.calm_down();
        self.calm_since = Some(self.now);
        self.buildkite.paused.clear();
        self.journal_takes_writes(true);
        self.drain(false);
        for shell in self.shells.iter_mut().skip(1) {
            shell.alive = false;
        }
        let foreign: Vec<JobId> = self
            .buildkite
            .jobs
            .iter()
            .filter(|(_, job)| job.is_foreign())
            .map(|(id, _)| *id)
            .collect();
        for job in foreign {
            self.tell(Some(job), || format!("whose job {} is cancels it", short(job)));
            self.buildkite.cancel(job);
        }
    }
}
