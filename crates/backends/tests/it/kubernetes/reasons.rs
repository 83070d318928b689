//! Each reason for which a machine does not come up, or ends, as the real control plane gives it,
//! and those of a kubelet as the stand-in does.

use backends::conformance::{self, MARK, until};
use backends::kubernetes::{Kubernetes, Template, TemplateFrom};
use backends::{Backend, Class, Machine, Order, Phase};
use cluster::PullFailure;
use serde_json::{Value, json};

use super::ground::{Ground, STAYS, images, until_nothing_is_left};

pub(super) fn order(ground: &Ground<'_>) -> Order {
    conformance::order(ground, MARK)
}

/// Makes it, and waits for its end.
pub(super) async fn ended(backend: &Kubernetes, order: &Order) -> Machine {
    backend.create(order).await.expect("create");
    let machine = until(backend, &order.name, "ended", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Ended)
    });
    machine.await.expect("a machine")
}

pub(super) async fn gone(backend: &Kubernetes, order: &Order) {
    backend.delete(&order.name).await.expect("delete");
    until(backend, &order.name, "gone", |machine| machine.is_none()).await;
}

pub(super) async fn connected(backend: &Kubernetes, order: &Order) -> Machine {
    backend.create(order).await.expect("create");
    let up = until(backend, &order.name, "connected", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Connected)
    });
    up.await.expect("a machine")
}

async fn check_refused(
    ground: &Ground<'_>,
    change: impl FnOnce(&mut Order),
    class: Class,
    words: &str,
) {
    let backend = ground.kubernetes();
    let mut order = order(ground);
    change(&mut order);
    let end = ended(&backend, &order).await.ended.expect("an end");
    assert_eq!((end.refused, end.cause.as_str()), (Some(class), words));
    gone(&backend, &order).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up() {
    let Some(ground) = Ground::new("quota", STAYS).await else { return };
    let hard = json!({ "requests.memory": "1Gi" });
    ground.apply(named("ResourceQuota", "v1", "team", &json!({ "hard": hard }))).await;
    // The controller has to have counted before anything is refused for the right reason.
    ground
        .kubectl(&["wait", "resourcequota/team", "--for=jsonpath={.status.hard}", "--timeout=30s"])
        .await;
    let words = "the namespace's quota is used up: team allows requests.memory=1Gi, \
                 requests.memory=0 is used, and the job needs requests.memory=2Gi";
    let large = |order: &mut Order| order.resources.memory_bytes = 2 << 30;
    check_refused(&ground, large, Class::Quota, words).await;
    // What fits comes up.
    let (backend, small) = (ground.kubernetes(), order(&ground));
    connected(&backend, &small).await;
    gone(&backend, &small).await;
    until_nothing_is_left(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_range_and_a_policy() {
    let Some(ground) = Ground::new("limits", STAYS).await else { return };
    let limits = json!({ "limits": [{ "type": "Container", "max": { "memory": "1Gi" } }] });
    ground.apply(named("LimitRange", "v1", "most", &limits)).await;
    let words = "the namespace's limits do not allow such a pod: maximum memory usage per Container \
                 is 1Gi, but limit is 2Gi";
    let large = |order: &mut Order| order.resources.memory_bytes = 2 << 30;
    check_refused(&ground, large, Class::Rejected, words).await;

    let name = ground.namespace.clone();
    let kind =
        |kind: &str, spec: &Value| named(kind, "admissionregistration.k8s.io/v1", &name, spec);
    let rules = json!([{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }]);
    let says = json!([{ "expression": "!object.spec.containers.exists(c, c.image.startsWith('evil'))",
                        "message": "only images of ours" }]);
    ground
        .apply(kind(
            "ValidatingAdmissionPolicy",
            &json!({ "matchConstraints": { "resourceRules": rules }, "validations": says }),
        ))
        .await;
    let here =
        json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } });
    ground
        .apply(kind(
            "ValidatingAdmissionPolicyBinding",
            &json!({ "policyName": name, "validationActions": ["Deny"], "matchResources": here }),
        ))
        .await;
    let words = format!(
        "the cluster does not allow the pod: ValidatingAdmissionPolicy '{name}' with binding '{name}' \
         denied request: only images of ours"
    );
    // A policy is in force some moments after it was made.
    let backend = ground.kubernetes();
    for attempt in 0.. {
        let mut order = order(&ground);
        order.image = Some("evil:1".to_owned());
        backend.create(&order).await.expect("create");
        let settled = until(&backend, &order.name, "refused or up", |machine| {
            machine.is_some_and(|machine| machine.phase > Phase::Requested)
        });
        let end = settled.await.expect("a machine").ended;
        gone(&backend, &order).await;
        if let Some(end) = end {
            assert_eq!((end.refused, end.cause), (Some(Class::Rejected), words));
            break;
        }
        assert!(attempt < 20, "the policy is never in force");
    }
    let delete = ["delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", &name];
    ground.kubectl(&delete).await;
    until_nothing_is_left(&ground).await;
}

