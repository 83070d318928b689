//! The backend under a Role with exactly the rights that it names: everything that it does is
//! allowed, and every right is used.

use std::collections::BTreeSet;
use std::time::Duration;

use backends::conformance::{self, MARK, until};
use backends::kubernetes::{Access, Kubernetes, Options, RIGHTS, Settings, TemplateFrom};
use backends::{Backend, Order, Phase};
use k8s_openapi::api::rbac::v1::PolicyRule;
use secrecy::SecretString;
use serde_json::json;

use super::ground::{Ground, HELD, STAYS, until_nothing_is_left};
use crate::place::now;

const ACCOUNT: &str = "jitney";

fn rules() -> Vec<PolicyRule> {
    let rule = |right: &backends::kubernetes::Right| PolicyRule {
        api_groups: Some(vec![right.group.to_owned()]),
        resources: Some(vec![right.resource.to_owned()]),
        verbs: right.verbs.iter().map(|&verb| verb.to_owned()).collect(),
        ..PolicyRule::default()
    };
    RIGHTS.iter().map(rule).collect()
}

/// The ground's template as a PodTemplate of the cluster.
async fn template_in_the_cluster(ground: &Ground<'_>) -> TemplateFrom {
    let TemplateFrom::Here(template) = &ground.settings.template else { panic!("it is here") };
    let pod = template.fragment()["spec"]["template"].clone();
    let mut pod = pod;
    // A PodTemplate has to be whole.
    pod["spec"]["containers"][0]["image"] = json!("of-the-template");
    let object = json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": { "name": "machines" }, "template": pod,
    });
    ground.apply(object).await;
    TemplateFrom::PodTemplate("machines".to_owned())
}

async fn up(backend: &Kubernetes, order: &Order) {
    until(backend, &order.name, "connected", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Connected)
    })
    .await;
}

async fn gone(backend: &Kubernetes, order: &Order) {
    backend.delete(&order.name).await.expect("delete");
    until(backend, &order.name, "gone", |machine| machine.is_none()).await;
}

async fn token_in_the_secret(ground: &Ground<'_>, order: &Order) -> String {
    let template = format!(
        "go-template={{{{range .items}}}}{{{{index .data \"{}\"}}}}{{{{end}}}}",
        order.name
    );
    let label = format!("jitney.dev/mark={MARK}");
    let encoded = ground.kubectl(&["get", "secrets", "-l", &label, "-o", &template]).await;
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).expect("base64");
    String::from_utf8(bytes).expect("text")
}

/// A token that was minted again is where the pod will look for it.
async fn minted_again(ground: &Ground<'_>, backend: &Kubernetes) {
    ground.node.set_start_delay(HELD);
    let mut order = conformance::order(ground, MARK);
    backend.create(&order).await.expect("create");
    assert_eq!(token_in_the_secret(ground, &order).await, "bkjat_conformance");
    order.token = SecretString::from("bkjat_another");
    backend.create(&order).await.expect("the same with another token");
    assert_eq!(token_in_the_secret(ground, &order).await, "bkjat_another");
    ground.node.set_start_delay(Duration::ZERO);
    up(backend, &order).await;
    gone(backend, &order).await;
}

/// Pods that somebody made orphans of are removed one by one, and so is the Secret.
async fn orphans(ground: &Ground<'_>, backend: &Kubernetes) {
    let order = conformance::order(ground, MARK);
    backend.create(&order).await.expect("create");
    up(backend, &order).await;
    ground.kubectl(&["delete", "job", &order.name, "--cascade=orphan"]).await;
    let listed = backend.list().await.expect("a listing");
    assert_eq!(listed.machines.len(), 1, "it is a machine still: {listed:?}");
    gone(backend, &order).await;
    until_nothing_is_left(ground).await;
}

