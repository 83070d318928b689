//! What the real scheduler and the real Job controller do to machines: preemption, and the
//! suspension by which a queueing system such as Kueue holds Jobs back and takes them back.

use std::time::{Duration, Instant};

use backends::conformance::until;
use backends::kubernetes::{Template, TemplateFrom};
use backends::{Backend, MachineEnd, Phase};
use serde_json::json;

use super::ground::{Ground, STAYS, until_nothing_is_left};
use super::reasons::{connected, gone, named, order};

/// From what befalls a machine until that is known.
const WITH_NOTICE: Duration = Duration::from_secs(10);

async fn end_of(backend: &dyn Backend, name: &str) -> MachineEnd {
    let ended = until(backend, name, "ended", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Ended)
    });
    *ended.await.expect("a machine").ended.expect("an end")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_makes_room_for_a_pod_of_a_higher_priority() {
    let small = |options: &mut cluster::NodeOptions| {
        options.capacity.insert("cpu".to_owned(), "1".to_owned());
    };
    let Some(ground) = Ground::with("preempted", STAYS, small).await else { return };
    let (backend, mut order) = (ground.kubernetes(), order(&ground));
    order.resources.cpu_millis = 800;
    connected(&backend, &order).await;
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000,
        "metadata": { "name": ground.namespace },
    });
    ground.apply(class).await;
    let urgent = json!({
        "priorityClassName": ground.namespace,
        "nodeSelector": { "ground": ground.namespace },
        "terminationGracePeriodSeconds": 0,
        "containers": [{
            "name": "main", "image": "any", "command": ["sleep", "600"],
            "resources": { "requests": { "cpu": "800m" } },
        }],
    });
    let began = Instant::now();
    ground.apply(named("Pod", "v1", "urgent", &urgent)).await;
    let end = end_of(&backend, &order.name).await;
    let took = began.elapsed();
    println!("preempted, and known after {took:?}");
    assert_eq!(end.cause, "its pod made room for one of a higher priority");
    assert!(end.log_tail.contains("asked to stop"), "its agent was told: {}", end.log_tail);
    assert!(end.taken, "what ran on it was lost by that: {end:?}");
    assert!(took <= WITH_NOTICE, "{took:?}");
    // The other one gets the room, and what waits for it says why.
    ground.kubectl(&["wait", "pod/urgent", "--for=condition=Ready", "--timeout=60s"]).await;
    gone(&backend, &order).await;
    let mut second = super::reasons::order(&ground);
    second.resources.cpu_millis = 800;
    backend.create(&second).await.expect("create");
    let noted = until(&backend, &second.name, "waiting with a reason", |machine| {
        machine.is_some_and(|machine| machine.note.is_some())
    });
    let note = noted.await.expect("a machine").note.expect("a note");
    assert!(note.contains("1 has too little cpu left"), "{note}");
    gone(&backend, &second).await;
    ground.kubectl(&["delete", "pod", "urgent"]).await;
    ground.kubectl(&["delete", "priorityclass", &ground.namespace]).await;
    until_nothing_is_left(&ground).await;
}

/// As Kueue's webhook does: each new Job that names a queue is suspended.
async fn hold_back_what_names_a_queue(ground: &Ground<'_>) {
    let group = "admissionregistration.k8s.io/v1";
    let name = &ground.namespace;
    let rules = json!([{
        "apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"],
    }]);
    let policy = json!({
        "matchConstraints": { "resourceRules": rules },
        "matchConditions": [{
            "name": "names-a-queue",
            "expression": "has(object.metadata.labels) && 'kueue.x-k8s.io/queue-name' in object.metadata.labels",
        }],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{
            "patchType": "ApplyConfiguration",
            "applyConfiguration": { "expression": "Object{ spec: Object.spec{ suspend: true } }" },
        }],
    });
    ground.apply(named("MutatingAdmissionPolicy", group, name, &policy)).await;
    let here =
        json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } });
    let binding = json!({ "policyName": name, "matchResources": here });
    ground.apply(named("MutatingAdmissionPolicyBinding", group, name, &binding)).await;
}

async fn suspend(ground: &Ground<'_>, name: &str, suspend: bool) {
    let patch = json!({ "spec": { "suspend": suspend } }).to_string();
    ground.kubectl(&["patch", "job", name, "--type=merge", "-p", &patch]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_held_back_waits_and_one_that_is_taken_back_ends() {
    let Some(mut ground) = Ground::new("kueue", STAYS).await else { return };
    let TemplateFrom::Here(template) = &ground.settings.template else { panic!("it is here") };
    let mut fragment = template.fragment().clone();
    fragment["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = json!("ci");
    ground.settings.template =
        TemplateFrom::Here(Template::from_fragment(&fragment).expect("a template"));
    hold_back_what_names_a_queue(&ground).await;
    let backend = ground.kubernetes();
    // A policy is in force some moments after it was made.
    let mut held = None;
    for _ in 0..20 {
        let order = order(&ground);
        backend.create(&order).await.expect("create");
        let settled = until(&backend, &order.name, "held back or up", |machine| {
            machine.is_some_and(|one| one.note.is_some() || one.phase > Phase::Requested)
        });
        let machine = settled.await.expect("a machine");
        if machine.phase == Phase::Requested {
            held = Some((order, machine.note.expect("a note")));
            break;
        }
        gone(&backend, &order).await;
    }
    let (order, note) = held.expect("the policy is in force in the end");
    assert_eq!(note, "waits to be let in by Kueue's queue `ci`");

    suspend(&ground, &order.name, false).await;
    until(&backend, &order.name, "connected once it was let in", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Connected)
    })
    .await;

    let began = Instant::now();
    suspend(&ground, &order.name, true).await;
    let end = end_of(&backend, &order.name).await;
    println!("suspended again, and known after {:?}", began.elapsed());
    assert_eq!(end.cause, "it was suspended again after it had started");
    assert!(began.elapsed() <= WITH_NOTICE, "{:?}", began.elapsed());
    // The Job controller has deleted the pod, and that is still what is said.
    ground.kubectl(&["wait", "pods", "--all", "--for=delete", "--timeout=60s"]).await;
    let end = end_of(&backend, &order.name).await;
    assert_eq!(end.cause, "it was suspended again after it had started");

    // One that was never let in goes as well.
    let waits = super::reasons::order(&ground);
    backend.create(&waits).await.expect("create");
    until(&backend, &waits.name, "held back", |machine| {
        machine.is_some_and(|machine| machine.note.is_some())
    })
    .await;
    gone(&backend, &waits).await;
    gone(&backend, &order).await;
    let both = "mutatingadmissionpolicy,mutatingadmissionpolicybinding";
    ground.kubectl(&["delete", both, &ground.namespace]).await;
    until_nothing_is_left(&ground).await;
}
