//! The Job of a dispatch by example, as YAML; what is read of a Job; and why pods do not come.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backends::fleet::{Dispatched, Order, Template, dispatched, job, name, trouble};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};

const ID: &str = "3506b2adb17945d7b690bd5f9e6a6fb0";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fleet")
}

fn yaml(file: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(file)).expect("the file is there");
    serde_saphyr::from_str(&text).expect("it is YAML")
}

fn order(agents: u32, tags: &[&str]) -> Order {
    Order {
        mark: "jitney".to_owned(),
        fleet: "stateless".to_owned(),
        queue: "stateless_standard_default_job".to_owned(),
        dispatch_id: ID.to_owned(),
        agents,
        decided_at: "2026-04-18T00:04:34.5Z".parse().expect("a time"),
        sized_on: "7 jobs queued".to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        idle_timeout: Duration::from_secs(600),
        active_deadline: Duration::from_secs(25_200),
        ttl: Duration::from_secs(300),
    }
}

/// What is made of a template is in `FILE.made.yaml`.
#[track_caller]
fn check(file: &str, template: &Template, order: &Order) {
    let made = job(template, order);
    let expected = yaml(&format!("{file}.made.yaml"));
    let shown = serde_json::to_string_pretty(&made).expect("it is JSON");
    assert_eq!(made, expected, "made of {file}:\n{shown}");
}

#[test]
fn a_job_as_argo_cd_leaves_it() {
    let template = Template::from_job(&yaml("argocd.yaml")).expect("a template");
    assert_eq!(template.beside(), ["metrics"]);
    check("argocd", &template, &order(10, &["queue=stateless_standard_default_job", "os=linux"]));
}

#[test]
fn a_job_as_helm_leaves_it() {
    let template = Template::from_job(&yaml("helm.yaml")).expect("a template");
    assert!(template.beside().is_empty());
    check("helm", &template, &order(1, &[]));
}

#[test]
fn a_pod_template() {
    let template = Template::from_pod_template(&yaml("pod_template.yaml")).expect("a template");
    check("pod_template", &template, &order(3, &["os=linux"]));
}

#[test]
fn the_same_order_makes_the_same_job_and_a_job_makes_a_template_again() {
    let template = Template::from_job(&yaml("argocd.yaml")).expect("a template");
    let made = job(&template, &order(10, &[]));
    assert_eq!(made, job(&template, &order(10, &[])));
    let again = Template::from_job(&made).expect("a template");
    assert_eq!(job(&again, &order(10, &[]))["metadata"], made["metadata"]);
}

#[test]
fn a_template_that_cannot_be_copied_is_named() {
    let refused = |job: Value| Template::from_job(&job).expect_err("it is refused").to_string();
    assert_eq!(refused(json!({})), "it has no spec");
    assert_eq!(refused(json!({ "spec": {} })), "it has no spec.template");
    let with = |containers: Value| json!({ "spec": { "template": { "spec": { "containers": containers } } } });
    assert_eq!(refused(with(json!([]))), "it has no spec.template.spec.containers");
    assert_eq!(
        refused(with(json!([{ "name": "a" }, { "name": "b" }]))),
        "which of its containers (a, b) is the agent's cannot be told: name one `buildkite-agent` \
         or `agent`, or give one BUILDKITE_AGENT_TOKEN"
    );
    let token = json!({ "name": "b", "env": [{ "name": "BUILDKITE_AGENT_TOKEN", "value": "x" }] });
    let template = Template::from_job(&with(json!([{ "name": "a" }, token]))).expect("a template");
    assert_eq!(template.beside(), ["a"]);
}

#[test]
fn names_are_good_for_the_hosts_of_pods() {
    let longest = name(&"Long_Names.".repeat(9), ID);
    assert_eq!(longest, format!("long-names-long-names-lo-{ID}"));
    assert!(longest.len() + "-99999".len() <= 63);
    assert_eq!(name("stateless", ID), format!("stateless-{ID}"));
    assert_eq!(name("7-of", ID), format!("fleet-{ID}"));
    assert_eq!(name("ü", ID), format!("fleet-{ID}"));
}

