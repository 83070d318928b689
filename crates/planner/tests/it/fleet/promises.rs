//! What is promised of fleets, checked against the truth, which the core does not see.

use planner::fleet::{Alert, DispatchId, Plan};

use super::queue::Numbers;
use super::scene::Kind;
use super::world::Sim;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// Never more pods than `max`.
    Max,
    /// Never more agents than jobs by more than one buffer.
    Buffer,
    /// A request without an answer makes no second dispatch.
    Once,
    /// Agents that die as they start do not call for more before the time is over.
    Unhurried,
    /// What does not roll out is told of, and nothing else is.
    Told,
    /// Each job gets an agent.
    Served,
    /// Without jobs nothing is left.
    Empties,
    /// `min` agents are there again and again.
    Keeps,
}

#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) promise: Promise,
    pub(super) words: String,
}

/// How late the core may know that time is over: a few rounds that fail.
const SLACK: u64 = 60_000;

impl Sim<'_> {
    /// When a create takes effect.
    pub(super) fn check_create(&mut self, id: DispatchId, agents: u32, decided_at: u64, max: u32) {
        let holding: u32 = self.cluster.jobs.values().map(|job| job.holding()).sum();
        if holding + agents > max {
            let words = format!("{id} makes {agents} pods beside {holding} of at most {max}");
            self.breaks(Promise::Max, &words);
        }
        let unknown = self.cluster.jobs.iter().find(|(_, job)| job.arrived_at > decided_at);
        if let Some((other, _)) = unknown {
            let words = format!("{other} came after {id} was decided, and before it came");
            self.breaks(Promise::Once, &words);
        }
        // With the clock of a new process behind, ages count from its first look.
        let newest = self.cluster.jobs.iter().max_by_key(|(_, job)| job.decided_at);
        let at_most = u64::try_from(self.policy.at_most.as_millis()).expect("minutes");
        if let Some((other, job)) = newest
            && job.nothing_came()
            && decided_at.saturating_sub(job.decided_at) < at_most
        {
            let words = format!("{id} is made, and nothing has come of {other}");
            self.breaks(Promise::Unhurried, &words);
        }
    }

    /// When the core decides on a dispatch: was it needed when the jobs were counted?
    pub(super) fn check_needed(&mut self, id: DispatchId, agents: u32, numbers: Option<&Numbers>) {
        // Whose agents the others are nobody tells, so a few too many may be made beside them.
        // What is there already is not made again by its name.
        let there = self.cluster.jobs.contains_key(&id);
        if there || self.scene.faults.contains(&Kind::OtherAgents) {
            return;
        }
        let Some(numbers) = numbers else {
            return self.breaks(Promise::Buffer, &format!("{id} knows no counts"));
        };
        let given_up = self.given_up();
        let unregistered =
            numbers.unregistered.iter().filter(|(id, _)| !given_up.contains(id)).count();
        let since = self.cluster.jobs.iter();
        let since = since.filter(|(id, job)| job.arrived_at > numbers.at && !given_up.contains(id));
        let since: u32 = since.map(|(_, job)| job.wanted()).sum();
        // What is given up and comes after all is not known for a moment.
        let late: u32 = given_up.iter().map(|id| self.cluster.not_told_yet(*id)).sum();
        let free = numbers.agents.idle + u32::try_from(unregistered).expect("few") + since;
        let free = free.saturating_sub(late);
        let short = numbers.scheduled.saturating_sub(free);
        let wanted = if short == 0 { 0 } else { short + self.policy.buffer };
        let kept = self.policy.min.saturating_sub(self.cluster.open_but(&given_up));
        if agents > wanted.max(kept) {
            let words = format!(
                "{agents} agents for {} jobs, with {free} free or coming and a buffer of {}",
                numbers.scheduled, self.policy.buffer
            );
            self.breaks(Promise::Buffer, &words);
        }
    }

    /// After each round.
    pub(super) fn check_alerts(&mut self, plan: &Plan) {
        let told = |id: &DispatchId| {
            plan.alerts.iter().any(|alert| match alert {
                Alert::NotRolledOut { id: of, .. } => of == id,
                Alert::Refused { .. } | Alert::ClusterUnknown(_) | Alert::CountsUnknown(_) => false,
            })
        };
        let at_most = u64::try_from(self.policy.at_most.as_millis()).expect("minutes");
        let mut wrong = None;
        for (id, job) in &self.cluster.jobs {
            let known = job.decided_at.max(self.process.started_at);
            let late = self.now.saturating_sub(known) > at_most + SLACK;
            let seen = !self.scene.faults.contains(&Kind::ClusterFails)
                && !self.scene.faults.contains(&Kind::ControllerDown);
            if seen && late && job.nothing_came() && !told(id) {
                wrong = Some(format!("nobody is told that nothing comes of {id}"));
            }
            let well = job.arrived() == job.wanted() && !job.failed_once;
            let young = self.now.saturating_sub(job.decided_at) < at_most;
            if told(id) && well && young {
                wrong = Some(format!("{id} is said not to roll out, and it has"));
            }
        }
        if let Some(words) = wrong {
            self.breaks(Promise::Told, &words);
        }
    }
}
