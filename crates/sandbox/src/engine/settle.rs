//! Which steps of a build may go on, and what state the build is in by that.
//! The verdict is a pure look at the steps; applying it is kept apart.

use jiff::Timestamp;
use uuid::Uuid;

use super::build::{Build, BuildState, Step, StepState};
use super::form::Answers;
use super::job::{Actor, EventKind, State};
use super::steps::{Dependency, StepKind};
use super::{Engine, Refusal};

/// Which of a build's blocked steps is meant.
#[derive(Clone, Copy, Debug)]
pub enum BlockedStep<'a> {
    First,
    Key(&'a str),
    Id(Uuid),
}

/// What stands before a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    Shut,
    /// Something that it needs has failed, so it never opens.
    Failed,
}

/// Some steps, taken together.
#[derive(Clone, Copy, Debug, Default)]
struct Above {
    pending: bool,
    failed: bool,
    /// One of them waits for a person, or for something that does.
    held: bool,
}

impl Above {
    fn add(&mut self, step: &Step, held: bool) {
        match step.state {
            StepState::Waiting | StepState::Blocked | StepState::Started => self.pending = true,
            StepState::Failed | StepState::Canceled | StepState::Broken => self.failed = true,
            StepState::Passed | StepState::SoftFailed | StepState::Omitted => {}
        }
        self.held |= step.waits_for_a_person() || (held && step.state == StepState::Waiting);
    }

    fn stand(self, despite_failure: bool) -> Stand {
        let gate = match (self.pending, self.failed && !despite_failure) {
            (true, _) => Gate::Shut,
            (false, true) => Gate::Failed,
            (false, false) => Gate::Open,
        };
        Stand { gate, held: self.held }
    }
}

/// How it stands with what is before a step.
#[derive(Clone, Copy, Debug, Default)]
struct Stand {
    gate: Gate,
    /// A person has to say something before the step may go.
    held: bool,
}

impl Stand {
    fn and(self, other: Self) -> Self {
        Self { gate: self.gate.and(other.gate), held: self.held || other.held }
    }
}

/// A build's own steps, or those of one group: a wait holds back those of its own scope only.
#[derive(Clone, Copy, Debug, Default)]
struct Scope {
    above: Above,
    /// The last wait or block.
    barrier: Stand,
}

impl Build {
    /// How it stands with each step. What a step depends on and stands below it counts as held only
    /// if it asks a person itself.
    fn stands(&self) -> Vec<Stand> {
        let mut stands: Vec<Stand> = Vec::with_capacity(self.steps.len());
        let mut outer = Scope::default();
        // The scope of each group, and how it stands with what is before the whole group.
        let mut inner: Vec<Option<(Stand, Scope)>> = vec![None; self.groups.len()];
        for step in &self.steps {
            let Some(at) = step.group else {
                let stand = self.stand(step, &outer, &stands);
                outer.add(step, stand.held, true);
                stands.push(stand);
                continue;
            };
            let group = &self.groups[at];
            let (before, scope) = inner[at].get_or_insert_with(|| {
                let despite = group.allow_dependency_failure;
                let needed = self.needed(group.depends_on.as_deref(), despite, &stands);
                let implicit = outer.barrier.despite(despite);
                (needed.unwrap_or(implicit), Scope::default())
            });
            let own = self.stand(step, scope, &stands);
            // A step's own dependencies stand in for the waits above the group too.
            let only_own = step.depends_on.is_some() && group.depends_on.is_none();
            let stand = if only_own { own } else { own.and(*before) };
            scope.add(step, stand.held, true);
            outer.add(step, stand.held, false);
            stands.push(stand);
        }
        stands
    }

    fn stand(&self, step: &Step, scope: &Scope, stands: &[Stand]) -> Stand {
        let despite = step.allow_dependency_failure;
        if let Some(needed) = self.needed(step.depends_on.as_deref(), despite, stands) {
            return needed;
        }
        match step.kind {
            StepKind::Wait { continue_on_failure } => {
                scope.above.stand(despite || continue_on_failure)
            }
            StepKind::Block(_) => scope.above.stand(despite),
            StepKind::Command(_) | StepKind::Input(_) => scope.barrier.despite(despite),
        }
    }

