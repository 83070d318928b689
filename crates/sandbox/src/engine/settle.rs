//! Which steps of a build may go on, and what state the build is in by that.
//! The verdict is a pure look at the steps; applying it is kept apart.

use jiff::Timestamp;
use uuid::Uuid;

use super::build::{Build, BuildState, Step, StepState};
use super::job::{Actor, EventKind, State};
use super::steps::StepKind;
use super::{Engine, Refusal};

/// What stands before a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    Shut,
    /// Something that it needs has failed, so it never opens.
    Failed,
}

/// The steps above one, taken together.
#[derive(Clone, Copy, Debug, Default)]
struct Above {
    pending: bool,
    failed: bool,
}

impl Above {
    fn add(&mut self, step: &Step) {
        match step.state {
            StepState::Waiting | StepState::Blocked | StepState::Started => self.pending = true,
            StepState::Failed | StepState::Canceled | StepState::Broken => self.failed = true,
            StepState::Passed | StepState::SoftFailed => {}
        }
    }

    fn gate(self, despite_failure: bool) -> Gate {
        match (self.pending, self.failed && !despite_failure) {
            (true, _) => Gate::Shut,
            (false, true) => Gate::Failed,
            (false, false) => Gate::Open,
        }
    }
}

impl Build {
    /// The waiting steps whose gate is no longer shut.
    fn verdicts(&self) -> Vec<(usize, Gate)> {
        let mut verdicts = Vec::new();
        let mut above = Above::default();
        let mut barrier = Gate::Open;
        for (index, step) in self.steps.iter().enumerate() {
            let gate = self.gate(step, above, barrier);
            if step.state == StepState::Waiting && gate != Gate::Shut {
                verdicts.push((index, gate));
            }
            above.add(step);
            match step.kind {
                StepKind::Command(_) => {}
                StepKind::Wait { .. } | StepKind::Block { .. } => {
                    let mut only = Above::default();
                    only.add(step);
                    barrier = only.gate(false);
                }
            }
        }
        verdicts
    }

    fn gate(&self, step: &Step, above: Above, barrier: Gate) -> Gate {
        let despite = step.allow_dependency_failure;
        if let Some(dependencies) = &step.depends_on {
            let gates = dependencies.iter().map(|dependency| {
                let mut needed = Above::default();
                match self.keys.get(&dependency.step) {
                    Some(steps) => steps.iter().for_each(|at| needed.add(&self.steps[*at])),
                    // A later upload may still bring it.
                    None => needed.pending = true,
                }
                needed.gate(despite || dependency.allow_failure)
            });
            return gates.fold(Gate::Open, Gate::and);
        }
        match step.kind {
            StepKind::Wait { continue_on_failure } => above.gate(despite || continue_on_failure),
            StepKind::Block { .. } => above.gate(despite),
            StepKind::Command(_) if despite && barrier == Gate::Failed => Gate::Open,
            StepKind::Command(_) => barrier,
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
            (Gate::Open, StepKind::Block { .. }, _) => {
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
    fn close(&mut self, job: Uuid, state: State, now: Timestamp) {
        self.own_job(job).finished_at = Some(now);
        self.shift(job, state);
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

    /// Lets a blocked step go on. Without a key: the first one that is blocked.
    pub fn unblock(
        &mut self,
        build: Uuid,
        key: Option<&str>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let at = *self
            .build_ids
            .get(&build)
            .ok_or_else(|| Refusal::NotFound(format!("no build {build}")))?;
        let of = &mut self.builds[at];
        let step = of
            .steps
            .iter()
            .position(|step| {
                step.state == StepState::Blocked && (key.is_none() || step.key.as_deref() == key)
            })
            .ok_or_else(|| {
                Refusal::Unprocessable("no such step is blocked in this build".to_owned())
            })?;
        of.set_step(step, StepState::Passed);
        self.settle(at, now);
        Ok(())
    }

    /// Stops what runs, and drops what does not.
    pub fn cancel_build(&mut self, build: Uuid, now: Timestamp) -> Result<(), Refusal> {
        let at = *self
            .build_ids
            .get(&build)
            .ok_or_else(|| Refusal::NotFound(format!("no build {build}")))?;
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
            | State::Broken => {}
        }
    }
}
