//! The API server's own encoding and JSON: every object reads the same in both.

use std::fmt::Debug;
use std::time::Duration;

use backends::conformance::{self, MARK, Subject, until};
use backends::kubernetes::seen::{Event, Job, Pod};
use backends::kubernetes::wire::{self, Message};
use backends::{Backend, Phase};
use http::Request;
use http::header::ACCEPT;
use kube::client::Body;
use serde::de::DeserializeOwned;

use super::ground::{Ground, STAYS};

const LONG: Duration = Duration::from_secs(60);

async fn bytes(client: &kube::Client, path: &str, accept: &str) -> Vec<u8> {
    let request = Request::get(path).header(ACCEPT, accept).body(Body::empty()).expect("a request");
    let response = client.send(request).await.expect("an answer");
    assert_eq!(response.status(), 200, "{path}");
    response.into_body().collect_bytes().await.expect("a body").to_vec()
}

/// Between two looks it may have changed; then both are taken again.
async fn reads_the_same<T>(ground: &Ground<'_>, path: &str, version: fn(&T) -> u64) -> T
where
    T: Message + DeserializeOwned + PartialEq + Debug,
{
    let client = ground.plane.client().await.expect("a client");
    let path = path.replace("NAMESPACE", &ground.namespace);
    for _ in 0..100 {
        let json = bytes(&client, &path, "application/json").await;
        let json: T = serde_json::from_slice(&json).expect("JSON");
        let encoded = bytes(&client, &path, "application/vnd.kubernetes.protobuf").await;
        let encoded: T = wire::object(&encoded).expect("an object");
        if version(&json) == version(&encoded) {
            assert_eq!(json, encoded, "{path}");
            return encoded;
        }
    }
    panic!("{path} changes all the time");
}

async fn machine_reads_the_same(ground: &Ground<'_>, job: &str, pod: &str) -> (Job, Pod) {
    let job = format!("/apis/batch/v1/namespaces/NAMESPACE/jobs/{job}");
    let job = reads_the_same(ground, &job, |job: &Job| job.metadata.version).await;
    let pod = format!("/api/v1/namespaces/NAMESPACE/pods/{pod}");
    (job, reads_the_same(ground, &pod, |pod: &Pod| pod.metadata.version).await)
}

#[tokio::test]
async fn objects_read_the_same_in_both_encodings() {
    let Some(ground) = Ground::new("encoding", STAYS).await else { return };
    let (backend, order) = (ground.kubernetes(), conformance::order(&ground, MARK));
    backend.create(&order).await.expect("create");
    until(&backend, &order.name, "connected", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Connected)
    })
    .await;
    let label = format!("batch.kubernetes.io/job-name={}", order.name);
    let pod = ground.kubectl(&["get", "pods", "-l", &label, "-o", "name"]).await;
    let pod = pod.trim().trim_start_matches("pod/");
    let (job, seen) = machine_reads_the_same(&ground, &order.name, pod).await;
    assert!(job.status.start_time.is_some() && job.metadata.labels.is_ok(), "{job:?}");
    assert!(seen.main.is_some_and(|main| main.started == Some(true)));
    let events = ground.kubectl(&["get", "events", "-o", "name"]).await;
    assert!(!events.trim().is_empty());
    for event in events.lines() {
        let event = event.trim_start_matches("event/");
        let path = format!("/api/v1/namespaces/NAMESPACE/events/{event}");
        let event = reads_the_same(&ground, &path, |event: &Event| event.metadata.version).await;
        assert_eq!(event.involved_object.kind == "Job", event.reason.starts_with("Successful"));
    }

    ground.end(&order.name).await;
    let ended = ["wait", "job", &order.name, "--for=condition=Complete"];
    let timeout = format!("--timeout={}s", LONG.as_secs());
    ground.kubectl(&[&ended[..], &[&*timeout]].concat()).await;
    let (job, seen) = machine_reads_the_same(&ground, &order.name, pod).await;
    assert!(job.finish().is_some() && seen.is_over(), "{job:?} {seen:?}");
    backend.delete(&order.name).await.expect("delete");
    until(&backend, &order.name, "gone", |machine| machine.is_none()).await;
}
