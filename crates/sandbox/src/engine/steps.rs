//! Steps as a build takes them: already expanded, one command step for one job.
//! It parses no YAML: that is the pipeline's part.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One step of a build. A step with `parallelism: 3` or a matrix arrives as several of these that
/// share a key, and whoever depends on that key waits for all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewStep {
    #[serde(default)]
    pub key: Option<String>,
    #[serde(default)]
    pub label: String,
    pub kind: StepKind,
    /// `None`: behind the last wait or block step above it. `Some`: exactly these, whatever waits
    /// stand in between; `Some` of an empty list starts at once.
    #[serde(default)]
    pub depends_on: Option<Vec<Dependency>>,
    /// Run even though something that it depends on has failed.
    #[serde(default)]
    pub allow_dependency_failure: bool,
}

/// One entry of `depends_on`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dependency {
    /// The key of the other step.
    pub step: String,
    #[serde(default)]
    pub allow_failure: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Boxed, because it is ten times the size of the others.
    Command(Box<Command>),
    Wait {
        continue_on_failure: bool,
    },
    Block {
        prompt: Option<String>,
    },
}

/// What one job runs, and how it may be run again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Command {
    /// Several commands are one text with a line each.
    pub command: String,
    pub env: BTreeMap<String, String>,
    /// Tags in the order of the file; a missing `queue` means the cluster's default one.
    pub agents: Vec<(String, String)>,
    pub priority: i64,
    pub parallel: Option<Parallel>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parallel {
    /// From 0.
    pub index: u32,
    pub total: u32,
}

/// At most `limit` jobs of the group at a time, in the whole organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    pub group: String,
    pub limit: u32,
}

/// One rule of `retry.automatic`: every field that is given must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRule {
    #[serde(default)]
    pub exit_status: ExitMatch,
    /// `*` matches any signal, `none` the absence of one.
    #[serde(default)]
    pub signal: Option<String>,
    /// `*` matches any reason, `none` the absence of one.
    #[serde(default)]
    pub signal_reason: Option<String>,
    /// How often this rule may start the job anew; 0 never does.
    pub limit: u32,
}

/// Which exit statuses a rule of retries speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitMatch {
    /// The rule does not say.
    #[default]
    Unsaid,
    /// `"*"`: 1 to 255, so not the −1 of a lost agent.
    Failed,
    These(Vec<i32>),
}

/// Which failures do not fail the build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
        }
    }
}
