//! What of a Job in the cluster may be copied into another one, for machines and for fleets alike:
//! the one list of what the API server, the Job controller, whoever queues Jobs, and tools that
//! deploy things have put there. What is set in place of it is said where it is set.

use serde_json::{Map, Value};

/// Of a Job's spec: what the API server, whoever queues Jobs or we ourselves decide for each Job, and
/// what would start pods behind our back, or let one's end be another's.
const NOT_OF_A_SPEC: [&str; 13] = [
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
    // What becomes of a Job is read from the status that the cluster's own controller writes.
    "managedBy",
];
/// Labels that the Job controller gives to its pods. A Job without labels of its own gets them too.
const OF_THE_CONTROLLER: [&str; 4] = [
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
];
/// Labels and annotations of a Job that begin so are a tool's, the controller's or ours.
const OF_OTHERS: [&str; 6] = [
    "kubectl.kubernetes.io/",
    "argocd.argoproj.io/",
    "meta.helm.sh/",
    "helm.sh/",
    "batch.kubernetes.io/",
    OURS,
];
const OURS: &str = "jitney.dev/";
/// By these labels tools find what they have deployed, and remove what they do not know.
const TRACKING: [&str; 2] = ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by"];

/// A Job's spec; the metadata of its pods is cleaned as well.
pub(crate) fn spec(of: &Map<String, Value>) -> Map<String, Value> {
    let mut copied = of.clone();
    copied.retain(|key, _| !NOT_OF_A_SPEC.contains(&key.as_str()));
    if let Some(Value::Object(pod)) = copied.get_mut("template") {
        let metadata = pod.remove("metadata");
        let metadata = metadata.as_ref().map(metadata_of_pods).unwrap_or_default();
        if !metadata.is_empty() {
            pod.insert("metadata".to_owned(), Value::Object(metadata));
        }
    }
    copied
}

/// A Job's own labels and annotations. Nothing else of its metadata is anybody's but the API
/// server's, or ties it to what made it.
pub(crate) fn metadata_of_job(of: &Value) -> Map<String, Value> {
    kept(of, |key| {
        !OF_THE_CONTROLLER.contains(&key)
            && !TRACKING.contains(&key)
            && !OF_OTHERS.iter().any(|prefix| key.starts_with(prefix))
    })
}

/// Those of its pods. No tool takes a pod with an owner for its own, and what the tools' labels and
/// annotations say there is meant: network policies select by them, and kubectl reads its own.
fn metadata_of_pods(of: &Value) -> Map<String, Value> {
    kept(of, |key| !OF_THE_CONTROLLER.contains(&key) && !key.starts_with(OURS))
}

fn kept(metadata: &Value, keeps: impl Fn(&str) -> bool) -> Map<String, Value> {
    let mut copied = Map::new();
    for part in ["labels", "annotations"] {
        let Some(Value::Object(given)) = metadata.get(part) else { continue };
        let mut given = given.clone();
        given.retain(|key, _| keeps(key));
        if !given.is_empty() {
            copied.insert(part.to_owned(), Value::Object(given));
        }
    }
    copied
}
