//! Builds: how one is made of steps, and how a running job adds more of them.
//! Which steps may go on is decided in `settle`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::job::{Actor, EventKind, Job, JobPlace, State};
use super::records::Annotation;
use super::steps::{Command, Dependency, NewStep, StepKind};
use super::timers::Due;
use super::{Engine, Refusal};

/// Of one build; Buildkite itself allows fewer.
const MAX_STEPS: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildState {
    Scheduled,
    Running,
    /// Nothing runs, and a block step waits for a person.
    Blocked,
    Passed,
    Failed,
    Canceling,
    Canceled,
}

impl BuildState {
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Passed | Self::Failed | Self::Canceled)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Behind a wait, a block or a dependency.
    Waiting,
    /// A block step that waits for a person.
    Blocked,
    /// Its job has been let go and has not ended.
    Started,
    Passed,
    SoftFailed,
    Failed,
    Canceled,
    /// Depends on something that will never be.
    Broken,
}

/// What a build is made of. `Default` leaves names empty: set at least the pipeline.
#[derive(Clone, Debug, Default)]
pub struct NewBuild {
    pub pipeline: String,
    pub branch: String,
    pub commit: String,
    pub message: String,
    /// By name; the first cluster if it is left out.
    pub cluster: Option<String>,
    pub env: BTreeMap<String, String>,
    pub pull_request: Option<PullRequest>,
    pub author: Option<Author>,
    pub steps: Vec<NewStep>,
}

/// What a build is of, where it is of a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    pub id: u64,
    /// The repository that it comes from: another than the pipeline's for a fork.
    pub repository: String,
}

/// Who wrote the commit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Author {
    pub name: String,
    #[serde(default)]
    pub email: String,
}

#[derive(Clone, Debug)]
pub struct Build {
    pub id: Uuid,
    pub number: u64,
    pub pipeline: String,
    pub pipeline_id: Uuid,
    /// Index of its cluster.
    pub cluster: usize,
    pub branch: String,
    pub commit: String,
    pub message: String,
    pub env: BTreeMap<String, String>,
    pub pull_request: Option<PullRequest>,
    pub author: Option<Author>,
    pub state: BuildState,
    pub steps: Vec<Step>,
    pub meta_data: BTreeMap<String, String>,
    pub annotations: Vec<Annotation>,
    pub artifacts: Vec<Uuid>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub(super) cancel_asked: bool,
    pub(super) keys: BTreeMap<String, Vec<usize>>,
    /// How many steps are in each state that `settle` asks for.
    pub(super) waiting: usize,
    pub(super) blocked: usize,
    pub(super) started: usize,
    pub(super) bad: usize,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub id: Uuid,
    pub key: Option<String>,
    pub label: String,
    pub kind: StepKind,
    pub depends_on: Option<Vec<Dependency>>,
    pub allow_dependency_failure: bool,
    pub state: StepState,
    /// One job, and after it one for each retry; none for waits and blocks.
    pub jobs: Vec<Uuid>,
}

#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    id: Uuid,
    builds: u64,
}

impl Build {
    /// Every job, in the order of the steps, retries after what they retry.
    pub fn jobs(&self) -> impl Iterator<Item = Uuid> {
        self.steps.iter().flat_map(|step| step.jobs.iter().copied())
    }

    pub(super) fn set_step(&mut self, step: usize, to: StepState) {
        let from = std::mem::replace(&mut self.steps[step].state, to);
        self.tally(from, |count| *count -= 1);
        self.tally(to, |count| *count += 1);
    }

    fn tally(&mut self, state: StepState, change: impl Fn(&mut usize)) {
        match state {
            StepState::Waiting => change(&mut self.waiting),
            StepState::Blocked => change(&mut self.blocked),
            StepState::Started => change(&mut self.started),
            StepState::Failed | StepState::Canceled | StepState::Broken => change(&mut self.bad),
            StepState::Passed | StepState::SoftFailed => {}
        }
    }

    fn index_keys(&mut self) {
        self.keys.clear();
        for (index, step) in self.steps.iter().enumerate() {
            if let Some(key) = &step.key {
                self.keys.entry(key.clone()).or_default().push(index);
            }
        }
    }
}

