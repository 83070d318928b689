//! The cluster's side: Jobs, the pods that a controller makes of them, nodes that are lost, and the
//! status that is written a little after the fact.

use std::collections::{BTreeMap, BTreeSet};

use planner::Timestamp;
use planner::fleet::{Dispatch, DispatchId};

use super::scene::Kind;
use super::world::{Happening, Sim};

pub(super) type PodId = (DispatchId, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Also where the controller has not made it yet.
    Pending,
    /// Runs, and has no agent yet.
    Ready,
    /// Has an agent, or had one a moment ago.
    Registered,
    Done,
    Failed,
    /// On a node that is gone: counts as failed, and is still there.
    Leaving,
}

#[derive(Debug)]
struct Pod {
    state: State,
    /// Counts the times that its agent was free or took a job.
    stay: u64,
}

#[derive(Debug)]
pub(super) struct Job {
    pods: Vec<Pod>,
    pub(super) arrived_at: u64,
    pub(super) decided_at: u64,
    ever_ready: bool,
    pub(super) failed_once: bool,
    /// By the deadline.
    over: bool,
    sync_due: bool,
    removal_due: bool,
    status: Dispatch,
}

#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) jobs: BTreeMap<DispatchId, Job>,
    /// Waiting for the calm.
    stuck: BTreeSet<PodId>,
}

impl Job {
    fn count(&self, state: State) -> u32 {
        let count = self.pods.iter().filter(|pod| pod.state == state).count();
        u32::try_from(count).expect("few")
    }

    pub(super) fn wanted(&self) -> u32 {
        u32::try_from(self.pods.len()).expect("few")
    }

    /// Pods that exist, or will.
    pub(super) fn holding(&self) -> u32 {
        self.wanted() - self.count(State::Done) - self.count(State::Failed)
    }

    pub(super) fn arrived(&self) -> u32 {
        let online = self.count(State::Ready) + self.count(State::Registered);
        online + self.count(State::Done)
    }

    pub(super) fn nothing_came(&self) -> bool {
        !self.ever_ready
    }

    fn truth(&self) -> Dispatch {
        Dispatch {
            online: self.count(State::Ready) + self.count(State::Registered),
            done: self.count(State::Done),
            failed: self.count(State::Failed) + self.count(State::Leaving),
            leaving: self.count(State::Leaving),
            over: self.over && self.holding() == 0,
            ..self.status.clone()
        }
    }
}

impl Cluster {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn open(&self) -> u32 {
        self.jobs.values().map(|job| job.holding() - job.count(State::Leaving)).sum()
    }

    /// What is kept is reckoned without these; which of their pods are ready is seen a little late.
    pub(super) fn open_but(&self, given_up: &BTreeSet<DispatchId>) -> u32 {
        let others = self.jobs.iter().filter(|(id, _)| !given_up.contains(id));
        others.map(|(_, job)| job.holding() - job.count(State::Leaving)).sum()
    }

    /// Pods that are ready, and whose status does not say so.
    pub(super) fn not_told_yet(&self, id: DispatchId) -> u32 {
        self.jobs.get(&id).map_or(0, |job| job.truth().online.saturating_sub(job.status.online))
    }

    pub(super) fn next_stay(&mut self, (id, index): PodId) -> u64 {
        let pod = self.pod((id, index)).expect("an agent has a pod");
        pod.stay += 1;
        pod.stay
    }

    pub(super) fn stay(&mut self, pod: PodId) -> Option<u64> {
        self.pod(pod).map(|pod| pod.stay)
    }

    pub(super) fn unregistered(&self) -> BTreeSet<PodId> {
        let waits = |pod: &Pod| matches!(pod.state, State::Pending | State::Ready);
        let of = |(id, job): (&DispatchId, &Job)| {
            let pods = job.pods.iter().zip(0..).filter(|(pod, _)| waits(pod));
            pods.map(|(_, index)| (*id, index)).collect::<Vec<_>>()
        };
        self.jobs.iter().flat_map(of).collect()
    }

    pub(super) fn statuses(&self) -> Vec<Dispatch> {
        self.jobs.values().map(|job| job.status.clone()).collect()
    }

    fn pod(&mut self, (id, index): PodId) -> Option<&mut Pod> {
        let index = usize::try_from(index).expect("few");
        self.jobs.get_mut(&id)?.pods.get_mut(index)
    }

    fn is(&mut self, pod: PodId, state: State) -> bool {
        self.pod(pod).is_some_and(|pod| pod.state == state)
    }
}

