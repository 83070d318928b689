//! Nodes that are lost under running machines: one of several, and all at once; with notice, and
//! without. What is measured is how long it takes until that is known.
//!
//! Without notice it is the control plane that has to miss the node first: here after 10 s, by
//! Kubernetes' own default after 50 s (`--node-monitor-grace-period`). The rest is ours.

use std::time::{Duration, Instant};

use backends::conformance::until;
use backends::kubernetes::Kubernetes;
use backends::{Backend, Machine, Order, Phase};
use cluster::{ControlPlane, Node, NodeOptions};

use super::ground::{Ground, STAYS, patiently, until_nothing_is_left};
use super::reasons::{connected, gone, order};

/// What Jitney promises with notice, and without.
const WITH_NOTICE: Duration = Duration::from_secs(10);
const WITHOUT_NOTICE: Duration = Duration::from_secs(40);
/// The control plane's part of the latter, here: the time that a node may be silent, what its last
/// sign of life may be late, and the controller's own pace.
const MISSED_AFTER: Duration = Duration::from_secs(10 + 1 + 2);
/// Ours, until it is known: a busy computer's watch.
const OURS: Duration = Duration::from_secs(3);

fn is_ended(machine: Option<&Machine>) -> bool {
    machine.is_some_and(|machine| machine.phase == Phase::Ended)
}

fn is_silent(machine: Option<&Machine>) -> bool {
    machine.is_some_and(|machine| machine.silent.is_some() || machine.phase == Phase::Ended)
}

/// With room for two machines, so that one node has not all of them.
fn small(options: &mut NodeOptions) {
    options.capacity.insert("cpu".to_owned(), "1".to_owned());
}

/// Which of the nodes a machine is on.
async fn node_of(ground: &Ground<'_>, order: &Order) -> String {
    let pod = ground.pod_of(order).await;
    ground.kubectl(&["get", "pod", &pod, "-o", "jsonpath={.spec.nodeName}"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_of_its_end_takes_its_machines_with_it_at_once() {
    let Some(ground) = Ground::new("shut-down", STAYS).await else { return };
    let (backend, order) = (ground.kubernetes(), order(&ground));
    connected(&backend, &order).await;
    let began = Instant::now();
    ground.node.shut_down();
    let machine = until(&backend, &order.name, "ended", is_ended).await.expect("a machine");
    let took = began.elapsed();
    println!("with notice: known after {took:?}");
    let end = machine.ended.expect("an end");
    assert!(end.cause.starts_with("its node ended the pod: "), "{}", end.cause);
    assert!(end.log_tail.contains("asked to stop"), "its agent was told: {}", end.log_tail);
    assert!(took <= WITH_NOTICE, "{took:?}");
    gone(&backend, &order).await;
    until_nothing_is_left(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_vanish_are_told_of_in_time() {
    // Not the one that others use: here all nodes of a cluster vanish.
    if ControlPlane::shared().await.is_none() {
        return;
    }
    let plane = ControlPlane::start().await.expect("a control plane");
    let ground = Ground::on(&plane, "vanish", STAYS, small).await;
    let more = [ground.another_node(1, small).await, ground.another_node(2, small).await];
    let backend = ground.kubernetes();
    let mut orders: Vec<Order> = (0..4).map(|_| order(&ground)).collect();
    for order in &mut orders {
        order.resources.cpu_millis = 400;
        connected(&backend, order).await;
    }
    let lost = one_of_several(&ground, &backend, &more, &orders).await;
    // What was on it goes with it; the others are as they were.
    orders.retain(|order| !lost.contains(&order.name));
    assert!(orders.len() >= 2, "no node has room for more than two: {lost:?}");
    all_at_once(&ground, &backend, &more, &orders).await;
    until_nothing_is_left(&ground).await;
}

/// One node goes, and the cluster gives up its pods. Returns the machines that were on it.
async fn one_of_several(
    ground: &Ground<'_>,
    backend: &Kubernetes,
    more: &[Node; 2],
    orders: &[Order],
) -> Vec<String> {
    let mut on = Vec::new();
    for order in orders {
        on.push((order.name.clone(), node_of(ground, order).await));
    }
    let nodes = [&ground.node, &more[0], &more[1]];
    let node = nodes.into_iter().find(|node| on.iter().any(|(_, on)| on == node.name()));
    let node = node.expect("some node has a machine");
    let lost: Vec<String> =
        on.iter().filter(|(_, on)| on == node.name()).map(|(name, _)| name.clone()).collect();
    let began = Instant::now();
    node.vanish();
    let words = format!("its node `{}` does not answer any more", node.name());
    for name in &lost {
        let machine = patiently(backend, name, is_silent).await.expect("a machine");
        let (silent, took) = (machine.silent, began.elapsed());
        println!("without notice: told after {took:?}");
        assert_eq!(silent.as_deref(), Some(words.as_str()), "told before the cluster gives it up");
        assert!(took <= MISSED_AFTER + OURS, "{took:?}");
    }
    for name in &lost {
        let machine = patiently(backend, name, is_ended).await.expect("a machine");
        let took = began.elapsed();
        println!("without notice: ended after {took:?}");
        assert_eq!(machine.ended.expect("an end").cause, words);
        assert!(took <= WITHOUT_NOTICE, "{took:?}");
        // Nothing confirms the end of a pod on such a node, until the node itself is removed.
        backend.delete(name).await.expect("delete");
    }
    node.remove().await.expect("removed");
    for name in &lost {
        patiently(backend, name, |machine| machine.is_none()).await;
    }
    lost
}

/// All that are left go, and the cluster gives up nothing: it takes itself for the one that is cut
/// off. That they are silent is told all the same, and they are machines still.
async fn all_at_once(
    ground: &Ground<'_>,
    backend: &Kubernetes,
    more: &[Node; 2],
    orders: &[Order],
) {
    let nodes = [&ground.node, &more[0], &more[1]];
    let began = Instant::now();
    for node in nodes {
        node.vanish();
    }
    for order in orders {
        let machine = patiently(backend, &order.name, is_silent).await.expect("a machine");
        let took = began.elapsed();
        println!("all nodes at once: told after {took:?}");
        assert!(machine.silent.is_some() && machine.ended.is_none(), "{machine:?}");
        assert!(took <= MISSED_AFTER + OURS, "{took:?}");
    }
    // Once the job is over in Buildkite its machine is deleted, and that is the end of it.
    for order in orders {
        backend.delete(&order.name).await.expect("delete");
        patiently(backend, &order.name, |machine| machine.is_none() || is_ended(machine)).await;
    }
    for node in nodes {
        // One of them is gone already.
        drop(node.remove().await);
    }
    for order in orders {
        patiently(backend, &order.name, |machine| machine.is_none()).await;
    }
}
