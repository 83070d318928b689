//! Failures and alarms: what did not work, and who can do something about it.

use std::fmt;

use crate::{Alarm, Failure, FailureClass};

use super::{line, open_ended};

impl FailureClass {
    /// As metrics and JSON name it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Quota => "quota",
            Self::Rate => "rate",
            Self::Ambiguous => "ambiguous",
            Self::Rejected => "rejected",
            Self::Denied => "denied",
            Self::EndedEarly => "ended_early",
            Self::StartTimeout => "start_timeout",
            Self::Lost => "lost",
        }
    }

    /// What whoever reads of it can do.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Capacity => "run it again later, or let the job take another shape or place",
            Self::Quota => "ask for less, or have the operator raise the quota",
            Self::Rate => "run it again later",
            Self::Ambiguous => {
                "run it again; the operator should see why the backend does not answer"
            }
            Self::Rejected => {
                "correct what the backend refuses, in the step's agents or in Jitney's \
                 configuration, and run it again"
            }
            Self::Denied => {
                "the operator has to put right how the backend is set up, or what Jitney may do there"
            }
            Self::EndedEarly => {
                "read the agent's last lines; its configuration, hooks and image are the usual \
                 causes"
            }
            Self::StartTimeout => {
                "see whether the machine reaches Buildkite and how long its image takes to start; \
                 the operator can raise the queue's start_timeout"
            }
            Self::Lost => "run it again; the operator should see what removes machines",
        }
    }
}

/// A fragment: `no capacity`.
impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capacity => "no capacity",
            Self::Quota => "a quota is used up",
            Self::Rate => "too many calls",
            Self::Ambiguous => "no clear answer",
            Self::Rejected => "refused",
            Self::Denied => "not set up or not permitted",
            Self::EndedEarly => "the machine ended before its agent had the job",
            Self::StartTimeout => "no agent had the job in time",
            Self::Lost => "the machine vanished",
        })
    }
}

/// A fragment: `no capacity: zone europe-west4-a has no n2 left`. What we saw ourselves is told in
/// our own words already and needs no class before it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = open_ended(&self.words);
        if words.is_empty() {
            return self.class.fmt(f);
        }
        match self.class {
            FailureClass::Capacity
            | FailureClass::Quota
            | FailureClass::Rate
            | FailureClass::Ambiguous
            | FailureClass::Rejected
            | FailureClass::Denied => write!(f, "{}: {words}", self.class),
            FailureClass::EndedEarly | FailureClass::StartTimeout | FailureClass::Lost => {
                f.write_str(words)
            }
        }
    }
}

impl Alarm {
    /// As metrics and JSON name it.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::TwoInstallations { .. } => "two_installations",
            Self::Denied { .. } => "denied",
            Self::ApiDenied { .. } => "api_denied",
        }
    }
}

/// One line for the operator, with the remedy.
impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TwoInstallations { instance, machine } => format!(
                "Another installation with our name (instance {instance}) made {machine} while we \
                 were running: stop it, or give one of the two another name in its configuration"
            ),
            Self::Denied { backend, words } => format!(
                "Backend {backend} denies us machines until its setup, credentials or permissions \
                 are put right: {}",
                open_ended(words)
            ),
            Self::ApiDenied { words } => format!(
                "Buildkite's REST API refuses buildkite.api_token, and lost jobs are not retried: {}. \
                 Give it a token with the scopes read_builds and write_builds, and start Jitney \
                 again",
                open_ended(words)
            ),
        };
        f.write_str(&line(&text))
    }
}
