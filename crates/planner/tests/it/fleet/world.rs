//! The virtual clock, what happens next on it, and the run of one seed from its scene to the end.

use std::collections::BTreeMap;

use planner::Timestamp;
use planner::fleet::{ARRIVAL, DispatchId, Ledger, Plan, Policy, Seen};

use super::cluster::{Cluster, PodId};
use super::promises::{Broken, Promise};
use super::queue::Queue;
use super::scene::{Kind, Scene};
use super::shell::{Call, Process};
use crate::simulation::dice::Dice;

/// Virtual time begins here, so that nothing is before the epoch.
pub(super) const BASE: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

pub(super) type Decide<'a> =
    &'a mut dyn FnMut(&Ledger, &Seen, &Policy, DispatchId, Timestamp) -> Plan;

#[derive(Clone, Debug)]
pub(super) enum Happening {
    Arrives,
    Assign,
    Cancel,
    /// The controller makes the pods of a dispatch.
    MakePods(DispatchId),
    Starts(PodId),
    Connects(PodId),
    /// For so long without a job: the number says which stay it was.
    Idle(PodId, u64),
    Ran(PodId, u64),
    Dies(PodId),
    Gone(PodId),
    Sync(DispatchId),
    Deadline(DispatchId),
    Remove(DispatchId),
    /// The shell's own doings, of the process with this number.
    Shell(u64, Call),
    /// A create reaches the cluster.
    Create {
        id: DispatchId,
        agents: u32,
        decided_at: u64,
        max: u32,
    },
    Crash,
    NodeLost,
    Limits,
    Window(Kind, bool),
    Calm,
}

pub(super) struct Sim<'a> {
    pub(super) now: u64,
    pub(super) dice: Dice,
    pub(super) scene: Scene,
    pub(super) policy: Policy,
    pub(super) calm: bool,
    pub(super) windows: BTreeMap<Kind, bool>,
    pub(super) queue: Queue,
    pub(super) cluster: Cluster,
    pub(super) process: Process,
    pub(super) decide: Decide<'a>,
    pub(super) broken: Option<Broken>,
    pub(super) dispatches: u64,
    pub(super) alerts: u64,
    coming: BTreeMap<(u64, u64), Happening>,
    number: u64,
}

/// What one seed came to.
pub(super) struct Ran {
    pub(super) broken: Option<Broken>,
    pub(super) dispatches: u64,
    pub(super) alerts: u64,
    pub(super) jobs: u32,
    /// Virtual milliseconds.
    pub(super) took: u64,
}

pub(super) fn run(scene: Scene, dice: Dice, decide: Decide<'_>) -> Ran {
    let mut sim = Sim {
        now: BASE,
        dice,
        policy: scene.policy,
        calm: false,
        windows: BTreeMap::new(),
        queue: Queue::new(scene.other_agents),
        cluster: Cluster::default(),
        process: Process::new(0, BASE, 0),
        decide,
        broken: None,
        dispatches: 0,
        alerts: 0,
        coming: BTreeMap::new(),
        number: 0,
        scene,
    };
    sim.set_the_scene();
    while sim.broken.is_none() && sim.step() {}
    Ran {
        broken: sim.broken,
        dispatches: sim.dispatches,
        alerts: sim.alerts,
        jobs: sim.scene.jobs,
        took: sim.now - BASE,
    }
}

