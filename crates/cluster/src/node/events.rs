//! The events that a node writes about its pods, in the order in which they came up.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;

use crate::clock::now;
use crate::plane::access::create;

/// How many wait at most while the API server does not take them. A kubelet, too, drops what is
/// beyond its limit.
const QUEUE: usize = 1000;

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Normal,
    Warning,
}

#[derive(Debug)]
pub(super) struct Told {
    namespace: String,
    event: serde_json::Value,
}

pub(super) fn queue() -> (mpsc::Sender<Told>, mpsc::Receiver<Told>) {
    mpsc::channel(QUEUE)
}

pub(super) fn form(node: &str, pod: &Pod, kind: Kind, reason: &'static str, message: &str) -> Told {
    let kind = match kind {
        Kind::Normal => "Normal",
        Kind::Warning => "Warning",
    };
    let at = now();
    let event = json!({
        "metadata": { "generateName": format!("{}.", pod.name_any()) },
        "involvedObject": pod.object_ref(&()),
        "type": kind,
        "reason": reason,
        "message": message,
        "source": { "component": "kubelet", "host": node },
        "reportingComponent": "kubelet",
        "reportingInstance": node,
        "count": 1,
        "firstTimestamp": at,
        "lastTimestamp": at,
    });
    Told { namespace: pod.namespace().unwrap_or_default(), event }
}

/// Writes them one by one. What the API server does not take is lost, as a kubelet's may be.
pub(super) async fn write(client: &Client, mut queue: mpsc::Receiver<Told>) {
    while let Some(told) = queue.recv().await {
        let events: Api<Event> = Api::namespaced(client.clone(), &told.namespace);
        let written = create(&events, told.event).await;
        drop(written);
    }
}
