//! Steps as a build takes them: already expanded, one command step for one job.
//! It parses no YAML: that is the pipeline's part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::form::Form;
use crate::condition::{Branches, Condition};

/// One step of a build. A step with `parallelism: 3` or a matrix arrives as several of these that
/// share a key, and whoever depends on that key waits for all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct NewStep {
    pub key: Option<String>,
    pub label: String,
    pub kind: StepKind,
    /// `None`: behind the last wait or block step above it. `Some`: exactly these, whatever waits
    /// stand in between; `Some` of an empty list starts at once.
    pub depends_on: Option<Vec<Dependency>>,
    /// Run even though something that it depends on has failed.
    pub allow_dependency_failure: bool,
    /// The steps of one group share one `Arc`, and stand together.
    pub group: Option<Arc<NewGroup>>,
    pub filter: Filter,
}

/// A group of steps, which whoever depends on its key waits for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewGroup {
    pub key: Option<String>,
    pub label: String,
    /// As of a step; its steps have their own besides.
    pub depends_on: Option<Vec<Dependency>>,
    pub allow_dependency_failure: bool,
    pub filter: Filter,
}

/// Whether a step is run at all, which is decided when it is added to its build.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// It is left out, for this reason (which may be empty).
    pub skip: Option<String>,
    pub only: Option<Only>,
}

/// In which builds a step is run.
#[derive(Clone, Debug, PartialEq)]
pub enum Only {
    If {
        condition: Condition,
        /// What `build.env()` sees besides the build's own variables: the pipeline's.
        env: Arc<BTreeMap<String, String>>,
    },
    Branches(Branches),
}

/// One entry of `depends_on`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The key of the other step, or of a group.
    pub step: String,
    pub allow_failure: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StepKind {
    /// Boxed, because it is ten times the size of the others.
    Command(Box<Command>),
    Wait {
        continue_on_failure: bool,
    },
    /// Waits for a person, and whatever stands below waits for it.
    Block(Form),
    /// Waits for a person, and only what depends on it waits for it.
    Input(Form),
}

impl StepKind {
    /// What a person is asked.
    #[must_use]
    pub const fn form(&self) -> Option<&Form> {
        match self {
            Self::Block(form) | Self::Input(form) => Some(form),
            Self::Command(_) | Self::Wait { .. } => None,
        }
    }
}

/// What one job runs, and how it may be run again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// Several commands are one text with a line each.
    pub command: String,
    pub env: BTreeMap<String, String>,
    /// Tags in the order of the file; a missing `queue` means the cluster's default one.
    pub agents: Vec<(String, String)>,
    pub priority: i64,
    pub parallel: Option<Parallel>,
    /// Its values in the step's matrix, by dimension; that of a matrix with only one has no name.
    pub matrix: Option<BTreeMap<String, String>>,
    pub concurrency: Option<Concurrency>,
    /// The first rule that matches counts.
    pub retry: Vec<RetryRule>,
    /// From the job's start.
    pub timeout: Option<Duration>,
    pub soft_fail: SoftFail,
    /// Globs, handed to the agent.
    pub artifact_paths: Vec<String>,
    /// As the agent reads them, in JSON; jobs without plugins have none.
    pub plugins: Option<serde_json::Value>,
}

/// Which of a step's parallel jobs this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parallel {
    /// From 0.
    pub index: u32,
    pub total: u32,
}

/// At most `limit` jobs of the group at a time, in the whole organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    pub group: String,
    pub limit: u32,
    pub method: ConcurrencyMethod,
}

/// Which job of a concurrency group is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConcurrencyMethod {
    /// The one that was created first, and nobody before it, even while it waits for other steps.
    #[default]
    Ordered,
    /// Whichever could run, by priority.
    Eager,
}

/// One rule of `retry.automatic`: every field that is given must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRule {
    pub exit_status: ExitMatch,
    /// `*` matches any signal, `none` the absence of one.
    pub signal: Option<String>,
    /// `*` matches any reason, `none` the absence of one.
    pub signal_reason: Option<String>,
    /// How often this rule may start the job anew; 0 never does.
    pub limit: u32,
}

/// Which exit statuses a rule of retries speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExitMatch {
    /// The rule does not say.
    #[default]
    Unsaid,
    /// `"*"`: 1 to 255, so not the −1 of a lost agent.
    Failed,
    These(Vec<i32>),
}

/// Which failures do not fail the build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SoftFail {
    #[default]
    Never,
    Always,
    These(Vec<i32>),
}

impl SoftFail {
    /// Whether a failure with this status is soft.
    #[must_use]
    pub fn covers(&self, exit_status: i32) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::These(statuses) => statuses.contains(&exit_status),
        }
    }
}

impl NewStep {
    /// A command step with nothing but its command: what tests and the controls start from.
    #[must_use]
    pub fn command(command: &str) -> Self {
        Self::of(StepKind::Command(Box::new(Command {
            command: command.to_owned(),
            ..Command::default()
        })))
    }

    #[must_use]
    pub fn wait() -> Self {
        Self::of(StepKind::Wait { continue_on_failure: false })
    }

    fn of(kind: StepKind) -> Self {
        Self {
            key: None,
            label: String::new(),
            kind,
            depends_on: None,
            allow_dependency_failure: false,
            group: None,
            filter: Filter::default(),
        }
    }
}