impl Sim<'_> {
    pub(super) fn has(&self, kind: Kind) -> bool {
        !self.calm && self.scene.faults.contains(&kind)
    }

    pub(super) fn strikes(&mut self, kind: Kind, per_mille: u64) -> bool {
        self.has(kind) && self.dice.chance(per_mille)
    }

    pub(super) fn is_down(&self, kind: Kind) -> bool {
        self.windows.get(&kind).copied().unwrap_or(false)
    }

    pub(super) fn after(&mut self, millis: u64, happening: Happening) {
        self.number += 1;
        self.coming.insert((self.now + millis, self.number), happening);
    }

    pub(super) fn within(&mut self, (low, high): (u64, u64)) -> u64 {
        self.dice.between(low, high)
    }

    fn set_the_scene(&mut self) {
        let busy = self.scene.busy;
        let bursts = self.has(Kind::Bursts);
        let burst = self.dice.between(0, busy);
        for _ in 0..self.scene.jobs {
            let at =
                if bursts && self.dice.chance(700) { burst } else { self.dice.between(0, busy) };
            self.after(at, Happening::Arrives);
        }
        if self.has(Kind::Cancels) {
            for _ in 0..self.scene.jobs / 2 {
                let at = self.dice.between(0, busy);
                self.after(at, Happening::Cancel);
            }
        }
        let several = [
            (Kind::Crash, Happening::Crash),
            (Kind::ClockSetBack, Happening::Crash),
            (Kind::NodeLost, Happening::NodeLost),
            (Kind::LimitsChange, Happening::Limits),
        ];
        for (kind, happening) in several {
            for _ in 0..if self.has(kind) { self.dice.between(1, 6) } else { 0 } {
                let at = self.dice.between(500, busy);
                self.after(at, happening.clone());
            }
        }
        for kind in [Kind::CountsFail, Kind::ClusterFails, Kind::ControllerDown] {
            if self.has(kind) {
                let from = self.dice.between(0, busy / 2);
                let to = from + self.dice.between(5_000, 300_000);
                self.after(from, Happening::Window(kind, true));
                self.after(to, Happening::Window(kind, false));
            }
        }
        self.after(busy, Happening::Calm);
        self.after(10, Happening::Shell(0, Call::Round));
    }

    /// Whether there is more to come.
    fn step(&mut self) -> bool {
        let Some(((at, _), happening)) = self.coming.pop_first() else { return false };
        self.now = at;
        self.happens(happening);
        self.goes_on()
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives => self.arrives(),
            Happening::Assign => self.assign(),
            Happening::Cancel => self.cancel(),
            Happening::MakePods(id) => self.make_pods(id),
            Happening::Starts(pod) => self.starts(pod),
            Happening::Connects(pod) => self.connects(pod),
            Happening::Idle(pod, stay) => self.idle(pod, stay),
            Happening::Ran(pod, stay) => self.ran(pod, stay),
            Happening::Dies(pod) => self.dies(pod),
            Happening::Gone(pod) => self.gone(pod),
            Happening::Sync(id) => self.sync(id),
            Happening::Deadline(id) => self.deadline(id),
            Happening::Remove(id) => self.remove(id),
            Happening::Shell(process, call) if process == self.process.number => self.shell(call),
            // Of a process that is no more.
            Happening::Shell(..) => {}
            Happening::Create { id, agents, decided_at, max } => {
                self.create(id, agents, decided_at, max);
            }
            Happening::Crash => self.crash(),
            Happening::NodeLost => self.node_lost(),
            Happening::Limits => {
                self.policy.max = self.dice.small(1, self.scene.policy.max);
                self.policy.min = self.policy.min.min(self.policy.max);
            }
            Happening::Window(kind, down) => {
                self.windows.insert(kind, down && !self.calm);
            }
            Happening::Calm => self.calm_down(),
        }
    }

    fn crash(&mut self) {
        if self.calm {
            return;
        }
        let back = if self.strikes(Kind::ClockSetBack, 700) { HOUR } else { 0 };
        self.nobody_waits();
        let number = self.process.number + 1;
        let pause = self.dice.between(100, 12_000);
        self.process = Process::new(number, self.now + pause, self.process.clock_behind + back);
        self.after(pause, Happening::Shell(number, Call::Round));
    }

    /// What a process that is no more has sent arrives soon, or never.
    fn nobody_waits(&mut self) {
        let soon = self.now + u64::try_from(ARRIVAL.as_millis()).expect("seconds") - 100;
        let late = |(key, happening): (&(u64, u64), &Happening)| {
            (key.0 > soon && matches!(happening, Happening::Create { .. })).then_some(*key)
        };
        let keys: Vec<(u64, u64)> = self.coming.iter().filter_map(late).collect();
        for key in keys {
            if let Some(create) = self.coming.remove(&key) {
                self.coming.insert((soon, key.1), create);
            }
        }
    }

    fn calm_down(&mut self) {
        self.calm = true;
        self.windows.clear();
        self.policy = self.scene.policy;
        self.cluster_calms_down();
    }

    /// The end is good once all jobs are done, nothing is left, and what is kept is there.
    fn goes_on(&mut self) -> bool {
        if !self.calm || self.broken.is_some() {
            return self.broken.is_none();
        }
        let calm_at = BASE + self.scene.busy;
        let Some(done_at) = self.queue.all_done_at(self.scene.jobs) else {
            if self.now > calm_at + self.scene.patience() {
                self.breaks(Promise::Served, "jobs wait, and nothing is wrong any more");
            }
            return self.broken.is_none();
        };
        let (open, min) = (self.cluster.open(), self.policy.min);
        if min == 0 && self.cluster.is_empty() {
            return false;
        }
        let quiet = self.scene.empties();
        let settled = self.now.saturating_sub(done_at.max(calm_at) + quiet);
        if settled == 0 {
            return true;
        }
        // What is given up and comes after all is more than is kept, for a while.
        let slow = u128::from(self.scene.startup.1) > self.policy.at_most.as_millis();
        if min == 0 || (open > min && !slow) {
            self.breaks(Promise::Empties, &format!("{open} pods are left, {min} are kept"));
        } else if open == 0 && settled > 600_000 {
            self.breaks(Promise::Keeps, &format!("none of {min} agents is there"));
        }
        // Agents that leave are replaced a moment later.
        self.broken.is_none() && open == 0
    }

    pub(super) fn breaks(&mut self, promise: Promise, words: &str) {
        let seconds = (self.now - BASE) / 1000;
        let words = format!("{seconds} s: {words}");
        self.broken.get_or_insert(Broken { promise, words });
    }
}
