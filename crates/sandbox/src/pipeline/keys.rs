//! Which keys a pipeline and each kind of step may have, and what is told about the others.

use super::Error;
use super::read::{self, Fields};
use crate::nearest::nearest;

/// What Buildkite knows at the top of a pipeline. Other keys are places for anchors.
const TOP: [&str; 3] = ["steps", "env", "agents"];
const TOP_UNSUPPORTED: [&str; 4] = ["notify", "image", "secrets", "cache"];

/// What every kind of step may have.
const ANY: [&str; 8] =
    ["type", "key", "id", "identifier", "depends_on", "allow_dependency_failure", "if", "branches"];
pub(super) const COMMAND: [&str; 18] = [
    "command",
    "commands",
    "plugins",
    "label",
    "name",
    "agents",
    "env",
    "priority",
    "parallelism",
    "matrix",
    "retry",
    "timeout_in_minutes",
    "soft_fail",
    "artifact_paths",
    "skip",
    "concurrency",
    "concurrency_group",
    "concurrency_method",
];
pub(super) const WAIT: [&str; 3] = ["wait", "waiter", "continue_on_failure"];
pub(super) const BLOCK: [&str; 7] =
    ["block", "manual", "label", "name", "prompt", "fields", "blocked_state"];
pub(super) const INPUT: [&str; 6] = ["input", "label", "name", "prompt", "fields", "blocked_state"];
const GROUP: [&str; 11] = [
    "group",
    "label",
    "name",
    "steps",
    "key",
    "id",
    "identifier",
    "depends_on",
    "allow_dependency_failure",
    "if",
    "skip",
];

/// Keys that Buildkite knows and the sandbox would not honour.
const UNSUPPORTED: [&str; 10] = [
    "if_changed",
    "notify",
    "image",
    "secrets",
    "cache",
    "checkout",
    "cancel_on_build_failing",
    "signature",
    "allowed_teams",
    "submit",
];

pub(super) fn check_top(fields: Fields<'_>) -> Result<(), Error> {
    for entry in fields.0 {
        let key = entry.key.as_str();
        if TOP_UNSUPPORTED.contains(&key) {
            return Err(Error::at(entry.at, unsupported("the pipeline", key)));
        }
        if !TOP.contains(&key) && nearest(key, &TOP).is_some() {
            return Err(read::unknown_key(entry, "the pipeline", &TOP));
        }
    }
    Ok(())
}

/// A step may have what its kind has, and what all kinds have.
pub(super) fn check_step(fields: Fields<'_>, kind: &[&str]) -> Result<(), Error> {
    check(fields, "it", &[kind, &ANY].concat())
}

pub(super) fn check_group(fields: Fields<'_>) -> Result<(), Error> {
    check(fields, "it", &GROUP)
}

fn check(fields: Fields<'_>, what: &str, known: &[&str]) -> Result<(), Error> {
    for entry in fields.0 {
        let key = entry.key.as_str();
        if known.contains(&key) {
            continue;
        }
        if UNSUPPORTED.contains(&key) {
            return Err(Error::at(entry.at, unsupported(what, key)));
        }
        return Err(read::unknown_key(entry, what, known));
    }
    Ok(())
}

/// What is absent for good says what to do in its place.
pub(super) fn unsupported(what: &str, key: &str) -> String {
    match key {
        "secrets" => format!(
            "{what} uses `secrets`, and the sandbox has none; set a variable by `env` to run here"
        ),
        "signature" => format!(
            "{what} has a `signature`, and the sandbox keeps none; upload without a signing key to run here"
        ),
        _ => format!(
            "{what} uses `{key}`, which the sandbox does not support yet; leave it out to run here"
        ),
    }
}