    /// How it stands with explicit dependencies, where there are any.
    fn needed(&self, on: Option<&[Dependency]>, despite: bool, stands: &[Stand]) -> Option<Stand> {
        let each = on?.iter().map(|dependency| {
            let mut needed = Above::default();
            match self.keys.get(&dependency.step) {
                Some(steps) => steps.iter().for_each(|at| {
                    let held = stands.get(*at).is_some_and(|stand| stand.held);
                    needed.add(&self.steps[*at], held);
                }),
                // A later upload may still bring it.
                None => needed.pending = true,
            }
            needed.stand(despite || dependency.allow_failure)
        });
        Some(each.fold(Stand::default(), Stand::and))
    }

    /// The waiting steps whose gate is no longer shut.
    fn verdicts(&self) -> Vec<(usize, Gate)> {
        let all = self.stands().into_iter().enumerate();
        let open = all.filter(|(index, stand)| {
            self.steps[*index].state == StepState::Waiting && stand.gate != Gate::Shut
        });
        open.map(|(index, stand)| (index, stand.gate)).collect()
    }

    /// Of each step whether a person has to say something before it may go.
    pub(super) fn held_by_a_person(&self) -> Vec<bool> {
        self.stands().into_iter().map(|stand| stand.held).collect()
    }
}

impl Scope {
    fn add(&mut self, step: &Step, held: bool, is_its_own: bool) {
        self.above.add(step, held);
        let bars = matches!(step.kind, StepKind::Wait { .. } | StepKind::Block(_));
        if bars && is_its_own && step.state != StepState::Omitted {
            let mut only = Above::default();
            only.add(step, held);
            self.barrier = only.stand(false);
        }
    }
}

impl Stand {
    /// With a failure forgiven.
    fn despite(self, failure: bool) -> Self {
        match self.gate {
            Gate::Failed if failure => Self { gate: Gate::Open, ..self },
            Gate::Failed | Gate::Open | Gate::Shut => self,
        }
    }
}

impl Gate {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::Shut, _) | (_, Self::Shut) => Self::Shut,
            (Self::Open, Self::Open) => Self::Open,
        }
    }
}

impl Engine {
    /// Lets go what may go, ends what never can, and sums the build up.
    pub(super) fn settle(&mut self, build: usize, now: Timestamp) {
        loop {
            self.join_lines(build);
            let of = &self.builds[build];
            let verdicts = if of.waiting == 0 { Vec::new() } else { of.verdicts() };
            if verdicts.is_empty() && !self.break_the_rest(build, now) {
                break;
            }
            for (step, gate) in verdicts {
                self.apply(build, step, gate, now);
            }
        }
        self.sum_up(build, now);
    }

    fn apply(&mut self, build: usize, step: usize, gate: Gate, now: Timestamp) {
        let of = &self.builds[build].steps[step];
        let job = of.jobs.last().copied();
        match (gate, &of.kind, job) {
            (Gate::Open, StepKind::Command(_), Some(job)) => {
                self.builds[build].set_step(step, StepState::Started);
                self.release(job, now);
            }
            (Gate::Open, StepKind::Block(_) | StepKind::Input(_), _) => {
                self.builds[build].set_step(step, StepState::Blocked);
            }
            (Gate::Open, _, _) => self.builds[build].set_step(step, StepState::Passed),
            (_, _, job) => {
                self.builds[build].set_step(step, StepState::Failed);
                if let Some(job) = job {
                    self.close(job, State::WaitingFailed, now);
                }
            }
        }
    }

    /// When nothing runs and nobody is asked, what still waits depends on what will never be.
    fn break_the_rest(&mut self, build: usize, now: Timestamp) -> bool {
        let of = &self.builds[build];
        if of.started > 0 || of.blocked > 0 || of.waiting == 0 {
            return false;
        }
        for step in 0..of.steps.len() {
            let of = &mut self.builds[build];
            if of.steps[step].state == StepState::Waiting {
                of.set_step(step, StepState::Broken);
                if let Some(job) = of.steps[step].jobs.last().copied() {
                    self.close(job, State::Broken, now);
                }
            }
        }
        true
    }

    /// Ends a job that never left.
    pub(super) fn close(&mut self, job: Uuid, state: State, now: Timestamp) {
        self.own_job(job).finished_at = Some(now);
        self.shift(job, state);
        self.leave_line(job, now);
    }