/// What failed stays for a look, and is no machine any more.
async fn kept(ground: &Ground<'_>, backend: &Kubernetes) {
    let order = conformance::order(ground, MARK);
    backend.create(&order).await.expect("create");
    up(backend, &order).await;
    let pod = ground.pod_of(&order).await;
    ground.node.evict(&ground.namespace, &pod, "low on disk").expect("evicted");
    ground.kubectl(&["wait", "job", &order.name, "--for=condition=Failed", "--timeout=30s"]).await;
    until(backend, &order.name, "ended", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Ended)
    })
    .await;
    // The watch may be behind `kubectl`: until the Job's end is seen too, a delete deletes.
    drop(tokio::time::timeout(Duration::from_secs(1), backend.changed()).await);
    gone(backend, &order).await;
    let kept = ground
        .kubectl(&["get", "jobs,pods", "-l", "jitney.dev/kept-for=jitney", "-o", "name"])
        .await;
    assert_eq!(kept.lines().count(), 2, "the Job and its pod are there for a look: {kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_it_names_are_what_it_needs() {
    let Some(ground) = Ground::new("rights", STAYS).await else { return };
    let account = ground.plane.service_account(&ground.namespace, ACCOUNT, rules()).await;
    let access = Access {
        kubeconfig: Some(account.expect("an account")),
        context: None,
        namespace: Some(ground.namespace.clone()),
    };
    let cluster = access.cluster().await.expect("a way to the cluster");
    let template = template_in_the_cluster(&ground).await;
    let options = Options {
        settings: Settings { template, ..ground.settings.clone() },
        keep_failed: Duration::from_secs(4),
        between_writes: None,
        now,
    };
    let backend = Kubernetes::new(&cluster, options);
    let probe = backend.probe().await;
    assert_eq!(probe.missing.expect("an answer"), Vec::<String>::new());
    probe.trial.expect("such a Job would be taken");
    minted_again(&ground, &backend).await;
    orphans(&ground, &backend).await;
    kept(&ground, &backend).await;
    // Its watches are in the log once they have ended.
    drop(backend);
    ground.kubectl(&["delete", "podtemplate", "machines"]).await;
    until_nothing_is_left(&ground).await;
    let named: BTreeSet<String> = RIGHTS
        .iter()
        .flat_map(|right| right.verbs.iter().map(move |verb| format!("{verb} {}", right.resource)))
        .collect();
    let user = format!("system:serviceaccount:{}:{ACCOUNT}", ground.namespace);
    let used = || -> BTreeSet<String> {
        let calls = ground.plane.audit().expect("the log");
        let ours = calls.into_iter().filter(|call| call.user == user);
        // Anybody may ask what he may do.
        let ours = ours.filter(|call| {
            call.resource != "selfsubjectaccessreviews" && !call.resource.is_empty()
        });
        ours.map(|call| format!("{} {}", call.verb, call.resource)).collect()
    };
    let give_up = std::time::Instant::now() + Duration::from_secs(20);
    while used() != named {
        assert!(std::time::Instant::now() < give_up, "used {:?}, named {named:?}", used());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let Some(ground) = Ground::new("missing", STAYS).await else { return };
    let mut few = rules();
    few.retain(|rule| rule.resources.as_deref() != Some(&["secrets".to_owned()]));
    let account = ground.plane.service_account(&ground.namespace, ACCOUNT, few).await;
    let access = Access {
        kubeconfig: Some(account.expect("an account")),
        context: None,
        namespace: Some(ground.namespace.clone()),
    };
    let cluster = access.cluster().await.expect("a way to the cluster");
    let options = Options {
        settings: ground.settings.clone(),
        keep_failed: Duration::ZERO,
        between_writes: None,
        now,
    };
    let backend = Kubernetes::new(&cluster, options);
    let probe = backend.probe().await;
    assert_eq!(
        probe.missing.expect("an answer"),
        ["create secrets", "list secrets", "patch secrets"]
    );
    assert!(probe.version.expect("a version").1 >= 30);
    // Without its token a machine is none: what was begun is undone.
    let order = conformance::order(&ground, MARK);
    let error = backend.create(&order).await.expect_err("the token cannot be kept");
    assert_eq!(error.class, backends::Class::Denied, "{error}");
    assert!(!error.words.contains("bkjat_"), "{error}");
    until_nothing_is_left(&ground).await;
}
