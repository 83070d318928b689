//! How steps come into a build: when it is created, and by `pipeline upload` from one of its jobs.
//! Here it is also decided which of them the build leaves out.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::build::{Build, Group, Omitted, Step, StepState};
use super::job::{Actor, EventKind, Job, JobPlace, State};
use super::steps::{Command, Filter, NewGroup, NewStep, Only, StepKind};
use super::timers::Due;
use super::{Engine, Refusal};
use crate::condition::Facts;

/// Of one build; Buildkite itself allows fewer.
const MAX_STEPS: usize = 100_000;

/// Where steps go.
pub(super) struct Insertion {
    /// The index of the first one.
    pub(super) at: usize,
    /// A group that takes them in, whatever group they come in.
    pub(super) join: Option<usize>,
    /// What their jobs are ordered by.
    pub(super) scheduled_at: Timestamp,
}

pub(super) fn check_room(has: usize, more: usize) -> Result<(), Refusal> {
    if has + more > MAX_STEPS {
        return Err(Refusal::Unprocessable(format!("a build has at most {MAX_STEPS} steps")));
    }
    Ok(())
}

/// Why the filter leaves its step out of a build of which this is known.
fn omission(filter: &Filter, facts: &Facts) -> Option<Omitted> {
    if let Some(reason) = &filter.skip {
        return Some(Omitted::Skip { reason: reason.clone() });
    }
    match filter.only.as_ref()? {
        Only::If { condition, env } => {
            let mut facts = facts.clone();
            for (name, value) in env.iter() {
                facts.env.entry(name.clone()).or_insert_with(|| value.clone());
            }
            let written = || Omitted::If { condition: condition.written().to_owned() };
            (!condition.holds(&facts)).then(written)
        }
        Only::Branches(branches) => {
            let branch = facts.env.get("BUILDKITE_BRANCH").map_or("", String::as_str);
            let written = || Omitted::Branches { patterns: branches.written() };
            (!branches.include(branch)).then(written)
        }
    }
}

impl Engine {
    /// `pipeline upload`: puts steps right after that of the job, or after the job's group. The
    /// same upload sent again does nothing.
    pub fn upload_steps(
        &mut self,
        job: Uuid,
        upload: Uuid,
        mut steps: Vec<NewStep>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let of = self.known_job(job)?;
        if of.uploads.contains(&upload) {
            return Ok(());
        }
        if of.state.is_terminal() {
            return Err(Refusal::Unprocessable(format!("job {job} has ended, it adds no steps")));
        }
        let (build, step, scheduled_at) = (of.build, of.step, of.scheduled_at);
        check_room(self.builds[build].steps.len(), steps.len())?;
        let (joining, end) = self.builds[build].merging(step, &steps);
        let others = steps.split_off(joining);
        let join = self.builds[build].steps[step].group;
        self.insert_steps(build, steps, Insertion { at: step + 1, join, scheduled_at }, now);
        let at = end + joining;
        self.insert_steps(build, others, Insertion { at, join: None, scheduled_at }, now);
        let of = self.own_job(job);
        of.uploads.insert(upload);
        let actor = of.agent.map_or(Actor::User, Actor::Agent);
        of.tell(now, EventKind::BuildStepUploadCreated, actor);
        self.settle(build, now);
        Ok(())
    }

    pub(super) fn insert_steps(
        &mut self,
        build: usize,
        new: Vec<NewStep>,
        into: Insertion,
        now: Timestamp,
    ) {
        let added = new.len();
        let facts = self.facts(&self.builds[build]);
        let tail = self.builds[build].steps.split_off(into.at);
        let mut last: Option<(Arc<NewGroup>, usize)> = None;
        for (offset, step) in new.into_iter().enumerate() {
            let group = step.group.as_ref().map(|group| match (&last, into.join) {
                (_, Some(join)) => join,
                (Some((before, index)), None) if Arc::ptr_eq(before, group) => *index,
                (Some(_) | None, None) => {
                    let index = self.add_group(build, group, now);
                    last = Some((Arc::clone(group), index));
                    index
                }
            });
            let by_group = step.group.as_ref().and_then(|group| omission(&group.filter, &facts));
            let omitted = by_group.or_else(|| omission(&step.filter, &facts));
            let jobs = match &step.kind {
                StepKind::Command(command) => {
                    let command = Arc::new((**command).clone());
                    let in_line = command.concurrency.is_some();
                    let at = into.at + offset;
                    let job = self.add_job(build, at, &step, command, into.scheduled_at, now);
                    match &omitted {
                        Some(omitted) => self.close(job, omitted.job_state(), now),
                        None => self.builds[build].out_of_line.extend(in_line.then_some(job)),
                    }
                    vec![job]
                }
                StepKind::Wait { .. } | StepKind::Block(_) | StepKind::Input(_) => Vec::new(),
            };
            let id = self.ids.uuid(now);
            let state = if omitted.is_some() { StepState::Omitted } else { StepState::Waiting };
            let of = &mut self.builds[build];
            of.tally(state, |count| *count += 1);
            of.steps.push(Step {
                id,
                key: step.key,
                label: step.label,
                kind: step.kind,
                depends_on: step.depends_on,
                allow_dependency_failure: step.allow_dependency_failure,
                state,
                group,
                omitted,
                jobs,
            });
        }
        for job in tail.iter().flat_map(|step| &step.jobs) {
            self.own_job(*job).step += added;
        }
        self.builds[build].steps.extend(tail);
        self.builds[build].index_keys();
    }