fn seen(status: Value, extra: Value) -> Dispatched {
    let template = Template::from_job(&yaml("helm.yaml")).expect("a template");
    let mut made = job(&template, &order(10, &[]));
    made["status"] = status;
    for (key, value) in extra.as_object().into_iter().flatten() {
        made["metadata"][key] = value.clone();
    }
    dispatched(&serde_json::from_value(made).expect("a Job")).expect("it can be read")
}

#[test]
fn a_dispatch_is_read_back_from_its_job() {
    let fresh = seen(Value::Null, json!({}));
    assert_eq!((fresh.dispatch_id.as_str(), fresh.wanted), (ID, 10));
    assert_eq!(fresh.made_at, "2026-04-18T00:04:34.5Z".parse::<Timestamp>().expect("a time"));
    assert_eq!((fresh.online, fresh.done, fresh.over), (0, 0, false));
    assert_eq!(fresh.sized_on.as_deref(), Some("7 jobs queued"));
    let status = json!({ "active": 6, "ready": 4, "succeeded": 2, "failed": 2, "terminating": 1 });
    let some = seen(status, json!({}));
    let counts = (some.online, some.done, some.failed, some.leaving);
    assert_eq!((counts, some.over), ((4, 2, 2, 1), false));
    let status = json!({ "succeeded": 9, "failed": 1, "conditions": [
        { "type": "FailureTarget", "status": "True" }, { "type": "Failed", "status": "True" }] });
    assert!(seen(status, json!({})).over);
    let status = json!({ "conditions": [{ "type": "Suspended", "status": "True" }] });
    assert!(seen(status, json!({})).suspended);
}

#[test]
fn a_job_that_somebody_deletes_is_over_and_its_pods_are_leaving() {
    let deleted = json!({ "deletionTimestamp": "2026-04-18T01:00:00Z" });
    let seen = seen(json!({ "active": 5, "ready": 5, "succeeded": 1 }), deleted);
    assert_eq!((seen.over, seen.online, seen.leaving), (true, 0, 5));
}

fn pod(status: Value) -> Pod {
    serde_json::from_value(
        json!({ "spec": { "containers": [], "nodeName": "n1" }, "status": status }),
    )
    .expect("a pod")
}

#[track_caller]
fn check_trouble(pods: &[Value], events: &[&str], expected: &str) {
    let pods: Vec<Pod> = pods.iter().cloned().map(pod).collect();
    let events: Vec<Event> = events
        .iter()
        .zip(0..)
        .map(|(message, at)| {
            let last = format!("2026-04-18T00:00:0{at}Z");
            let event = json!({ "metadata": {}, "involvedObject": {}, "message": message, "lastTimestamp": last });
            serde_json::from_value(event).expect("an event")
        })
        .collect();
    assert_eq!(trouble(&pods, &events, false).unwrap_or_default(), expected);
}

#[test]
fn why_pods_do_not_come() {
    let unscheduled = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient cpu." }] });
    let image = json!({ "phase": "Pending", "containerStatuses": [{ "name": "agent", "image": "", "imageID": "",
        "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image" } } }] });
    let creating = json!({ "phase": "Pending", "containerStatuses": [{ "name": "agent", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": { "waiting": { "reason": "ContainerCreating" } } }] });
    let exited = json!({ "phase": "Failed", "containerStatuses": [{ "name": "agent", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } } }] });
    let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." });
    let running = json!({ "phase": "Running" });
    check_trouble(&[running, creating, json!({ "phase": "Succeeded" })], &[], "");
    check_trouble(
        &[unscheduled.clone(), unscheduled, image],
        &[],
        "2 pods: 0/3 nodes are available: 3 Insufficient cpu.; 1 pod: ImagePullBackOff: Back-off pulling image",
    );
    check_trouble(&[exited], &[], "1 pod: container agent exited with 137 (OOMKilled)");
    check_trouble(&[evicted], &[], "1 pod: Evicted: The node was low on resource: memory.");
    check_trouble(
        &[],
        &["Error creating: pods is forbidden: exceeded quota: old", "exceeded quota: new"],
        "pods are refused: exceeded quota: new",
    );
    assert_eq!(
        trouble(&[], &[], true).as_deref(),
        Some("the Job is suspended: whoever queues Jobs in this namespace has not admitted it")
    );
}
