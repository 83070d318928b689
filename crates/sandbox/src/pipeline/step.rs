//! What a pipeline says, typed: steps in the order of the file. What a build makes of them (jobs,
//! states, retries) is the engine's.

use std::collections::{BTreeMap, BTreeSet};

use super::{Retry, SoftFail};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pipeline {
    /// For every job; a step's own variable wins.
    pub env: BTreeMap<String, String>,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Command(Box<CommandStep>),
    Wait(WaitStep),
    Block(BlockStep),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandStep {
    pub key: Option<String>,
    pub label: Option<String>,
    /// Several commands are joined with line ends; empty only where plugins are to run instead.
    pub command: String,
    /// `key=value`, the pipeline's defaults included where the step has none of its own.
    pub agents: Vec<String>,
    /// The step's own; with `BUILDKITE_PLUGINS` where it has plugins.
    pub env: BTreeMap<String, String>,
    pub priority: i64,
    /// How many jobs, where the step says so. Each is then told its number.
    pub parallelism: Option<u32>,
    /// `None`: what stands before it decides (wait and block steps). `Some` and empty: nothing does.
    pub depends_on: Option<Vec<Dependency>>,
    pub allow_dependency_failure: bool,
    pub retry: Retry,
    pub timeout_in_minutes: Option<u32>,
    pub soft_fail: SoftFail,
    pub artifact_paths: Vec<String>,
    /// Why it is not run at all (empty where the pipeline gives no reason).
    pub skip: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub step: String,
    pub allow_failure: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitStep {
    pub key: Option<String>,
    pub continue_on_failure: bool,
    pub depends_on: Option<Vec<Dependency>>,
    pub allow_dependency_failure: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockStep {
    pub key: Option<String>,
    pub label: Option<String>,
    pub prompt: Option<String>,
    pub depends_on: Option<Vec<Dependency>>,
    pub allow_dependency_failure: bool,
}

impl Step {
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Command(step) => step.key.as_deref(),
            Self::Wait(step) => step.key.as_deref(),
            Self::Block(step) => step.key.as_deref(),
        }
    }

    #[must_use]
    pub fn depends_on(&self) -> Option<&[Dependency]> {
        match self {
            Self::Command(step) => step.depends_on.as_deref(),
            Self::Wait(step) => step.depends_on.as_deref(),
            Self::Block(step) => step.depends_on.as_deref(),
        }
    }
}

impl Pipeline {
    /// `(step, key)` for each dependency on a key that no step here has.
    #[must_use]
    pub fn unknown_dependencies(&self) -> Vec<(String, &str)> {
        let keys: BTreeSet<&str> = self.steps.iter().filter_map(Step::key).collect();
        let mut unknown = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            for dependency in step.depends_on().unwrap_or_default() {
                if !keys.contains(dependency.step.as_str()) {
                    unknown.push((format!("step {}", index + 1), dependency.step.as_str()));
                }
            }
        }
        unknown
    }
}