impl Engine {
    /// Creates a build and lets go what may go at once. The answer is its id.
    pub fn create_build(&mut self, new: NewBuild, now: Timestamp) -> Result<Uuid, Refusal> {
        let cluster = self.cluster_named(new.cluster.as_deref())?;
        if new.steps.is_empty() {
            return Err(Refusal::Unprocessable("a build needs at least one step".to_owned()));
        }
        let id = self.ids.uuid(now);
        let pipeline_id = self.ids.uuid(now);
        let pipeline = self
            .pipelines
            .entry(new.pipeline.clone())
            .or_insert(Pipeline { id: pipeline_id, builds: 0 });
        pipeline.builds += 1;
        let index = self.builds.len();
        self.builds.push(Build {
            id,
            number: pipeline.builds,
            pipeline_id: pipeline.id,
            pipeline: new.pipeline,
            cluster,
            branch: new.branch,
            commit: new.commit,
            message: new.message,
            env: new.env,
            pull_request: new.pull_request,
            author: new.author,
            state: BuildState::Scheduled,
            steps: Vec::new(),
            meta_data: BTreeMap::new(),
            annotations: Vec::new(),
            artifacts: Vec::new(),
            created_at: now,
            started_at: None,
            finished_at: None,
            cancel_asked: false,
            keys: BTreeMap::new(),
            waiting: 0,
            blocked: 0,
            started: 0,
            bad: 0,
        });
        self.build_ids.insert(id, index);
        self.insert_steps(index, 0, new.steps, now, now)?;
        self.settle(index, now);
        Ok(id)
    }

    /// `pipeline upload`: puts steps right after that of the job. The same upload sent again does
    /// nothing.
    pub fn upload_steps(
        &mut self,
        job: Uuid,
        upload: Uuid,
        steps: Vec<NewStep>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let of = self.known_job(job)?;
        if of.uploads.contains(&upload) {
            return Ok(());
        }
        if of.state.is_terminal() {
            return Err(Refusal::Unprocessable(format!("job {job} has ended, it adds no steps")));
        }
        let (build, at, scheduled_at) = (of.build, of.step + 1, of.scheduled_at);
        self.insert_steps(build, at, steps, scheduled_at, now)?;
        let of = self.own_job(job);
        of.uploads.insert(upload);
        let actor = of.agent.map_or(Actor::User, Actor::Agent);
        of.tell(now, EventKind::BuildStepUploadCreated, actor);
        self.settle(build, now);
        Ok(())
    }

    /// Inserts steps at `at`. Jobs that an upload adds inherit its job's `scheduled_at`.
    fn insert_steps(
        &mut self,
        build: usize,
        at: usize,
        new: Vec<NewStep>,
        scheduled_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let added = new.len();
        if self.builds[build].steps.len() + added > MAX_STEPS {
            return Err(Refusal::Unprocessable(format!("a build has at most {MAX_STEPS} steps")));
        }
        let tail = self.builds[build].steps.split_off(at);
        for (offset, step) in new.into_iter().enumerate() {
            let job = match &step.kind {
                StepKind::Command(command) => {
                    let command = Arc::new((**command).clone());
                    vec![self.add_job(build, at + offset, &step, command, scheduled_at, now)]
                }
                StepKind::Wait { .. } | StepKind::Block { .. } => Vec::new(),
            };
            let id = self.ids.uuid(now);
            let of = &mut self.builds[build];
            of.waiting += 1;
            of.steps.push(Step {
                id,
                key: step.key,
                label: step.label,
                kind: step.kind,
                depends_on: step.depends_on,
                allow_dependency_failure: step.allow_dependency_failure,
                state: StepState::Waiting,
                jobs: job,
            });
        }
        for step in &tail {
            for job in &step.jobs {
                self.own_job(*job).step += added;
            }
        }
        self.builds[build].steps.extend(tail);
        self.builds[build].index_keys();
        Ok(())
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
        job.retries_by_rule = old.retries_by_rule.iter().copied().chain(rule).collect();
        self.queues[queue].count(State::Waiting, true);
        self.builds[build].steps[step].jobs.push(id);
        self.jobs.insert(id, job);
        self.due_at(now + self.settings.timing.job_expiry, Due::Expiry(id));
        id
    }
}