pub(super) fn named(kind: &str, version: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name }, "spec": spec })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_has() {
    let Some(ground) = Ground::new("unschedulable", STAYS).await else { return };
    let (backend, mut order) = (ground.kubernetes(), order(&ground));
    order.resources.cpu_millis = 1_000_000;
    backend.create(&order).await.expect("create");
    let noted = until(&backend, &order.name, "waiting with a reason", |machine| {
        machine.is_some_and(|machine| machine.note.is_some())
    });
    let machine = noted.await.expect("a machine");
    assert_eq!(machine.phase, Phase::Provisioning);
    let note = machine.note.expect("a note");
    assert!(note.starts_with("no node has room for it: of "), "{note}");
    assert!(note.contains("1 has too little cpu left"), "{note}");
    gone(&backend, &order).await;
    until_nothing_is_left(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_cannot_be_had() {
    let Some(ground) = Ground::new("images", STAYS).await else { return };
    let agent = ground.agent();
    let all = images(&agent)
        .fails("nobody/nothing:1", PullFailure::NotFound)
        .fails("nobody/private:1", PullFailure::Denied)
        .fails("nobody/away:1", PullFailure::Unreachable);
    ground.node.set_images(all);
    for (image, words) in [
        ("nobody/nothing:1", "there is no image nobody/nothing:1"),
        ("nobody/private:1", "there is no image nobody/private:1, or the cluster may not pull it"),
        ("no body", "`no body` is not the name of an image"),
    ] {
        let image = |order: &mut Order| order.image = Some(image.to_owned());
        check_refused(&ground, image, Class::Rejected, words).await;
    }
    // A registry that is away may come back.
    let (backend, mut order) = (ground.kubernetes(), order(&ground));
    order.image = Some("nobody/away:1".to_owned());
    backend.create(&order).await.expect("create");
    let noted = until(&backend, &order.name, "waiting with a reason", |machine| {
        machine.is_some_and(|machine| machine.note.is_some())
    });
    let note = noted.await.expect("a machine").note.expect("a note");
    assert!(note.starts_with("nobody/away:1 cannot be pulled: "), "{note}");
    ground.node.set_images(images(&agent));
    until(&backend, &order.name, "connected after all", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Connected)
    })
    .await;
    gone(&backend, &order).await;
    until_nothing_is_left(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_that_is_not_there_and_then_is() {
    let Some(mut ground) = Ground::new("config", STAYS).await else { return };
    let TemplateFrom::Here(template) = &ground.settings.template else { panic!("it is here") };
    let mut fragment = template.fragment().clone();
    let from = json!([{ "configMapRef": { "name": "hooks" } }]);
    fragment["spec"]["template"]["spec"]["containers"][0]["envFrom"] = from;
    ground.settings.template =
        TemplateFrom::Here(Template::from_fragment(&fragment).expect("a template"));
    let (backend, order) = (ground.kubernetes(), order(&ground));
    backend.create(&order).await.expect("create");
    let noted = until(&backend, &order.name, "waiting with a reason", |machine| {
        machine.is_some_and(|machine| machine.note.is_some())
    });
    let note = noted.await.expect("a machine").note.expect("a note");
    assert_eq!(note, r#"waits for the ConfigMap "hooks", which is not there"#);
    ground.kubectl(&["create", "configmap", "hooks", "--from-literal=A=b"]).await;
    until(&backend, &order.name, "connected", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Connected)
    })
    .await;
    gone(&backend, &order).await;
    until_nothing_is_left(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_running_pod() {
    let Some(ground) = Ground::new("done-to", STAYS).await else { return };
    let backend = ground.kubernetes();
    let end_of = async |order: &Order| {
        let machine = until(&backend, &order.name, "ended", |machine| {
            machine.is_some_and(|machine| machine.phase == Phase::Ended)
        });
        let end = machine.await.expect("a machine").ended.expect("an end");
        gone(&backend, order).await;
        end
    };

    let evicted = order(&ground);
    connected(&backend, &evicted).await;
    let pod = ground.pod_of(&evicted).await;
    let low = "The node was low on resource: ephemeral-storage.";
    ground.node.evict(&ground.namespace, &pod, low).expect("evicted");
    let end = end_of(&evicted).await;
    assert_eq!((end.cause, end.taken), (format!("its pod was evicted: {low}"), true));

    let drained = order(&ground);
    connected(&backend, &drained).await;
    let pod = ground.pod_of(&drained).await;
    ground.kubectl(&["delete", "pod", &pod, "--wait=false"]).await;
    let end = end_of(&drained).await;
    assert_eq!(end.cause, "the agent was stopped on request");
    assert!(end.log_tail.contains("asked to stop"), "its agent was told: {}", end.log_tail);

    let hungry = order(&ground);
    connected(&backend, &hungry).await;
    let pod = ground.pod_of(&hungry).await;
    ground.node.oom_kill(&ground.namespace, &pod, "job").expect("killed");
    let end = end_of(&hungry).await;
    assert!(end.oom_killed);
    // What ran is said where its guest has looked before.
    let words = "all that ran in it had more than its limit of 512Mi";
    assert!(end.cause.contains(words), "{}", end.cause);
    until_nothing_is_left(&ground).await;
}

/// Keeps all that it is given, under a name of its own, until the kernel ends it.
const GROWS: &str = r#"ln -s "$(command -v tail)" /tmp/eats-memory
while head -c 4M /dev/zero; do sleep 0.02; done | /tmp/eats-memory & wait $!
exit 0"#;

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_runs_out_is_told_with_what_had_it() {
    if !std::path::Path::new("/sys/fs/cgroup/memory/memory.oom_control").exists() {
        crate::place::not_tested("the memory controller (version 1) is not here");
        return;
    }
    let Some(ground) = Ground::new("memory", GROWS).await else { return };
    let (backend, mut order) = (ground.kubernetes(), order(&ground));
    order.resources.memory_bytes = 256 << 20;
    order.labels.memory_bytes = 256 << 20;
    let end = ended(&backend, &order).await.ended.expect("an end");
    assert!(end.oom_killed, "{end:?}");
    assert!(end.cause.starts_with("its container `job` was killed for want of memory"), "{end:?}");
    assert!(end.cause.contains("its limit of 256Mi; a moment before, "), "{end:?}");
    let ran = end.ran.expect("its guest has looked before it was killed with the rest");
    println!("{}", end.cause);
    assert!(ran.starts_with("eats-memory (") && ran.ends_with(" MiB)"), "{ran}");
    let peak = end.peak_memory_bytes.expect("it was counted");
    assert!((64 << 20..=256 << 20).contains(&peak), "{peak}");
    gone(&backend, &order).await;
    until_nothing_is_left(&ground).await;
}
