//! What conditions can see of a build. Nobody logs in to a sandbox and no webhook reaches it, so
//! who and what is behind a build is known only as far as the build's own variables tell.

use std::collections::BTreeMap;

use super::{Build, BuildState, Engine};
use crate::condition::{Facts, Value};

impl Engine {
    pub(super) fn facts(&self, build: &Build) -> Facts {
        let env = self.build_environment(build);
        let text = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
        let known = |name: &str| text(name).map_or(Value::Null, Value::Text);
        let number = i64::try_from(build.number).unwrap_or(i64::MAX);
        let mut variables = BTreeMap::from([
            ("build.author.email", known("BUILDKITE_BUILD_AUTHOR_EMAIL")),
            ("build.author.name", known("BUILDKITE_BUILD_AUTHOR")),
            ("build.branch", known("BUILDKITE_BRANCH")),
            ("build.commit", known("BUILDKITE_COMMIT")),
            ("build.creator.email", known("BUILDKITE_BUILD_CREATOR_EMAIL")),
            ("build.creator.name", known("BUILDKITE_BUILD_CREATOR")),
            ("build.creator.teams", list(text("BUILDKITE_BUILD_CREATOR_TEAMS"), ':')),
            ("build.id", known("BUILDKITE_BUILD_ID")),
            ("build.message", known("BUILDKITE_MESSAGE")),
            ("build.number", Value::Number(number)),
            ("build.source", known("BUILDKITE_SOURCE")),
            ("build.state", Value::Text(state(build.state).to_owned())),
            ("build.tag", known("BUILDKITE_TAG")),
            ("organization.id", Value::Text(self.organization_id.to_string())),
            ("organization.slug", known("BUILDKITE_ORGANIZATION_SLUG")),
            ("pipeline.default_branch", known("BUILDKITE_PIPELINE_DEFAULT_BRANCH")),
            ("pipeline.id", known("BUILDKITE_PIPELINE_ID")),
            ("pipeline.repository", known("BUILDKITE_REPO")),
            ("pipeline.slug", known("BUILDKITE_PIPELINE_SLUG")),
        ]);
        if let Some(id) = text("BUILDKITE_PULL_REQUEST").filter(|id| id != "false") {
            let from = text("BUILDKITE_PULL_REQUEST_REPO");
            let fork = from.as_ref().map(|from| Some(from) != env.get("BUILDKITE_REPO"));
            let draft = text("BUILDKITE_PULL_REQUEST_DRAFT").map(|draft| draft == "true");
            variables.extend([
                ("build.pull_request.id", Value::Text(id)),
                ("build.pull_request.base_branch", known("BUILDKITE_PULL_REQUEST_BASE_BRANCH")),
                ("build.pull_request.draft", draft.map_or(Value::Null, Value::Bool)),
                ("build.pull_request.labels", list(text("BUILDKITE_PULL_REQUEST_LABELS"), ',')),
                ("build.pull_request.repository", from.map_or(Value::Null, Value::Text)),
                ("build.pull_request.repository.fork", fork.map_or(Value::Null, Value::Bool)),
            ]);
        }
        Facts { variables, env }
    }
}

fn list(joined: Option<String>, by: char) -> Value {
    let Some(joined) = joined else { return Value::Null };
    Value::List(joined.split(by).map(|item| item.trim().to_owned()).collect())
}

fn state(state: BuildState) -> &'static str {
    match state {
        BuildState::Scheduled => "scheduled",
        BuildState::Running => "running",
        BuildState::Blocked => "blocked",
        BuildState::Passed => "passed",
        BuildState::Failed => "failed",
        BuildState::Canceling => "canceling",
        BuildState::Canceled => "canceled",
    }
}
