//! The environment that a job's agent is given. What the agent sets by itself is not in it.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::settings::Checkout;
use super::{Agent, Build, Engine, Job, Step};

impl Engine {
    /// A job's environment as it stands, for whoever may look at it; empty for an unknown job.
    #[must_use]
    pub fn environment_of(&self, id: Uuid) -> BTreeMap<String, String> {
        if self.jobs.contains_key(&id) { self.job_environment(id) } else { BTreeMap::new() }
    }

    /// The build's and the step's own variables, and Buildkite's, which win.
    pub(super) fn job_environment(&self, id: Uuid) -> BTreeMap<String, String> {
        let job = &self.jobs[&id];
        let build = &self.builds[job.build];
        let mut env = build.env.clone();
        env.extend(job.command.env.clone());
        let agent = job.agent.and_then(|agent| self.agents.get(&agent));
        let mut set = |key: &str, value: String| {
            env.insert(format!("BUILDKITE_{key}"), value);
        };
        self.of_build(build, &mut set);
        let step = &build.steps[job.step];
        if let Some(group) = step.group.map(|group| &build.groups[group]) {
            set("GROUP_ID", group.id.to_string());
            set("GROUP_LABEL", group.label.clone());
            set("GROUP_KEY", group.key.clone().unwrap_or_default());
        }
        self.of_job(job, step, &mut set);
        if let Some(agent) = agent {
            of_agent(agent, &mut set);
        }
        env.insert("BUILDKITE".to_owned(), "true".to_owned());
        env.insert("CI".to_owned(), "true".to_owned());
        env
    }

    /// The build's own variables and Buildkite's, as far as they are the same for all of its jobs.
    pub(super) fn build_environment(&self, build: &Build) -> BTreeMap<String, String> {
        let mut env = build.env.clone();
        self.of_build(build, &mut |key: &str, value: String| {
            env.insert(format!("BUILDKITE_{key}"), value);
        });
        env
    }

    fn of_build(&self, build: &Build, set: &mut impl FnMut(&str, String)) {
        let organization = &self.settings.organization;
        let url = &self.settings.base_url;
        set("BUILD_ID", build.id.to_string());
        set("BUILD_NUMBER", build.number.to_string());
        set(
            "BUILD_URL",
            format!("{url}/{organization}/{}/builds/{}", build.pipeline, build.number),
        );
        set("ORGANIZATION_SLUG", organization.clone());
        set("PIPELINE_SLUG", build.pipeline.clone());
        set("PIPELINE_NAME", build.pipeline.clone());
        set("PIPELINE_ID", build.pipeline_id.to_string());
        set("PIPELINE_PROVIDER", "git".to_owned());
        set("PIPELINE_DEFAULT_BRANCH", "main".to_owned());
        set("BRANCH", text_or(&build.branch, "main"));
        set("COMMIT", text_or(&build.commit, "HEAD"));
        set("MESSAGE", text_or(&build.message, "sandbox"));
        let pull_request = build.pull_request.as_ref();
        let number = pull_request.map_or("false".to_owned(), |of| of.id.to_string());
        set("PULL_REQUEST", number);
        set("PULL_REQUEST_REPO", pull_request.map(|of| of.repository.clone()).unwrap_or_default());
        let (name, email) = build.author.as_ref().map_or(("", ""), |who| (&who.name, &who.email));
        set("BUILD_AUTHOR", name.to_owned());
        set("BUILD_AUTHOR_EMAIL", email.to_owned());
        // A build that plays a tag's or a schedule's says so in its own variables.
        for (key, otherwise) in [("TAG", ""), ("SOURCE", "api")] {
            let own = build.env.get(&format!("BUILDKITE_{key}"));
            set(key, own.map_or(otherwise, String::as_str).to_owned());
        }
        set("COMPUTE_TYPE", "self-hosted".to_owned());
        match &self.settings.checkout {
            Checkout::Skip => {
                // No agent starts a job with an empty repository, even if it checks nothing out.
                set("REPO", "file:///nothing-to-check-out".to_owned());
                set("SKIP_CHECKOUT", "true".to_owned());
            }
            Checkout::Repository(url) => set("REPO", url.clone()),
        }
    }

    fn of_job(&self, job: &Job, step: &Step, set: &mut impl FnMut(&str, String)) {
        set("JOB_ID", job.id.to_string());
        set("STEP_ID", step.id.to_string());
        set("STEP_KEY", job.step_key.clone().unwrap_or_default());
        set("LABEL", job.label.clone());
        set("COMMAND", job.command.command.clone());
        set("RETRY_COUNT", job.retry_count.to_string());
        set("ARTIFACT_PATHS", job.command.artifact_paths.join(";"));
        if let Some(timeout) = job.command.timeout {
            set("TIMEOUT", timeout.as_secs().div_ceil(60).to_string());
        }
        if let Some(parallel) = job.command.parallel {
            set("PARALLEL_JOB", parallel.index.to_string());
            set("PARALLEL_JOB_COUNT", parallel.total.to_string());
        }
        if let Some(plugins) = &job.command.plugins {
            set("PLUGINS", plugins.to_string());
        }
        let queue = &self.queues[job.queue].key;
        set("AGENT_META_DATA_QUEUE", queue.clone());
    }
}

fn of_agent(agent: &Agent, set: &mut impl FnMut(&str, String)) {
    set("AGENT_NAME", agent.name.clone());
    set("AGENT_ID", agent.id.to_string());
    for tag in &agent.meta_data {
        let (key, value) = tag.split_once('=').unwrap_or((tag, "true"));
        let key: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        set(&format!("AGENT_META_DATA_{key}"), value.to_owned());
    }
}

fn text_or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise } else { text }.to_owned()
}
