//! Where a job's build comes from, as far as anybody has told. A policy may ask for it, and a job's
//! row in a listing does not say it: Buildkite is asked once, about those jobs only.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// So many looks at one job may fail, while Buildkite is reached, before the answer counts as
/// denied: whatever is wrong with it does not heal by itself.
const LOOKS_MOST: u32 = 5;

/// What the environment of a build's jobs says. What it does not say is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub pull_request: Option<bool>,
    /// Whether the commit is in another repository than the pipeline's.
    pub fork: Option<bool>,
    /// Names and addresses of who wrote the commit and who made the build; empty: nobody knows.
    pub authors: Vec<Arc<str>>,
}

/// How far a job's origin is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "origin", rename_all = "snake_case")]
pub enum OriginSeen {
    /// Nobody has looked, or no look has brought an answer: so many have failed, the last of them
    /// in these words.
    Unknown {
        failures: u32,
        words: Option<Arc<str>>,
    },
    Known(Origin),
    /// It will not be told, and why not.
    Denied {
        words: Arc<str>,
    },
}

/// How a look failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookFailure {
    /// Refused for good.
    Refused,
    /// This job's look alone: others may go through, and this one may another time.
    Failed,
    /// Buildkite cannot be reached: that says nothing about the job.
    Unreachable,
}

impl Default for OriginSeen {
    fn default() -> Self {
        Self::Unknown { failures: 0, words: None }
    }
}

impl OriginSeen {
    /// What is known after one more look that failed. An answer that is there already stays.
    #[must_use]
    pub fn after_failure(&self, failure: LookFailure, words: &str) -> Self {
        let Self::Unknown { failures, .. } = self else { return self.clone() };
        let words: Arc<str> = words.into();
        match failure {
            LookFailure::Refused => Self::Denied { words },
            LookFailure::Unreachable => Self::Unknown { failures: *failures, words: Some(words) },
            LookFailure::Failed if failures.saturating_add(1) >= LOOKS_MOST => {
                Self::Denied { words }
            }
            LookFailure::Failed => Self::Unknown { failures: failures + 1, words: Some(words) },
        }
    }

    /// Whether no further look will tell more.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        match self {
            Self::Unknown { .. } => false,
            Self::Known(_) | Self::Denied { .. } => true,
        }
    }
}
