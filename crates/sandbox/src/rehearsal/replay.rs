//! Plays a day's arrivals into a sandbox, at the day's pace or faster, and cancels what the day
//! cancels. It makes builds; who has them run is somebody else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::Arrival;
use super::summary::Summary;
use crate::engine::{Command, Engine, NewBuild, NewStep, Refusal, StepKind};
use crate::server::Sandbox;

/// What a job's shell does where no agent plays it.
const COMMAND: &str = "sleep \"$PLAY_SECONDS\"; exit \"$PLAY_EXIT\"";

/// A day on its way.
#[derive(Debug)]
pub struct Replay {
    day: Vec<Arrival>,
    speed: f64,
    /// The job of each arrival so far.
    came: Vec<Uuid>,
    cancels: BinaryHeap<Reverse<(Duration, Uuid)>>,
}

impl Replay {
    /// A day that goes by `speed` times faster (more than 0): arrivals, lengths and cancels.
    #[must_use]
    pub fn new(day: Vec<Arrival>, speed: f64) -> Self {
        Self { day, speed, came: Vec::new(), cancels: BinaryHeap::new() }
    }

    /// Waits for the first stack, with which the day begins, plays all arrivals and waits until
    /// every job has ended. It may be dropped at any time: the summary is of what came by then.
    pub async fn run(&mut self, sandbox: &Sandbox) -> Result<(), Refusal> {
        sandbox.until(|engine| engine.stacks().next().map(|_| ())).await;
        let begun = Instant::now();
        loop {
            let arrival = self.day.get(self.came.len()).map(|arrival| self.scaled(arrival.at));
            let cancel = self.cancels.peek().map(|Reverse((at, _))| *at);
            match (arrival, cancel) {
                (Some(arrival), cancel) => {
                    let next = cancel.map_or(arrival, |cancel| cancel.min(arrival));
                    sleep_until(begun + next).await;
                }
                (None, Some(cancel)) => tokio::select! {
                    () = sleep_until(begun + cancel) => {}
                    () = self.all_ended(sandbox) => return Ok(()),
                },
                (None, None) => {
                    self.all_ended(sandbox).await;
                    return Ok(());
                }
            }
            sandbox.engine(|engine, now| self.act(engine, begun.elapsed(), now))?;
        }
    }

    /// Everything that is due, in one go.
    fn act(
        &mut self,
        engine: &mut Engine,
        elapsed: Duration,
        now: jiff::Timestamp,
    ) -> Result<(), Refusal> {
        while let Some(arrival) = self.day.get(self.came.len())
            && self.scaled(arrival.at) <= elapsed
        {
            let build = engine.create_build(self.build(arrival), now)?;
            let job = engine.build(build).and_then(|build| build.jobs().next());
            let job = job.expect("a build with a command step has a job");
            if let Some(after) = arrival.cancel_after {
                self.cancels.push(Reverse((self.scaled(arrival.at + after), job)));
            }
            self.came.push(job);
        }
        while let Some(Reverse((at, job))) = self.cancels.peek()
            && *at <= elapsed
        {
            if engine.job(*job).is_some_and(|job| !job.state.is_terminal()) {
                engine.cancel_job(*job, now)?;
            }
            self.cancels.pop();
        }
        Ok(())
    }

    fn scaled(&self, time: Duration) -> Duration {
        time.div_f64(self.speed)
    }

    fn build(&self, arrival: &Arrival) -> NewBuild {
        let takes = format!("{:.3}", self.scaled(arrival.runs_for).as_secs_f64());
        let env = [("PLAY_SECONDS", takes), ("PLAY_EXIT", arrival.exit_status.to_string())];
        let queue = ("queue".to_owned(), arrival.queue.clone());
        let tags = arrival.agents.iter().map(|(key, value)| (key.clone(), value.clone()));
        let command = Command {
            command: COMMAND.to_owned(),
            env: env.map(|(key, value)| (key.to_owned(), value)).into(),
            agents: std::iter::once(queue).chain(tags).collect(),
            priority: arrival.priority,
            ..Command::default()
        };
        NewBuild {
            pipeline: arrival.pipeline.clone(),
            branch: arrival.branch.clone(),
            commit: "HEAD".to_owned(),
            message: "A job of a replayed day".to_owned(),
            steps: vec![NewStep { kind: StepKind::Command(Box::new(command)), ..NewStep::wait() }],
            ..NewBuild::default()
        }
    }

    /// Resolves when every job that came has ended, and so has the last retry of each.
    async fn all_ended(&self, sandbox: &Sandbox) {
        let mut open = self.came.clone();
        sandbox
            .until(|engine| {
                // Looked at after every change of the sandbox, so only as far as the first that
                // is still open.
                while let Some(id) = open.last() {
                    // Where the controls have made the sandbox forget a job, nothing is to come.
                    let job = engine.job(*id);
                    if let Some(again) = job.and_then(|job| job.retried_in) {
                        *open.last_mut().expect("it was just there") = again;
                    } else if job.is_none_or(|job| job.state.is_terminal()) {
                        open.pop();
                    } else {
                        return None;
                    }
                }
                Some(())
            })
            .await;
    }

    /// What came of the day so far.
    #[must_use]
    pub fn summary(&self, engine: &Engine) -> Summary {
        Summary::of(&self.day, &self.came, engine)
    }
}
