//! The template that the cluster has, as it may be copied: what the API server, the controller, or
//! a tool that deploys things has put into it is taken out.

use serde_json::{Map, Value, json};

use crate::kubernetes::OF_THE_CONTROLLER;

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

/// What is decided for each dispatch, by the cluster, or by somebody who queues Jobs; and what would
/// let one agent's end be another's, or make pods of the controller's own accord.
const NOT_COPIED: [&str; 13] = [
    "selector",
    "manualSelector",
    "suspend",
    "parallelism",
    "completions",
    "completionMode",
    "backoffLimit",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
    "podFailurePolicy",
    "podReplacementPolicy",
    "successPolicy",
    "status",
];
/// Annotations of tools begin so: what was applied last, and what belongs to which release.
const TOOLS: [&str; 6] = [
    "kubectl.kubernetes.io/",
    "argocd.argoproj.io/",
    "meta.helm.sh/",
    "helm.sh/",
    "batch.kubernetes.io/",
    "jitney.dev/",
];
/// By these labels tools find what is theirs, and remove what they do not know.
const TRACKING: [&str; 4] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "argocd.argoproj.io/instance",
    "helm.sh/chart",
];
/// What an agent's container is called.
const AGENT_NAMES: [&str; 2] = ["buildkite-agent", "agent"];
const TOKEN: &str = "BUILDKITE_AGENT_TOKEN";

impl Template {
    /// Of a Job in the cluster.
    pub fn from_job(job: &Value) -> Result<Self, TemplateError> {
        let spec = object(job.get("spec")).ok_or(TemplateError::Missing("spec"))?;
        Self::cleaned(job.get("metadata"), spec)
    }

    /// Of a PodTemplate in the cluster.
    pub fn from_pod_template(object: &Value) -> Result<Self, TemplateError> {
        let template = object.get("template").ok_or(TemplateError::Missing("template"))?;
        let spec = Map::from_iter([("template".to_owned(), template.clone())]);
        Self::cleaned(None, spec)
    }

    fn cleaned(
        metadata: Option<&Value>,
        mut spec: Map<String, Value>,
    ) -> Result<Self, TemplateError> {
        spec.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
        let mut pod =
            object(spec.get("template")).ok_or(TemplateError::Missing("spec.template"))?;
        let mut pod_metadata = object(pod.get("metadata")).unwrap_or_default();
        pod_metadata.remove("creationTimestamp");
        let mut labels = object(pod_metadata.get("labels")).unwrap_or_default();
        labels.retain(|key, _| !OF_THE_CONTROLLER.contains(&key.as_str()));
        pod_metadata.insert("labels".to_owned(), Value::Object(labels));
        pod.insert("metadata".to_owned(), Value::Object(pod_metadata));
        let agent = agent(&pod)?;
        spec.insert("template".to_owned(), Value::Object(pod));
        let of = |key: &str| object(metadata.and_then(|of| of.get(key))).unwrap_or_default();
        let (mut labels, mut annotations) = (of("labels"), of("annotations"));
        labels.retain(|key, _| {
            let key = key.as_str();
            !(OF_THE_CONTROLLER.contains(&key) || TRACKING.contains(&key) || ours(key))
        });
        annotations.retain(|key, _| !TOOLS.iter().any(|tool| key.starts_with(tool)));
        Ok(Self { labels, annotations, spec, agent })
    }

    /// Containers that run beside the agent's and would keep its pod after it has left.
    #[must_use]
    pub fn beside(&self) -> Vec<String> {
        let containers = containers(self.spec.get("template"));
        let names = containers.iter().enumerate().filter(|(at, _)| *at != self.agent);
        names.map(|(_, container)| named(container)).collect()
    }
}

fn ours(key: &str) -> bool {
    key.starts_with("jitney.dev/")
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