    fn sum_up(&mut self, build: usize, now: Timestamp) {
        let of = &mut self.builds[build];
        let open = of.waiting + of.blocked + of.started;
        of.state = match (open, of.cancel_asked) {
            (0, true) => BuildState::Canceled,
            (0, false) if of.bad > 0 => BuildState::Failed,
            (0, false) => BuildState::Passed,
            (_, true) => BuildState::Canceling,
            (_, false) if of.started == 0 && of.blocked > 0 => BuildState::Blocked,
            (_, false) if of.started_at.is_some() => BuildState::Running,
            (_, false) => BuildState::Scheduled,
        };
        of.finished_at = of.state.is_terminal().then(|| of.finished_at.unwrap_or(now));
    }

    /// Lets a blocked step go on, with the answers that its form asks for. They become meta-data.
    pub fn unblock(
        &mut self,
        build: Uuid,
        which: BlockedStep<'_>,
        answers: &Answers,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let at = self.build_index(build)?;
        let of = &self.builds[at];
        let is_meant = |step: &Step| match which {
            BlockedStep::First => true,
            BlockedStep::Key(key) => step.key.as_deref() == Some(key),
            BlockedStep::Id(id) => step.id == id,
        };
        let mut blocked =
            of.steps.iter().enumerate().filter(|(_, step)| step.state == StepState::Blocked);
        let (step, form) = blocked
            .find(|(_, step)| is_meant(step))
            .and_then(|(index, step)| Some((index, step.kind.form()?)))
            .ok_or_else(|| {
                Refusal::Unprocessable("no such step is blocked in this build".to_owned())
            })?;
        for (key, value) in form.meta_data(answers)? {
            self.set_meta_data(at, &key, value)?;
        }
        self.builds[at].set_step(step, StepState::Passed);
        self.settle(at, now);
        Ok(())
    }

    /// Stops what runs, and drops what does not.
    pub fn cancel_build(&mut self, build: Uuid, now: Timestamp) -> Result<(), Refusal> {
        let at = self.build_index(build)?;
        if self.builds[at].state.is_terminal() {
            return Err(Refusal::Unprocessable(format!("build {build} has ended")));
        }
        self.builds[at].cancel_asked = true;
        let jobs: Vec<Uuid> = self.builds[at].jobs().collect();
        for step in 0..self.builds[at].steps.len() {
            let of = &mut self.builds[at];
            if matches!(of.steps[step].state, StepState::Waiting | StepState::Blocked) {
                of.set_step(step, StepState::Canceled);
            }
        }
        for job in jobs {
            self.ask_to_cancel(job, now);
        }
        self.settle(at, now);
        Ok(())
    }

    /// Cancels one job; its build goes on as if the job had failed.
    pub fn cancel_job(&mut self, job: Uuid, now: Timestamp) -> Result<(), Refusal> {
        let of = self.known_job(job)?;
        if of.state.is_terminal() {
            return Err(Refusal::Unprocessable(format!("job {job} has ended")));
        }
        let (build, step) = (of.build, of.step);
        if self.builds[build].steps[step].state == StepState::Waiting {
            self.builds[build].set_step(step, StepState::Canceled);
        }
        self.ask_to_cancel(job, now);
        self.settle(build, now);
        Ok(())
    }

    fn ask_to_cancel(&mut self, job: Uuid, now: Timestamp) {
        let of = self.own_job(job);
        match of.state {
            State::Running => {
                of.tell(now, EventKind::Cancelation, Actor::User);
                self.shift(job, State::Canceling);
                self.watch_canceling(job, now);
            }
            State::Waiting | State::Limited | State::Scheduled | State::Reserved
            // Nothing has started, so there is nothing to signal: `start` will be refused.
            | State::Accepted => {
                of.tell(now, EventKind::Cancelation, Actor::User);
                self.end(job, State::Canceled, super::job::Outcome::default(), Actor::User, now);
            }
            State::Canceling
            | State::TimingOut
            | State::WaitingFailed
            | State::Canceled
            | State::TimedOut
            | State::Finished
            | State::Expired
            | State::Broken
            | State::Skipped => {}
        }
    }
}
