//! Where a job's build comes from, as far as anybody has told. A policy may ask for it, and a job's
//! row in a listing does not say it: Buildkite is asked once, about those jobs only.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ledger::doubled;

/// So many looks at one job may fail, while Buildkite is reached, before the answer counts as
/// denied: whatever is wrong with it does not heal by itself.
const LOOKS_MOST: u32 = 5;
/// After a look that failed, others at the same job wait for this long, and twice as long each time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
    /// in these words. The next is due at `not_before`.
    Unknown {
        failures: u32,
        words: Option<Arc<str>>,
        #[serde(default)]
        not_before: Timestamp,
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
        Self::Unknown { failures: 0, words: None, not_before: Timestamp::ZERO }
    }
}

impl OriginSeen {
    /// What is known after one more look that failed. An answer that is there already stays.
    #[must_use]
    pub fn after_failure(&self, failure: LookFailure, words: &str, now: Timestamp) -> Self {
        let Self::Unknown { failures, not_before, .. } = self else { return self.clone() };
        let words: Arc<str> = words.into();
        let failures = match failure {
            LookFailure::Refused => return Self::Denied { words },
            // The pace of all looks says when the next is due.
            LookFailure::Unreachable => {
                let (failures, not_before) = (*failures, *not_before);
                return Self::Unknown { failures, words: Some(words), not_before };
            }
            LookFailure::Failed => failures.saturating_add(1),
        };
        if failures >= LOOKS_MOST {
            return Self::Denied { words };
        }
        // `LOOKS_MOST` bounds it.
        let pause = doubled(LOOK_AGAIN, failures - 1, Duration::MAX);
        Self::Unknown { failures, words: Some(words), not_before: now.plus(pause) }
    }

    /// When another look may be taken.
    pub(crate) const fn not_before(&self) -> Timestamp {
        match self {
            Self::Unknown { not_before, .. } => *not_before,
            Self::Known(_) | Self::Denied { .. } => Timestamp::ZERO,
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
