//! Jobs that somebody deletes behind our back without what they own: pods and Secrets stay, and
//! have to be found.

use std::time::Duration;

use backends::conformance::{MARK, OTHER_MARK, until};
use backends::kubernetes::Kubernetes;
use backends::{Backend, Order, Phase};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::ground::{Ground, HELD, STAYS, until_nothing_is_left};
use super::reasons::{connected, ended, gone, order};
use crate::place::now;

/// The Secrets of this mark.
async fn secrets(ground: &Ground<'_>, mark: &str) -> Vec<String> {
    let label = format!("jitney.dev/mark={mark}");
    let names = ground.kubectl(&["get", "secrets", "-l", &label, "-o", "name"]).await;
    names.lines().map(str::to_owned).collect()
}

/// Makes a machine, and an orphan of its pod before that has read anything.
async fn orphaned(ground: &Ground<'_>, backend: &Kubernetes, order: &Order) {
    backend.create(order).await.expect("created");
    until(backend, &order.name, "a pod", |machine| {
        machine.is_some_and(|machine| machine.phase > Phase::Requested)
    })
    .await;
    ground.kubectl(&["delete", "job", &order.name, "--cascade=orphan"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_its_job_left_goes_once_no_pod_needs_it() {
    let Some(ground) = Ground::new("orphan", STAYS).await else { return };
    let backend = ground.kubernetes();
    let left = order(&ground);
    ground.node.set_start_delay(HELD);
    orphaned(&ground, &backend, &left).await;
    // Another orphan has it looked for such Secrets; that one is needed by nobody.
    let other = order(&ground);
    orphaned(&ground, &backend, &other).await;
    gone(&backend, &other).await;
    assert!(!secrets(&ground, MARK).await.is_empty(), "a pod is still to read it");
    ground.node.set_start_delay(Duration::ZERO);
    until(&backend, &left.name, "connected", |machine| {
        machine.is_some_and(|machine| machine.connected_at.is_some())
    })
    .await;
    gone(&backend, &left).await;
    until_nothing_is_left(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_keeps_the_secret_that_the_other_jobs_of_its_round_leave() {
    let Some(ground) = Ground::new("left", STAYS).await else { return };
    let backend = ground.kubernetes();
    ground.node.set_start_delay(HELD);
    let (left, other) = (order(&ground), order(&ground));
    let made = tokio::join!(backend.create(&left), backend.create(&other));
    assert_eq!(made, (Ok(()), Ok(())));
    let secret = secrets(&ground, MARK).await;
    assert_eq!(secret.len(), 1, "both tokens are in one: {secret:?}");
    let [secret] = &secret[..] else { unreachable!("there is one") };
    orphaned(&ground, &backend, &left).await;
    let owner = "--for=jsonpath={.metadata.ownerReferences[?(@.kind==\"Pod\")].name}";
    ground.kubectl(&["wait", secret, owner, "--timeout=30s"]).await;
    gone(&backend, &other).await;
    // Its Jobs own it no more, and the collector has had a look at it.
    let alone = "--for=jsonpath={.metadata.ownerReferences[0].kind}=Pod";
    ground.kubectl(&["wait", secret, alone, "--timeout=30s"]).await;
    ground.node.set_start_delay(Duration::ZERO);
    until(&backend, &left.name, "connected", |machine| {
        machine.is_some_and(|machine| machine.connected_at.is_some())
    })
    .await;
    gone(&backend, &left).await;
    until_nothing_is_left(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_left_while_nobody_looked_goes_with_the_first_look() {
    let Some(ground) = Ground::new("away", STAYS).await else { return };
    let order = order(&ground);
    let backend = ground.kubernetes();
    connected(&backend, &order).await;
    drop(backend);
    ground.kubectl(&["delete", "job", &order.name, "--cascade=orphan"]).await;
    ground.kubectl(&["delete", "pods", "--all"]).await;
    assert_eq!(secrets(&ground, MARK).await.len(), 1, "nobody is there to remove it");
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "theirs", "labels": { "jitney.dev/mark": OTHER_MARK } },
    });
    ground.apply(theirs).await;
    let backend = ground.kubernetes();
    assert_eq!(backend.list().await.expect("a listing").machines, []);
    let label = format!("jitney.dev/mark={MARK}");
    ground.kubectl(&["wait", "secrets", "-l", &label, "--for=delete", "--timeout=30s"]).await;
    assert_eq!(secrets(&ground, OTHER_MARK).await, ["secret/theirs"], "it is not ours");
    ground.kubectl(&["delete", "secret", "theirs"]).await;
    until_nothing_is_left(&ground).await;
}

/// A pod that is over, whose Job is gone, and whose owner is of a kind that this cluster does not
/// know: its collector never comes to it.
async fn left_to_the_collector(ground: &Ground<'_>) -> (Order, String) {
    let (backend, order) = (ground.kubernetes(), order(ground));
    ended(&backend, &order).await;
    let pod = ground.pod_of(&order).await;
    ground.kubectl(&["delete", "job", &order.name, "--cascade=orphan"]).await;
    let owner = json!({ "metadata": { "ownerReferences": [{
        "apiVersion": "acme.example/v1", "kind": "Absent", "name": "absent",
        "uid": "0b6f6c3e-6d0f-4f0e-9c1c-5f1d3a0e7a11",
    }] } });
    ground.kubectl(&["patch", "pod", &pod, "--type=merge", "--patch", &owner.to_string()]).await;
    (order, pod)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_over_is_the_collectors_for_a_minute_and_then_ours() {
    let Some(ground) = Ground::new("collected", "exit 0").await else { return };
    let delete = async |order: &Order, now| {
        let backend = ground.kubernetes_at(now);
        until(&backend, &order.name, "seen", |machine| machine.is_some()).await;
        backend.delete(&order.name).await.expect("delete");
    };
    // A node whose clock is ahead of ours holds nothing up.
    let clocks: [fn() -> Timestamp; 2] =
        [|| now() + SignedDuration::from_secs(65), || now() - SignedDuration::from_mins(5)];
    for clock in clocks {
        let (order, pod) = left_to_the_collector(&ground).await;
        // However long the cluster took until here.
        delete(&order, || now() - SignedDuration::from_secs(30)).await;
        let deleted_at = ["get", "pod", &pod, "-o", "jsonpath={.metadata.deletionTimestamp}"];
        assert_eq!(ground.kubectl(&deleted_at).await, "", "it is the collector's");
        delete(&order, clock).await;
        ground.kubectl(&["wait", "pod", &pod, "--for=delete", "--timeout=30s"]).await;
    }
    // Their Secrets, which nobody owns, are found by who looks.
    let backend = ground.kubernetes();
    assert_eq!(backend.list().await.expect("a listing").machines, []);
    until_nothing_is_left(&ground).await;
}
