//! What kinds of things a condition speaks of, and which variables there are. It parses nothing.

use std::fmt;

/// The kind of a part of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    Text,
    /// One of these texts and no other.
    OneOf(&'static [&'static str]),
    List,
    Pattern,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::OneOf(_) => "one of a few words",
            Self::List => "a list",
            Self::Pattern => "a regular expression",
        })
    }
}

const SOURCES: Kind =
    Kind::OneOf(&["ui", "api", "webhook", "trigger_job", "schedule", "pipeline_trigger"]);
const STATES: Kind = Kind::OneOf(&[
    "creating",
    "started",
    "scheduled",
    "running",
    "passed",
    "failing",
    "failed",
    "blocked",
    "canceling",
    "canceled",
    "skipped",
    "not_run",
]);

/// Every variable, and what it holds when it is not null.
pub(super) const VARIABLES: [(&str, Kind); 40] = [
    ("build.author.email", Kind::Text),
    ("build.author.id", Kind::Text),
    ("build.author.name", Kind::Text),
    ("build.author.teams", Kind::List),
    ("build.branch", Kind::Text),
    ("build.commit", Kind::Text),
    ("build.creator.email", Kind::Text),
    ("build.creator.id", Kind::Text),
    ("build.creator.name", Kind::Text),
    ("build.creator.teams", Kind::List),
    ("build.creator.verified", Kind::Bool),
    ("build.id", Kind::Text),
    ("build.merge_queue.base_branch", Kind::Text),
    ("build.merge_queue.base_commit", Kind::Text),
    ("build.message", Kind::Text),
    ("build.number", Kind::Number),
    ("build.pull_request.base_branch", Kind::Text),
    ("build.pull_request.draft", Kind::Bool),
    ("build.pull_request.id", Kind::Text),
    ("build.pull_request.label", Kind::Text),
    ("build.pull_request.labels", Kind::List),
    ("build.pull_request.repository", Kind::Text),
    ("build.pull_request.repository.fork", Kind::Bool),
    ("build.scm.author.email", Kind::Text),
    ("build.scm.author.name", Kind::Text),
    ("build.scm.committer.email", Kind::Text),
    ("build.scm.committer.name", Kind::Text),
    ("build.source", SOURCES),
    ("build.source_action", Kind::Text),
    ("build.source_event", Kind::Text),
    ("build.state", STATES),
    ("build.tag", Kind::Text),
    ("organization.id", Kind::Text),
    ("organization.slug", Kind::Text),
    ("pipeline.default_branch", Kind::Text),
    ("pipeline.id", Kind::Text),
    ("pipeline.repository", Kind::Text),
    ("pipeline.slug", Kind::Text),
    ("pipeline.started_failing", Kind::Bool),
    ("pipeline.started_passing", Kind::Bool),
];

/// What a condition may ask of Buildkite's own variables; people's own are all open to it.
pub(super) const BUILDKITE_ENV: [&str; 21] = [
    "BUILDKITE_BRANCH",
    "BUILDKITE_TAG",
    "BUILDKITE_MESSAGE",
    "BUILDKITE_COMMIT",
    "BUILDKITE_PIPELINE_SLUG",
    "BUILDKITE_PIPELINE_NAME",
    "BUILDKITE_PIPELINE_ID",
    "BUILDKITE_ORGANIZATION_SLUG",
    "BUILDKITE_TRIGGERED_FROM_BUILD_ID",
    "BUILDKITE_TRIGGERED_FROM_BUILD_NUMBER",
    "BUILDKITE_TRIGGERED_FROM_BUILD_PIPELINE_SLUG",
    "BUILDKITE_REBUILT_FROM_BUILD_ID",
    "BUILDKITE_REBUILT_FROM_BUILD_NUMBER",
    "BUILDKITE_REPO",
    "BUILDKITE_PULL_REQUEST",
    "BUILDKITE_PULL_REQUEST_BASE_BRANCH",
    "BUILDKITE_PULL_REQUEST_REPO",
    "BUILDKITE_GITHUB_DEPLOYMENT_ID",
    "BUILDKITE_GITHUB_DEPLOYMENT_TASK",
    "BUILDKITE_GITHUB_DEPLOYMENT_ENVIRONMENT",
    "BUILDKITE_GITHUB_DEPLOYMENT_PAYLOAD",
];
