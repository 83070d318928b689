//! Buildkite's side: jobs that come, agents that take them, and what is counted.

use std::collections::{BTreeSet, VecDeque};

use planner::fleet::Agents;

use super::cluster::{PodId, State};
use super::scene::Kind;
use super::world::{Happening, Sim};

#[derive(Debug, Default)]
pub(super) struct Queue {
    scheduled: u32,
    pub(super) arrived: u32,
    finished: u32,
    finished_at: u64,
    /// Agents of ours without a job.
    idle: BTreeSet<PodId>,
    busy: BTreeSet<PodId>,
    /// Agents of others, each free from this time on.
    others: Vec<u64>,
    /// Numbers that were counted, newest last: (when, what).
    counted: VecDeque<(u64, Numbers)>,
}

/// What Buildkite says, and what was true then and it cannot say.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    pub(super) at: u64,
    pub(super) scheduled: u32,
    pub(super) running: u32,
    pub(super) agents: Agents,
    /// Pods whose agent was not there yet.
    pub(super) unregistered: BTreeSet<PodId>,
}

impl Queue {
    pub(super) fn new(others: u32) -> Self {
        Self { others: vec![0; usize::try_from(others).expect("few")], ..Self::default() }
    }

    pub(super) fn all_done_at(&self, jobs: u32) -> Option<u64> {
        let done = self.arrived == jobs && self.finished == jobs;
        done.then_some(self.finished_at)
    }

    pub(super) fn left(&mut self, pod: PodId) -> bool {
        self.idle.remove(&pod) || self.busy.remove(&pod)
    }

    pub(super) fn is_busy(&self, pod: PodId) -> bool {
        self.busy.contains(&pod)
    }

    pub(super) fn finish(&mut self, now: u64) {
        self.finished += 1;
        self.finished_at = now;
    }
}

impl Sim<'_> {
    pub(super) fn arrives(&mut self) {
        self.queue.arrived += 1;
        self.queue.scheduled += 1;
        self.assigns_soon();
    }

    /// An agent asks for a job every few seconds.
    fn assigns_soon(&mut self) {
        let asks = self.dice.between(0, 5_000);
        self.after(asks, Happening::Assign);
    }

    pub(super) fn cancel(&mut self) {
        if !self.calm && self.queue.scheduled > 0 {
            self.queue.scheduled -= 1;
            self.queue.finish(self.now);
        }
    }

    pub(super) fn agent_is_there(&mut self, pod: PodId) {
        self.queue.idle.insert(pod);
        self.stays(pod);
        self.assigns_soon();
    }

    fn stays(&mut self, pod: PodId) {
        let stay = self.cluster.next_stay(pod);
        self.after(self.scene.idle_timeout, Happening::Idle(pod, stay));
    }

    pub(super) fn assign(&mut self) {
        while self.queue.scheduled > 0 {
            let runs = self.within(self.scene.runs);
            if let Some(free) = self.queue.others.iter_mut().find(|until| **until <= self.now) {
                *free = self.now + runs;
                self.queue.scheduled -= 1;
                self.queue.finish(self.now + runs);
                self.after(runs, Happening::Assign);
                continue;
            }
            let Some(pod) = self.queue.idle.pop_first() else { return };
            self.queue.scheduled -= 1;
            self.queue.busy.insert(pod);
            let stay = self.cluster.next_stay(pod);
            self.after(runs, Happening::Ran(pod, stay));
            if self.strikes(Kind::Dies, 150) {
                let at = self.dice.between(0, runs);
                self.after(at, Happening::Dies(pod));
            }
        }
    }

    pub(super) fn idle(&mut self, pod: PodId, stay: u64) {
        if self.cluster.stay(pod) == Some(stay) && self.queue.left(pod) {
            self.ends(pod, State::Done);
        }
    }

    /// The agent has disconnected; its pod ends a little later.
    pub(super) fn ran(&mut self, pod: PodId, stay: u64) {
        if self.cluster.stay(pod) == Some(stay) && self.queue.left(pod) {
            self.queue.finish(self.now);
            let leaves = self.dice.between(50, 1_500);
            self.after(leaves, Happening::Gone(pod));
        }
    }

    /// The numbers as Buildkite tells them: its own, or some that are as old as it admits.
    pub(super) fn count(&mut self) -> Numbers {
        let oldest = self.now - self.scene.lag;
        while self.queue.counted.front().is_some_and(|(at, _)| *at < oldest) {
            self.queue.counted.pop_front();
        }
        if self.has(Kind::OldCounts)
            && let Some((_, numbers)) = self.queue.counted.front()
        {
            return numbers.clone();
        }
        let numbers = self.numbers();
        self.queue.counted.push_back((self.now, numbers.clone()));
        numbers
    }

    fn numbers(&self) -> Numbers {
        let number = |count: usize| u32::try_from(count).expect("few");
        let others_busy =
            number(self.queue.others.iter().filter(|until| **until > self.now).count());
        let others_idle = number(self.queue.others.len()) - others_busy;
        let (idle, busy) = (number(self.queue.idle.len()), number(self.queue.busy.len()));
        let agents = Agents {
            total: idle + busy + others_idle + others_busy,
            idle: idle + others_idle,
            busy: busy + others_busy,
        };
        Numbers {
            at: self.now,
            scheduled: self.queue.scheduled,
            running: busy + others_busy,
            agents,
            unregistered: self.cluster.unregistered(),
        }
    }
}
