//! The way of a job from `scheduled` to its end, as its agent and the server move it.
//! Reservations are the stacks' part, concurrency groups that of `lines`.

use jiff::Timestamp;
use uuid::Uuid;

use super::build::StepState;
use super::job::{Actor, EventKind, Outcome, State};
use super::timers::Due;
use super::{Engine, Hook, Refusal, retry};

/// What an agent says of its job's end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFinish {
    pub outcome: Outcome,
    pub chunks_failed_count: u64,
}

impl Engine {
    pub(super) fn schedule(&mut self, job: Uuid, now: Timestamp) {
        let of = self.own_job(job);
        of.runnable_at = Some(now);
        of.tell(now, EventKind::Scheduled, Actor::System);
        self.shift(job, State::Scheduled);
        self.hooks.push(Hook::JobScheduled(job));
    }

    /// `start`: only by the agent that acquired the job, and only once.
    pub fn start(&mut self, job: Uuid, agent: Uuid, now: Timestamp) -> Result<(), Refusal> {
        let of = self.known_job_mut(job)?;
        if of.state != State::Accepted || of.agent != Some(agent) {
            return Err(Refusal::Unprocessable(format!(
                "job {job} cannot be started: it is {}",
                of.state.name()
            )));
        }
        of.started_at = Some(now);
        of.tell(now, EventKind::Started, Actor::Agent(agent));
        let (build, timeout) = (of.build, of.command.timeout);
        self.shift(job, State::Running);
        if let Some(timeout) = timeout {
            self.due_at(now + timeout, Due::Timeout(job));
        }
        self.builds[build].started_at.get_or_insert(now);
        self.settle(build, now);
        self.hooks.push(Hook::JobStarted(job));
        Ok(())
    }

    /// A part of the log. The same part sent again changes nothing.
    pub fn put_chunk(
        &mut self,
        job: Uuid,
        sequence: u64,
        offset: u64,
        content: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let (limit, grace) = (self.settings.log_limit_bytes, self.settings.timing.token_grace);
        let of = self.known_job_mut(job)?;
        let open = of.state.is_with_agent() || of.finished_at.is_some_and(|at| now <= at + grace);
        if of.agent.is_none() || !open {
            return Err(Refusal::Unprocessable(format!(
                "job {job} takes no log: it is {}",
                of.state.name()
            )));
        }
        if of.log.put(sequence, offset, content, limit) {
            return Ok(());
        }
        if !of.events.iter().any(|event| event.kind == EventKind::LogSizeLimitExceeded) {
            of.tell(now, EventKind::LogSizeLimitExceeded, Actor::System);
        }
        Err(Refusal::Unprocessable(format!("the log of job {job} is larger than {limit} bytes")))
    }

    /// `finish` by the agent.
    pub fn finish(
        &mut self,
        job: Uuid,
        finish: AgentFinish,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let of = self.known_job_mut(job)?;
        let Some(state) = of.state.ends_as() else {
            return Err(Refusal::Unprocessable(format!(
                "job {job} cannot be finished: it is {}",
                of.state.name()
            )));
        };
        of.chunks_failed_count = finish.chunks_failed_count;
        let actor = of.agent.map_or(Actor::System, Actor::Agent);
        self.end(job, state, finish.outcome, actor, now);
        Ok(())
    }

    /// Ends a job in `state`: frees what it held, starts a retry if a rule says so, and lets its
    /// build go on.
    pub(super) fn end(
        &mut self,
        job: Uuid,
        state: State,
        outcome: Outcome,
        actor: Actor,
        now: Timestamp,
    ) {
        let of = self.own_job(job);
        let kind = if state == State::Canceled {
            EventKind::Canceled
        } else if state == State::TimedOut {
            EventKind::TimedOut
        } else if state == State::Expired {
            EventKind::Expired
        } else {
            EventKind::Finished
        };
        of.tell(now, kind, actor);
        of.finished_at = Some(now);
        of.reservation = None;
        of.soft_failed = state == State::Finished
            && !outcome.is_success()
            && of.command.soft_fail.covers(outcome.exit_status.unwrap_or(-1));
        of.outcome = outcome;
        let agent = of.agent;
        self.shift(job, state);
        if let Some(agent) = agent.and_then(|agent| self.agents.get_mut(&agent)) {
            agent.job = None;
        }
        self.hooks.push(Hook::JobFinished(job));
        self.after_end(job, now);
    }

    fn after_end(&mut self, job: Uuid, now: Timestamp) {
        let of = &self.jobs[&job];
        let (build, step) = (of.build, of.step);
        let used = |rule: usize| {
            let used = of.retries_by_rule.iter().filter(|used| **used == rule).count();
            u32::try_from(used).unwrap_or(u32::MAX)
        };
        let may_run_again = matches!(of.state, State::Finished | State::TimedOut)
            && !of.outcome.is_success()
            && !self.builds[build].cancel_asked;
        let rule = if may_run_again {
            retry::rule_for(&of.command.retry, &of.outcome, used)
        } else {
            None
        };
        if let Some(rule) = rule {
            let again = self.add_retry(job, Some(rule), now);
            self.release(again, now);
            self.leave_line(job, now);
            self.settle(build, now);
            return;
        }
        let state = if of.state == State::Canceled {
            StepState::Canceled
        } else if of.outcome.is_success() {
            StepState::Passed
        } else if of.soft_failed {
            StepState::SoftFailed
        } else {
            StepState::Failed
        };
        self.builds[build].set_step(step, state);
        self.leave_line(job, now);
        self.settle(build, now);
    }

    /// Runs a job once more because a person asks for it.
    pub fn retry_job(&mut self, job: Uuid, now: Timestamp) -> Result<Uuid, Refusal> {
        let of = self.known_job(job)?;
        let ran = matches!(
            of.state,
            State::Finished | State::Canceled | State::TimedOut | State::Expired
        );
        if !ran || of.retried_in.is_some() {
            return Err(Refusal::Unprocessable(format!(
                "job {job} cannot be retried: it is {}{}",
                of.state.name(),
                if of.retried_in.is_some() { " and was retried before" } else { "" }
            )));
        }
        let (build, step) = (of.build, of.step);
        let again = self.add_retry(job, None, now);
        self.builds[build].cancel_asked = false;
        self.builds[build].set_step(step, StepState::Started);
        self.release(again, now);
        self.settle(build, now);
        Ok(again)
    }

    pub(super) fn watch_canceling(&mut self, job: Uuid, now: Timestamp) {
        self.due_at(now + self.settings.timing.cancel_watchdog, Due::CancelWatchdog(job));
    }
}