    fn add_group(&mut self, build: usize, new: &NewGroup, now: Timestamp) -> usize {
        let id = self.ids.uuid(now);
        let groups = &mut self.builds[build].groups;
        groups.push(Group {
            id,
            key: new.key.clone(),
            label: new.label.clone(),
            depends_on: new.depends_on.clone(),
            allow_dependency_failure: new.allow_dependency_failure,
        });
        groups.len() - 1
    }

    /// A new job, waiting.
    fn add_job(
        &mut self,
        build: usize,
        step: usize,
        of: &NewStep,
        command: Arc<Command>,
        scheduled_at: Timestamp,
        now: Timestamp,
    ) -> Uuid {
        let cluster = self.builds[build].cluster;
        let queue = match command.agents.iter().find(|(key, _)| key == "queue") {
            Some((_, key)) => match self.queue_named(cluster, key) {
                Ok(queue) => queue,
                Err(_) => self.add_queue(cluster, key, now),
            },
            None => self.clusters[cluster].default_queue,
        };
        let id = self.ids.uuid(now);
        let sequence = self.next_sequence();
        let place = JobPlace { build, step, queue, sequence };
        let mut job = Job::new(id, place, command, now);
        job.scheduled_at = scheduled_at;
        job.in_line = (scheduled_at, sequence);
        job.label.clone_from(&of.label);
        job.step_key.clone_from(&of.key);
        self.queues[queue].count(State::Waiting, true);
        self.jobs.insert(id, job);
        self.due_at(now + self.settings.timing.job_expiry, Due::Expiry(id));
        id
    }

    /// The job once more, under a new id, in the same step.
    pub(super) fn add_retry(&mut self, of: Uuid, rule: Option<usize>, now: Timestamp) -> Uuid {
        let id = self.ids.uuid(now);
        let sequence = self.next_sequence();
        let old = self.own_job(of);
        old.retried_in = Some(id);
        old.tell_detail(now, EventKind::Retried, Actor::System, id.to_string());
        let (build, step, queue) = (old.build, old.step, old.queue);
        let place = JobPlace { build, step, queue, sequence };
        let mut job = Job::new(id, place, Arc::clone(&old.command), now);
        job.label.clone_from(&old.label);
        job.step_key.clone_from(&old.step_key);
        job.retry_count = old.retry_count + 1;
        job.retry_of = Some(of);
        job.in_line = old.in_line;
        job.retries_by_rule = old.retries_by_rule.iter().copied().chain(rule).collect();
        self.queues[queue].count(State::Waiting, true);
        self.builds[build].steps[step].jobs.push(id);
        self.jobs.insert(id, job);
        self.due_at(now + self.settings.timing.job_expiry, Due::Expiry(id));
        id
    }
}

impl Build {
    /// How many of the first steps of an upload join the group of the step that uploads them, and
    /// where the others go. A group joins one with its label if it has nothing of its own; and
    /// nothing else may part the steps of a group.
    fn merging(&self, step: usize, new: &[NewStep]) -> (usize, usize) {
        let Some(group) = self.steps[step].group else { return (0, step + 1) };
        let after = self.steps[step..].iter().position(|other| other.group != Some(group));
        let end = after.map_or(self.steps.len(), |after| step + after);
        let Some(first) = new.first().and_then(|step| step.group.as_ref()) else { return (0, end) };
        let joins = !first.label.is_empty()
            && first.label == self.groups[group].label
            && first.key.is_none()
            && first.depends_on.is_none();
        let same =
            |step: &&NewStep| step.group.as_ref().is_some_and(|group| Arc::ptr_eq(group, first));
        (if joins { new.iter().take_while(same).count() } else { 0 }, end)
    }
}
