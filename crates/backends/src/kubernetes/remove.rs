//! Removing one machine: its Job, and what the Job leaves. What failed may be kept for a while
//! instead, without our mark, for somebody to look at.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::{Kind, MERGE_PATCH, Refused, decode};
use super::make::check_name;
use super::seen::{Job, Pod};
use super::{Kubernetes, stamp};
use crate::contract::Error;

/// How long the garbage collector has for a pod that is over. With thousands of them it takes some
/// seconds, and each that is deleted twice costs the API server a call more.
const COLLECTED: SignedDuration = SignedDuration::from_secs(60);

pub(super) async fn machine(backend: &Kubernetes, name: &str) -> Result<(), Error> {
    check_name(name)?;
    let (mut job, pods) = backend.cache.machine(name);
    let now = (backend.options.now)();
    if job.is_none() && !pods.is_empty() && pods.iter().all(|pod| is_collected(pod, now)) {
        return Ok(());
    }
    if job.is_none() {
        job = ours(backend, name).await?;
    }
    let _connection = backend.deleting.acquire().await.expect("nobody closes it");
    backend.deletes.turn().await;
    let Some(job) = job else { return remains(backend, &pods).await };
    if !backend.options.keep_failed.is_zero() && failed(&job, &pods) {
        return keep(backend, &job, &pods).await;
    }
    let options = options(job.metadata.uid);
    match backend.api.delete(Kind::Jobs, name, &options).await {
        Ok(_) => Ok(()),
        // Another one of the same name is not the one that we were told to remove.
        Err(refused) if refused.is_gone() => remains(backend, &pods).await,
        Err(refused) => Err(heard(backend, refused)),
    }
}

/// A Job of this name that the watch has not shown; nothing where it is not ours.
async fn ours(backend: &Kubernetes, name: &str) -> Result<Option<Job>, Error> {
    match backend.api.get(Kind::Jobs, name).await {
        Ok(body) => {
            let job: Job = decode(&body)?;
            let mark = &backend.options.settings.mark;
            let ours = job.metadata.labels.as_ref().is_ok_and(|labels| *labels.mark == **mark);
            Ok(Some(job).filter(|_| ours))
        }
        Err(refused) if refused.is(StatusCode::NOT_FOUND) => Ok(None),
        Err(refused) => Err(refused.error),
    }
}

/// With its pods, of which a bare delete would make orphans; and only the very one that was seen.
fn options(uid: Uuid) -> Value {
    json!({ "propagationPolicy": "Background", "preconditions": { "uid": uid } })
}

fn heard(backend: &Kubernetes, refused: Refused) -> Error {
    backend.deletes.heard(&refused.error);
    refused.error
}

/// Pods whose Job is gone without them. Those that are on their way need no second word, and those
/// that are over and still have an owner are the garbage collector's, for a while.
async fn remains(backend: &Kubernetes, pods: &[Pod]) -> Result<(), Error> {
    let now = (backend.options.now)();
    let theirs = |pod: &&Pod| pod.metadata.deleted_at.is_some() || is_collected(pod, now);
    for pod in pods.iter().filter(|pod| !theirs(pod)) {
        let options = options(pod.metadata.uid);
        match backend.api.delete(Kind::Pods, &pod.metadata.name, &options).await {
            Ok(_) => {}
            Err(refused) if refused.is_gone() => {}
            Err(refused) => return Err(heard(backend, refused)),
        }
    }
    Ok(())
}

/// Nothing runs in it any more, so that nobody waits for the collector. Its end is told by the
/// clock of its node: one that is far ahead of ours would leave the pod to the collector for long,
/// so that such a pod is ours at once.
fn is_collected(pod: &Pod, now: Timestamp) -> bool {
    let ended = pod.main.as_ref().and_then(|main| main.state.terminated.as_ref());
    let ended_at = ended.and_then(|ended| ended.finished_at).unwrap_or(pod.metadata.created_at);
    pod.is_over() && pod.metadata.is_owned && now.duration_since(ended_at).abs() < COLLECTED
}

/// Whether there is something to look at.
fn failed(job: &Job, pods: &[Pod]) -> bool {
    let failed = job.finish().is_some_and(|finish| &*finish.kind == "Failed");
    failed && !pods.is_empty() && pods.iter().all(Pod::is_over)
}

/// Takes our mark off, so that it is no machine any more, and has the cluster delete it later.
async fn keep(backend: &Kubernetes, job: &Job, pods: &[Pod]) -> Result<(), Error> {
    let labels = json!({ stamp::MARK: null, stamp::KEPT: backend.options.settings.mark });
    let patch = json!({ "metadata": { "labels": labels } });
    for pod in pods {
        let patched = backend.api.patch(Kind::Pods, &pod.metadata.name, &patch, MERGE_PATCH).await;
        match patched {
            Err(refused) if !refused.is(StatusCode::NOT_FOUND) => {
                return Err(heard(backend, refused));
            }
            Ok(_) | Err(_) => {}
        }
    }
    let seconds = backend.options.keep_failed.as_secs();
    let patch = json!({
        "metadata": { "labels": labels },
        "spec": { "ttlSecondsAfterFinished": seconds },
    });
    match backend.api.patch(Kind::Jobs, &job.metadata.name, &patch, MERGE_PATCH).await {
        Err(refused) if !refused.is(StatusCode::NOT_FOUND) => Err(heard(backend, refused)),
        Ok(_) | Err(_) => Ok(()),
    }
}
