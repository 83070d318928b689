//! What the demo runs, and how a look at it turns out. Whether that is as it should be is for
//! others to say.

use planner::Timestamp;
use sandbox::engine::{BuildState, Job, NewBuild, NewStep, Refusal, State, StepKind};
use sandbox::pipeline;
use uuid::Uuid;

use super::stage::Stage;
use crate::cli::{Exit, Failure};
use crate::clock::from_jiff;

const PIPELINE: &str = include_str!("../../demo/pipeline.yml");
/// The job that is cancelled while it runs, by its step's key.
const CANCELLED: &str = "cancelled";
/// What steps say that need the real agent.
const AGENT_COMMAND: &str = "buildkite-agent ";

/// How much of the log of a job that went wrong is shown.
const LINES_TOLD: usize = 12;

/// The pipeline, as far as this agent can run it.
#[derive(Debug)]
pub(super) struct Script {
    steps: Vec<NewStep>,
    pub(super) left_out: Vec<String>,
    pub(super) whole: bool,
}

impl Script {
    /// `whole`: with the steps that use the agent's own commands.
    pub(super) fn read(whole: bool) -> Result<Self, Failure> {
        let steps = pipeline::from_yaml(PIPELINE)
            .map_err(|error| Failure::new(Exit::Failed, format!("the demo's pipeline: {error}")))?;
        let needs_agent = |step: &NewStep| match &step.kind {
            StepKind::Command(command) => command.command.contains(AGENT_COMMAND),
            StepKind::Wait { .. } | StepKind::Block(_) | StepKind::Input(_) => false,
        };
        let (without, with): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|step| whole || !needs_agent(step));
        // What uses the package goes with the step that makes it: both use the agent's commands.
        let left_out = with.into_iter().map(|step| step.label).collect();
        Ok(Self { steps: without, left_out, whole })
    }

    pub(super) fn start(&self, stage: &Stage) -> Result<Uuid, Failure> {
        let new = NewBuild {
            pipeline: "demo".to_owned(),
            branch: "main".to_owned(),
            commit: "HEAD".to_owned(),
            message: "What Jitney does".to_owned(),
            steps: self.steps.clone(),
            ..NewBuild::default()
        };
        stage
            .sandbox
            .engine(|engine, now| engine.create_build(new, now))
            .map_err(|refusal: Refusal| Failure::new(Exit::Failed, refusal.to_string()))
    }
}

/// Where the build can be looked at.
pub(super) fn page(stage: &Stage) -> String {
    format!("{}/demo/demo/builds/1", stage.sandbox.url())
}

/// The build as it stands.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) build: BuildState,
    pub(super) jobs: Vec<JobNow>,
    pub(super) artifacts: usize,
    pub(super) annotations: usize,
    pub(super) meta_data: usize,
}

/// One job as Buildkite would show it.
#[derive(Clone, Debug)]
pub(super) struct JobNow {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) key: Option<String>,
    pub(super) state: State,
    pub(super) exit_status: Option<i32>,
    pub(super) has_agent: bool,
    /// What Jitney gave as the reason where it failed the job.
    pub(super) detail: Option<String>,
    pub(super) retried: bool,
    pub(super) is_retry: bool,
    pub(super) visible_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    /// The last lines of its log.
    pub(super) last_lines: String,
}

impl Outcome {
    /// The job to cancel, once it runs.
    pub(super) fn to_cancel(&self) -> Option<Uuid> {
        let running =
            |job: &&JobNow| job.key.as_deref() == Some(CANCELLED) && job.state == State::Running;
        self.jobs.iter().find(running).map(|job| job.id)
    }
}

pub(super) fn look(stage: &Stage, build: Uuid) -> Outcome {
    stage.sandbox.engine(|engine, _| {
        let of = engine.build(build).expect("the demo made it, and nothing forgets builds");
        Outcome {
            build: of.state,
            jobs: of.jobs().filter_map(|id| engine.job(id)).map(JobNow::of).collect(),
            artifacts: of.artifacts.len(),
            annotations: of.annotations.len(),
            meta_data: of.meta_data.len(),
        }
    })
}

impl JobNow {
    fn of(job: &Job) -> Self {
        let part = job
            .command
            .parallel
            .map(|parallel| format!(" {}/{}", parallel.index.saturating_add(1), parallel.total));
        Self {
            id: job.id,
            name: format!("{}{}", job.label, part.unwrap_or_default()),
            key: job.step_key.clone(),
            state: job.state,
            exit_status: job.outcome.exit_status,
            has_agent: job.agent.is_some(),
            detail: job.detail.clone(),
            retried: job.retried_in.is_some(),
            is_retry: job.retry_of.is_some(),
            visible_at: job.runnable_at.map(from_jiff),
            finished_at: job.finished_at.map(from_jiff),
            last_lines: last_lines(&job.log.text()),
        }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(LINES_TOLD).collect();
    lines.into_iter().rev().map(|line| format!("\n      {line}")).collect()
}
