//! The Job of one dispatch: the template, and what is set over it. The same order makes the same Job.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{DISPATCH, DISPATCHED_AT, FLEET, MARK, QUEUES, SIZED_ON, Template};

/// One dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The installation's mark.
    pub mark: String,
    pub fleet: String,
    pub queue: String,
    /// Without dashes.
    pub dispatch_id: String,
    pub agents: u32,
    pub decided_at: Timestamp,
    /// What the number was reckoned from, in words.
    pub sized_on: String,
    /// `key=value`, without the queue's own if that is left out.
    pub tags: Vec<String>,
    pub idle_timeout: Duration,
    /// After this the cluster ends what still runs.
    pub active_deadline: Duration,
    /// After this the cluster removes the Job that has ended.
    pub ttl: Duration,
}

/// What stands before the id in a name. A pod of an indexed Job has the Job's name, a dash and its
/// index for its host's name, which has at most 63 characters: 32 of them are the id's, and five are
/// left for the index.
const PREFIX_MOST: usize = 24;

/// The variables that are set on the agent's container.
pub(super) const SET: Variables = Variables {
    tags: "BUILDKITE_AGENT_TAGS",
    after_job: "BUILDKITE_AGENT_DISCONNECT_AFTER_JOB",
    after_idle: "BUILDKITE_AGENT_DISCONNECT_AFTER_IDLE_TIMEOUT",
};

pub(super) struct Variables {
    pub tags: &'static str,
    after_job: &'static str,
    after_idle: &'static str,
}

/// The name of a dispatch's Job.
#[must_use]
pub fn name(fleet: &str, dispatch_id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let prefix: String = fleet.chars().map(plain).take(PREFIX_MOST).collect();
    let prefix = prefix.trim_matches('-');
    // A name begins with a letter, and an id may begin with a digit.
    let prefix =
        if prefix.starts_with(|c: char| c.is_ascii_alphabetic()) { prefix } else { "fleet" };
    format!("{prefix}-{dispatch_id}")
}

/// As `batch/v1` has it.
#[must_use]
pub fn job(template: &Template, order: &Order) -> Value {
    let marks = [(MARK, &order.mark), (FLEET, &order.fleet), (DISPATCH, &order.dispatch_id)];
    let marked = |mut labels: Map<String, Value>| {
        for (key, value) in marks {
            labels.insert(key.to_owned(), json!(value));
        }
        labels
    };
    let mut annotations = template.annotations.clone();
    annotations.insert(QUEUES.to_owned(), json!(order.queue));
    annotations.insert(DISPATCHED_AT.to_owned(), json!(order.decided_at.to_string()));
    annotations.insert(SIZED_ON.to_owned(), json!(order.sized_on));
    let mut spec = template.spec.clone();
    for (key, value) in [
        ("parallelism", json!(order.agents)),
        ("completions", json!(order.agents)),
        // Each agent is on its own: one that fails ends no other, and is not made again.
        ("completionMode", json!("Indexed")),
        ("backoffLimitPerIndex", json!(0)),
        ("activeDeadlineSeconds", json!(seconds(order.active_deadline).max(1))),
        ("ttlSecondsAfterFinished", json!(seconds(order.ttl))),
    ] {
        spec.insert(key.to_owned(), value);
    }
    if let Some(pod) = spec.get_mut("template") {
        let labels = pod.pointer("/metadata/labels").and_then(Value::as_object).cloned();
        pod["metadata"]["labels"] = Value::Object(marked(labels.unwrap_or_default()));
        pod["spec"]["restartPolicy"] = json!("Never");
        set_variables(&mut pod["spec"]["containers"][template.agent], order);
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name(&order.fleet, &order.dispatch_id),
            "labels": marked(template.labels.clone()),
            "annotations": annotations,
        },
        "spec": spec,
    })
}

/// What makes an agent leave after one job, or when none comes.
fn set_variables(container: &mut Value, order: &Order) {
    let mut tags = order.tags.clone();
    if !tags.iter().any(|tag| tag.starts_with("queue=")) {
        tags.insert(0, format!("queue={}", order.queue));
    }
    let set = [
        (SET.tags, tags.join(",")),
        (SET.after_job, "true".to_owned()),
        (SET.after_idle, seconds(order.idle_timeout).max(1).to_string()),
    ];
    let env = container.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = |variable: &Value, name: &str| variable.get("name") == Some(&json!(name));
    let mut env: Vec<Value> = env
        .into_iter()
        .filter(|variable| !set.iter().any(|(name, _)| named(variable, name)))
        .collect();
    env.extend(set.map(|(name, value)| json!({ "name": name, "value": value })));
    container["env"] = Value::Array(env);
}

/// Whole seconds, rounded up.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}
