//! The template that the cluster has, as it may be copied: what the API server, the controller, or
//! a tool that deploys things has put into it is taken out.

use serde_json::{Map, Value, json};

use crate::kubernetes::copied;

/// Where a template is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Job(String),
    PodTemplate(String),
}

/// A Job's labels, annotations and spec, cleaned.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub(super) labels: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
    pub(super) spec: Map<String, Value>,
    /// The index of the agent's container.
    pub(super) agent: usize,
    /// It is a Job whose own pods run.
    pub(super) runs: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error(
        "which of its containers ({0}) is the agent's cannot be told: name one `buildkite-agent` or `agent`, or give one BUILDKITE_AGENT_TOKEN"
    )]
    WhichContainer(String),
}

/// What an agent's container is called.
const AGENT_NAMES: [&str; 2] = ["buildkite-agent", "agent"];
const TOKEN: &str = "BUILDKITE_AGENT_TOKEN";

impl Template {
    /// Of a Job in the cluster.
    pub fn from_job(job: &Value) -> Result<Self, TemplateError> {
        let spec = object(job.get("spec")).ok_or(TemplateError::Missing("spec"))?;
        let suspended = spec.get("suspend") == Some(&json!(true));
        let runs = !suspended && spec.get("parallelism") != Some(&json!(0));
        Ok(Self { runs, ..Self::cleaned(job.get("metadata"), &spec)? })
    }

    /// Of a PodTemplate in the cluster.
    pub fn from_pod_template(object: &Value) -> Result<Self, TemplateError> {
        let template = object.get("template").ok_or(TemplateError::Missing("template"))?;
        let spec = Map::from_iter([("template".to_owned(), template.clone())]);
        Self::cleaned(None, &spec)
    }

    fn cleaned(metadata: Option<&Value>, spec: &Map<String, Value>) -> Result<Self, TemplateError> {
        let spec = copied::spec(spec);
        let pod = object(spec.get("template")).ok_or(TemplateError::Missing("spec.template"))?;
        let agent = agent(&pod)?;
        let metadata = metadata.map(copied::metadata_of_job).unwrap_or_default();
        let of = |key: &str| object(metadata.get(key)).unwrap_or_default();
        Ok(Self { labels: of("labels"), annotations: of("annotations"), spec, agent, runs: false })
    }

    /// The image of the agent's container, and what the container is called.
    #[must_use]
    pub fn agents_image(&self) -> (String, String) {
        let container = self.agents_container();
        let image = container.get("image").and_then(Value::as_str).unwrap_or_default().to_owned();
        (image, named(container))
    }

    pub(super) fn agents_container(&self) -> &Value {
        let containers = self.pod().and_then(|pod| pod.get("containers"));
        containers.and_then(|of| of.get(self.agent)).unwrap_or(&Value::Null)
    }

    /// The spec of its pods.
    pub(super) fn pod(&self) -> Option<&Value> {
        self.spec.get("template")?.get("spec")
    }

    /// Containers that run beside the agent's and would keep its pod after it has left.
    #[must_use]
    pub fn beside(&self) -> Vec<String> {
        let containers = containers(self.spec.get("template"));
        let names = containers.iter().enumerate().filter(|(at, _)| *at != self.agent);
        names.map(|(_, container)| named(container)).collect()
    }
}

fn object(value: Option<&Value>) -> Option<Map<String, Value>> {
    value?.as_object().cloned()
}

fn containers(pod: Option<&Value>) -> Vec<Value> {
    let containers = pod.and_then(|pod| pod.pointer("/spec/containers"));
    containers.and_then(Value::as_array).cloned().unwrap_or_default()
}

fn named(container: &Value) -> String {
    container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The one that is called so, or the only one, or the only one that is given a token.
fn agent(pod: &Map<String, Value>) -> Result<usize, TemplateError> {
    let containers = containers(Some(&json!(pod)));
    if let [_] = containers.as_slice() {
        return Ok(0);
    }
    if containers.is_empty() {
        return Err(TemplateError::Missing("spec.template.spec.containers"));
    }
    let called = |name: &&str| containers.iter().position(|container| named(container) == **name);
    if let Some(at) = AGENT_NAMES.iter().find_map(called) {
        return Ok(at);
    }
    let has_token = |container: &Value| {
        let env = container.get("env").and_then(Value::as_array);
        env.is_some_and(|env| {
            env.iter().any(|variable| variable.get("name") == Some(&json!(TOKEN)))
        })
    };
    let mut given = containers.iter().enumerate().filter(|(_, container)| has_token(container));
    match (given.next(), given.next()) {
        (Some((at, _)), None) => Ok(at),
        (_, _) => {
            let names: Vec<String> = containers.iter().map(named).collect();
            Err(TemplateError::WhichContainer(names.join(", ")))
        }
    }
}
