//! Builds: what one holds, and how it is created. How steps come into it is in `insert`, which of
//! them may go on in `settle`.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::form::BlockedState;
use super::insert::{Insertion, check_room};
use super::job::State;
use super::records::Annotation;
use super::steps::{Dependency, NewStep, StepKind};
use super::{Engine, Refusal};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildState {
    Scheduled,
    Running,
    /// Nothing runs, and a block or input step waits for a person.
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
    /// A block or input step that waits for a person.
    Blocked,
    /// Its job has been let go and has not ended.
    Started,
    Passed,
    SoftFailed,
    Failed,
    Canceled,
    /// Depends on something that will never be.
    Broken,
    /// Is no part of this build, as its `omitted` says; who depends on it does not wait.
    Omitted,
}

/// Why a step is no part of its build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Omitted {
    /// By `skip`, with its reason, which may be empty.
    Skip {
        reason: String,
    },
    If {
        condition: String,
    },
    Branches {
        patterns: String,
    },
}

impl Omitted {
    /// What becomes of its jobs: what the build itself rules out is broken.
    pub(super) const fn job_state(&self) -> State {
        match self {
            Self::Skip { .. } => State::Skipped,
            Self::If { .. } | Self::Branches { .. } => State::Broken,
        }
    }
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip { reason } if reason.is_empty() => f.write_str("skipped"),
            Self::Skip { reason } => write!(f, "skipped: {reason}"),
            Self::If { condition } => write!(f, "not true of this build: {condition}"),
            Self::Branches { patterns } => write!(f, "only for the branches {patterns}"),
        }
    }
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
    /// Each with its steps side by side among `steps`.
    pub groups: Vec<Group>,
    pub meta_data: BTreeMap<String, String>,
    pub annotations: Vec<Annotation>,
    pub artifacts: Vec<Uuid>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub(super) cancel_asked: bool,
    pub(super) keys: BTreeMap<String, Vec<usize>>,
    /// Jobs that have not yet joined the line of their concurrency group.
    pub(super) out_of_line: Vec<Uuid>,
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
    /// Index in the build's list of groups.
    pub group: Option<usize>,
    /// Why its state is `Omitted`.
    pub omitted: Option<Omitted>,
    /// One job, and after it one for each retry; none for waits, blocks and inputs.
    pub jobs: Vec<Uuid>,
}

#[derive(Clone, Debug)]
pub struct Group {
    pub id: Uuid,
    pub key: Option<String>,
    pub label: String,
    pub depends_on: Option<Vec<Dependency>>,
    pub allow_dependency_failure: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    id: Uuid,
    builds: u64,
}

impl Step {
    /// Whether a person has still to answer it.
    pub(super) fn waits_for_a_person(&self) -> bool {
        self.kind.form().is_some() && matches!(self.state, StepState::Waiting | StepState::Blocked)
    }
}

impl Build {
    /// What the build counts as to others while it is blocked: as the first step says that asks a
    /// person.
    #[must_use]
    pub fn blocked_state(&self) -> Option<BlockedState> {
        let blocked = self.steps.iter().find(|step| step.state == StepState::Blocked);
        let form = blocked.filter(|_| self.state == BuildState::Blocked)?.kind.form()?;
        Some(form.blocked_state)
    }

    /// Every job, in the order of the steps, retries after what they retry.
    pub fn jobs(&self) -> impl Iterator<Item = Uuid> {
        self.steps.iter().flat_map(|step| step.jobs.iter().copied())
    }

    pub(super) fn set_step(&mut self, step: usize, to: StepState) {
        let from = std::mem::replace(&mut self.steps[step].state, to);
        self.tally(from, |count| *count -= 1);
        self.tally(to, |count| *count += 1);
    }

    pub(super) fn tally(&mut self, state: StepState, change: impl Fn(&mut usize)) {
        match state {
            StepState::Waiting => change(&mut self.waiting),
            StepState::Blocked => change(&mut self.blocked),
            StepState::Started => change(&mut self.started),
            StepState::Failed | StepState::Canceled | StepState::Broken => change(&mut self.bad),
            StepState::Passed | StepState::SoftFailed | StepState::Omitted => {}
        }
    }

    /// A group's key stands for all of its steps.
    pub(super) fn index_keys(&mut self) {
        self.keys.clear();
        for (index, step) in self.steps.iter().enumerate() {
            let group = step.group.and_then(|group| self.groups[group].key.as_ref());
            for key in step.key.iter().chain(group) {
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
        check_room(0, new.steps.len())?;
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
            groups: Vec::new(),
            meta_data: BTreeMap::new(),
            annotations: Vec::new(),
            artifacts: Vec::new(),
            created_at: now,
            started_at: None,
            finished_at: None,
            cancel_asked: false,
            keys: BTreeMap::new(),
            out_of_line: Vec::new(),
            waiting: 0,
            blocked: 0,
            started: 0,
            bad: 0,
        });
        self.build_ids.insert(id, index);
        self.insert_steps(
            index,
            new.steps,
            Insertion { at: 0, join: None, scheduled_at: now },
            now,
        );
        self.settle(index, now);
        Ok(id)
    }
}
