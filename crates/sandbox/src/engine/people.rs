//! What people ask for by the REST API: a retry, another priority, a blocked step let go, a cancel,
//! an agent stopped. Each refuses in Buildkite's words where they are documented.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::build::{BuildState, StepState};
use super::form::Answers;
use super::job::{Actor, EventKind, Job, State};
use super::settle::BlockedStep;
use super::steps::StepKind;
use super::{Engine, Refusal};

impl Job {
    /// How this job came about, when it is a retry: by a rule of its step, or because somebody
    /// asked.
    #[must_use]
    pub fn retry_type(&self, of: &Job) -> &'static str {
        if self.retries_by_rule.len() > of.retries_by_rule.len() { "automatic" } else { "manual" }
    }
}

impl Engine {
    /// As `retry_job`, with Buildkite's refusals.
    pub fn retry_as_asked(&mut self, job: Uuid, now: Timestamp) -> Result<Uuid, Refusal> {
        let of = self.jobs.get(&job).ok_or_else(no_job)?;
        let failed = matches!(
            of.state,
            State::Finished | State::TimedOut | State::Canceled | State::Expired
        ) && !of.outcome.is_success();
        if !failed {
            let why = "Only failed, timed out or canceled jobs can be retried";
            return Err(Refusal::BadRequest(why.to_owned()));
        }
        if let Some(again) = of.retried_in {
            let why = format!("This job was retried before, as {again}");
            return Err(Refusal::Unprocessable(why));
        }
        if self.builds[of.build].cancel_asked {
            let why = "Jobs from canceled builds cannot be retried";
            return Err(Refusal::Unprocessable(why.to_owned()));
        }
        self.retry_job(job, now)
    }

    /// Changes the order in which the job is handed out. One that has ended keeps its priority.
    pub fn reprioritize(
        &mut self,
        job: Uuid,
        priority: i64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let of = self.jobs.get_mut(&job).ok_or_else(no_job)?;
        if of.state.is_terminal() {
            let why = format!("job {job} cannot be reprioritized: it is {}", of.state.name());
            return Err(Refusal::Unprocessable(why));
        }
        let before = std::mem::replace(&mut Arc::make_mut(&mut of.command).priority, priority);
        of.tell_detail(now, EventKind::Reprioritized, Actor::User, priority.to_string());
        self.move_in_line(job, before);
        Ok(())
    }

    /// Where a step that holds its build is: to REST it is a job with the step's id.
    #[must_use]
    pub fn held_step(&self, id: Uuid) -> Option<(usize, usize)> {
        self.builds.iter().enumerate().find_map(|(build, of)| {
            let step = of.steps.iter().position(|step| step.id == id)?;
            let asks = !matches!(of.steps[step].kind, StepKind::Command(_) | StepKind::Wait { .. });
            asks.then_some((build, step))
        })
    }

    /// Lets this block or input step go on.
    pub fn unblock_step(
        &mut self,
        id: Uuid,
        answers: &Answers,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some((build, step)) = self.held_step(id) else {
            let is_job = self.jobs.contains_key(&id);
            let why = || Refusal::BadRequest("This job type cannot be unblocked".to_owned());
            return Err(if is_job { why() } else { no_job() });
        };
        if self.builds[build].cancel_asked {
            let why = "Jobs from canceled builds cannot be unblocked";
            return Err(Refusal::Unprocessable(why.to_owned()));
        }
        if self.builds[build].steps[step].state != StepState::Blocked {
            return Err(Refusal::Unprocessable("This job is not blocked".to_owned()));
        }
        self.unblock(self.builds[build].id, BlockedStep::Id(id), answers, now)
    }

    /// Cancels a build that has not ended.
    pub fn cancel_as_asked(&mut self, build: Uuid, now: Timestamp) -> Result<(), Refusal> {
        let of = self.build(build).ok_or_else(|| Refusal::NotFound("No build found".to_owned()))?;
        if of.state.is_terminal() || of.state == BuildState::Canceling {
            let why = "Build can not be canceled because it is already finished";
            return Err(Refusal::Unprocessable(why.to_owned()));
        }
        self.cancel_build(build, now)
    }

    /// Asks a connected agent to leave; with `force` its job is cancelled, too.
    pub fn stop_agent(&mut self, agent: Uuid, force: bool, now: Timestamp) -> Result<(), Refusal> {
        let of = self
            .agents
            .get_mut(&agent)
            .ok_or_else(|| Refusal::NotFound("No agent found".to_owned()))?;
        if !of.is_up() {
            let why = "Can only stop connected agents";
            return Err(Refusal::BadRequest(why.to_owned()));
        }
        of.stop_asked = true;
        match of.job.filter(|_| force) {
            Some(job) => self.cancel_job(job, now),
            None => Ok(()),
        }
    }
}

fn no_job() -> Refusal {
    Refusal::NotFound("No job found".to_owned())
}