impl Sim<'_> {
    /// A create takes effect. The same name again makes nothing.
    pub(super) fn create(&mut self, id: DispatchId, agents: u32, decided_at: u64, max: u32) {
        if self.cluster.jobs.contains_key(&id) {
            return;
        }
        self.check_create(id, agents, decided_at, max);
        self.dispatches += 1;
        let status = Dispatch {
            id,
            wanted: agents,
            made_at: Timestamp::from_millis(decided_at - self.process.clock_behind),
            online: 0,
            done: 0,
            failed: 0,
            leaving: 0,
            over: false,
            trouble: None,
            sized_on: None,
        };
        let pods = (0..agents).map(|_| Pod { state: State::Pending, stay: 0 }).collect();
        let job = Job {
            pods,
            arrived_at: self.now,
            decided_at,
            ever_ready: false,
            failed_once: false,
            over: false,
            sync_due: false,
            removal_due: false,
            status,
        };
        self.cluster.jobs.insert(id, job);
        self.after(self.scene.deadline, Happening::Deadline(id));
        let makes = self.dice.between(50, 600);
        self.after(makes, Happening::MakePods(id));
    }

    pub(super) fn make_pods(&mut self, id: DispatchId) {
        if self.is_down(Kind::ControllerDown) {
            return self.after(1_000, Happening::MakePods(id));
        }
        let Some(job) = self.cluster.jobs.get(&id) else { return };
        let stuck = job.wanted() > 0 && self.strikes(Kind::NeverCome, 300);
        for index in 0..self.cluster.jobs[&id].wanted() {
            if stuck {
                self.cluster.stuck.insert((id, index));
                continue;
            }
            let starts = self.within(self.scene.startup);
            self.after(starts, Happening::Starts((id, index)));
        }
    }

    pub(super) fn starts(&mut self, pod: PodId) {
        if !self.cluster.is(pod, State::Pending) {
            return;
        }
        if self.strikes(Kind::DieEarly, 600) {
            return self.ends(pod, State::Failed);
        }
        self.becomes(pod, State::Ready);
        if let Some(job) = self.cluster.jobs.get_mut(&pod.0) {
            job.ever_ready = true;
        }
        if !self.strikes(Kind::Zombies, 100) {
            let connects = self.within(self.scene.connects);
            self.after(connects, Happening::Connects(pod));
        }
    }

    pub(super) fn connects(&mut self, pod: PodId) {
        if self.cluster.is(pod, State::Ready) {
            self.becomes(pod, State::Registered);
            self.agent_is_there(pod);
        }
    }

    /// Killed from outside; Buildkite gives the job of a lost agent up.
    pub(super) fn dies(&mut self, pod: PodId) {
        if self.cluster.is(pod, State::Registered) && self.queue.is_busy(pod) {
            self.drops(pod);
            self.ends(pod, State::Failed);
        }
    }

    /// The job of an agent that is lost ends as well.
    fn drops(&mut self, pod: PodId) {
        let busy = self.queue.is_busy(pod);
        if self.queue.left(pod) && busy {
            self.queue.finish(self.now);
        }
    }

    pub(super) fn gone(&mut self, pod: PodId) {
        if self.cluster.is(pod, State::Leaving) {
            self.ends(pod, State::Failed);
        } else if self.cluster.is(pod, State::Registered) {
            self.ends(pod, State::Done);
        }
    }

    pub(super) fn node_lost(&mut self) {
        if self.calm {
            return;
        }
        let there = |pod: &Pod| matches!(pod.state, State::Ready | State::Registered);
        let mut lost = Vec::new();
        for (id, job) in &self.cluster.jobs {
            for (pod, index) in job.pods.iter().zip(0..) {
                if there(pod) && self.dice.chance(400) {
                    lost.push((*id, index));
                }
            }
        }
        for pod in lost {
            self.drops(pod);
            self.becomes(pod, State::Leaving);
            let gone = self.dice.between(10_000, 400_000);
            self.after(gone, Happening::Gone(pod));
        }
    }

    fn becomes(&mut self, pod: PodId, state: State) {
        if let Some(seen) = self.cluster.pod(pod) {
            seen.state = state;
            // Whatever was to come of the stay before does not come any more.
            seen.stay += 1;
        }
        if let Some(job) = self.cluster.jobs.get_mut(&pod.0) {
            job.failed_once |= matches!(state, State::Failed | State::Leaving);
        }
        self.sync_soon(pod.0);
    }

    pub(super) fn ends(&mut self, pod: PodId, state: State) {
        self.becomes(pod, state);
    }

    fn sync_soon(&mut self, id: DispatchId) {
        let lag = self.dice.between(50, 1_500);
        if let Some(job) = self.cluster.jobs.get_mut(&id)
            && !job.sync_due
        {
            job.sync_due = true;
            self.after(lag, Happening::Sync(id));
        }
    }

    pub(super) fn sync(&mut self, id: DispatchId) {
        if self.is_down(Kind::ControllerDown) {
            return self.after(1_000, Happening::Sync(id));
        }
        let ttl = self.scene.ttl;
        let Some(job) = self.cluster.jobs.get_mut(&id) else { return };
        job.sync_due = false;
        job.over |= job.holding() == 0;
        job.status = job.truth();
        if job.status.over && !job.removal_due {
            job.removal_due = true;
            self.after(ttl, Happening::Remove(id));
        }
    }

    pub(super) fn deadline(&mut self, id: DispatchId) {
        let Some(job) = self.cluster.jobs.get_mut(&id) else { return };
        job.over = true;
        let pods = (0..job.wanted()).map(|index| (id, index));
        for pod in pods.collect::<Vec<_>>() {
            let state = self.cluster.pod(pod).map(|pod| pod.state);
            if matches!(state, Some(State::Pending | State::Ready | State::Registered)) {
                self.drops(pod);
                self.ends(pod, State::Failed);
            }
        }
    }

    pub(super) fn remove(&mut self, id: DispatchId) {
        self.cluster.jobs.remove(&id);
    }

    pub(super) fn cluster_calms_down(&mut self) {
        for pod in std::mem::take(&mut self.cluster.stuck) {
            let starts = self.within(self.scene.startup);
            self.after(starts, Happening::Starts(pod));
        }
    }
}
