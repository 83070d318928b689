//! The Helm chart: what it renders, what it refuses, and that its values are the configuration's.

mod ground;
mod helm;
mod install;
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use backends::kubernetes::{OLDEST_MINOR, RIGHTS, Right};
use jitney::config::Config;
use serde_json::{Value, json};

use crate::rules::repository;
use helm::{Helm, SETS, fields, of_kind};

/// What a release in the namespace `jitney` would be made of.
fn rendered(helm: &Helm, set: &str) -> Vec<Value> {
    helm.render(&[&helm.set(set)]).unwrap_or_else(|refusal| panic!("{set}: {refusal}"))
}

#[test]
fn every_set_of_values_passes_the_lint() {
    let Some(helm) = Helm::find() else { return };
    for set in SETS {
        let (file, chart) = (helm.set(set), helm::chart());
        let linted = helm.run(&["lint", "--strict", &chart, "--values", &file]);
        assert!(linted.is_ok(), "{set}: {}", linted.unwrap_err());
    }
}

#[test]
fn there_is_no_set_of_values_that_nothing_looks_at() {
    let folder = repository().join("deploy/helm/jitney/tests");
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut names: Vec<String> = names.map(|name| name.expect("a text")).collect();
    names.sort();
    assert_eq!(names, SETS.map(|set| format!("{set}.yaml")));
}

/// The configuration among these objects, as Jitney itself reads it.
#[track_caller]
fn accepted(objects: &[Value], of: &str) -> Config {
    let secret = |name: &str| {
        matches!(name, "BUILDKITE_AGENT_TOKEN" | "JITNEY_TOKEN").then(|| "a-token".to_owned())
    };
    let map = of_kind(objects, "ConfigMap");
    let text = map.pointer("/data/jitney.yaml").and_then(Value::as_str).expect("a file");
    let config = Config::parse("jitney.yaml", text, &secret);
    config.unwrap_or_else(|error| panic!("{of}: {error}\n{text}"))
}

#[test]
fn the_configuration_is_what_the_values_say() {
    let Some(helm) = Helm::find() else { return };
    for (set, name, port) in [
        ("both", "jitney", 9000),
        ("fleets", "jitney", 8780),
        ("jobs", "jitney-ci", 8780),
        ("none", "jitney", 8780),
    ] {
        let objects = rendered(&helm, set);
        let config = accepted(&objects, set);
        assert_eq!((&*config.name, config.server.listen.port()), (name, port), "{set}");
        let deployment = of_kind(&objects, "Deployment");
        let container = "/spec/template/spec/containers/0";
        let named = deployment.pointer(&format!("{container}/ports/0/containerPort"));
        assert_eq!(named, Some(&json!(port)), "{set}");
    }
}

/// The Roles, one line for each rule, and whether the pod has the cluster's token.
#[track_caller]
fn check_permissions(helm: &Helm, set: &str, expected: &str) {
    let objects = rendered(helm, set);
    let roles = objects.iter().filter(|object| object["kind"] == "Role");
    let mut lines: Vec<String> = Vec::new();
    for role in roles {
        let namespace = role.pointer("/metadata/namespace").and_then(Value::as_str);
        let rules = role["rules"].as_array().expect("rules").iter();
        lines.extend(rules.map(|rule| {
            let (resources, verbs) = (words(&rule["resources"]), words(&rule["verbs"]));
            format!("{}: {resources}: {verbs}", namespace.unwrap_or_default())
        }));
    }
    let pod = of_kind(&objects, "Deployment").pointer("/spec/template/spec").expect("a pod");
    let mounted = pod["automountServiceAccountToken"].as_bool();
    assert_eq!(mounted, Some(!lines.is_empty()), "{set}: the account's token");
    assert_eq!(lines.join("\n"), expected.trim(), "{set}");
}

fn words(list: &Value) -> String {
    let words = list.as_array().expect("a list").iter().map(|word| word.as_str().expect("a word"));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn permissions_follow_from_the_configuration() {
    let Some(helm) = Helm::find() else { return };
    check_permissions(
        &helm,
        "jobs",
        "\
buildkite: jobs: create delete get list watch
buildkite: events: list watch
buildkite: pods: delete list watch
buildkite: podtemplates: get
buildkite: resourcequotas: list
buildkite: secrets: create list patch
buildkite-deploy: jobs: create delete get list patch watch
buildkite-deploy: events: list watch
buildkite-deploy: pods: delete list patch watch
buildkite-deploy: resourcequotas: list
buildkite-deploy: secrets: create list patch",
    );
    check_permissions(
        &helm,
        "fleets",
        "\
ci: jobs: create get list
ci: events: list
ci: pods: list
ci: resourcequotas: list",
    );
    check_permissions(
        &helm,
        "both",
        "\
ci: jobs: create delete get list watch
ci: events: list watch
ci: pods: delete list watch
ci: podtemplates: get
ci: resourcequotas: list
ci: secrets: create list patch",
    );
    check_permissions(&helm, "none", "");
}

/// What a Role allows: `list pods`, `create batch jobs`.
fn allowed(objects: &[Value], namespace: &str) -> BTreeSet<String> {
    let mut of = objects
        .iter()
        .filter(|object| object["kind"] == "Role" && object["metadata"]["namespace"] == namespace);
    let rules = of.next().expect("a Role")["rules"].as_array().expect("rules").iter();
    rules
        .flat_map(|rule| {
            let what = format!("{} {}", words(&rule["apiGroups"]), words(&rule["resources"]));
            let verbs = words(&rule["verbs"]);
            let each = verbs.split(' ').map(|verb| format!("{verb} {}", what.trim()));
            each.collect::<Vec<_>>()
        })
        .collect()
}

/// Those that the backend names, of which its own tests show that each is needed.
fn named(rights: &[Right], with: &[&str]) -> BTreeSet<String> {
    let rights = rights.iter().filter(|right| right.with.is_empty() || with.contains(&right.with));
    rights
        .flat_map(|right| {
            let what = format!("{} {}", right.group, right.resource);
            right.verbs.iter().map(move |verb| format!("{verb} {}", what.trim()))
        })
        .collect()
}

#[test]
fn permissions_are_the_rights_that_the_backend_names() {
    let Some(helm) = Helm::find() else { return };
    let objects = rendered(&helm, "jobs");
    let machines = |with: &[&str]| named(&RIGHTS, with);
    assert_eq!(allowed(&objects, "buildkite"), machines(&["template_from", "doctor"]));
    assert_eq!(allowed(&objects, "buildkite-deploy"), machines(&["keep_failed", "doctor"]));
    let objects = rendered(&helm, "fleets");
    assert_eq!(allowed(&objects, "ci"), named(&backends::fleet::RIGHTS, &["job", "doctor"]));
}

#[test]
fn the_chart_wants_the_kubernetes_that_the_backend_wants() {
    let chart = repository().join("deploy/helm/jitney/Chart.yaml");
    let text = std::fs::read_to_string(chart).expect("a chart");
    let chart: Value = serde_saphyr::from_str(&text).expect("it is YAML");
    assert_eq!(chart["kubeVersion"], format!(">=1.{OLDEST_MINOR}.0-0"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_role_is_bound_to_the_account_of_the_release() {
    let Some(helm) = Helm::find() else { return };
    let objects = rendered(&helm, "jobs");
    let bindings = objects.iter().filter(|object| object["kind"] == "RoleBinding");
    let mut bound = BTreeMap::new();
    for binding in bindings {
        let subjects =
            json!([{ "kind": "ServiceAccount", "name": "jitney", "namespace": "jitney" }]);
        assert_eq!(binding["subjects"], subjects);
        assert_eq!(binding["metadata"]["name"], binding["roleRef"]["name"]);
        let namespace = binding["metadata"]["namespace"].as_str().expect("a namespace");
        bound.insert(namespace, binding["roleRef"]["name"].as_str().expect("a name"));
    }
    let expected = [("buildkite", "jitney.jitney"), ("buildkite-deploy", "jitney.jitney")];
    assert_eq!(bound, BTreeMap::from(expected));
}

#[test]
fn the_container_may_do_nothing_that_it_need_not() {
    let Some(helm) = Helm::find() else { return };
    let objects = rendered(&helm, "jobs");
    let deployment = of_kind(&objects, "Deployment");
    let context = |path: &str| deployment.pointer(&format!("/spec/template/spec{path}"));
    let own = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    });
    assert_eq!(context("/containers/0/securityContext"), Some(&own));
    assert_eq!(context("/securityContext/runAsNonRoot"), Some(&json!(true)));
    assert_eq!(context("/securityContext/seccompProfile/type"), Some(&json!("RuntimeDefault")));
    assert_eq!(fields(deployment, &["/spec/replicas", "/spec/strategy/type"]), "1 Recreate");
}

#[test]
fn a_change_of_configuration_or_secret_makes_a_new_pod() {
    let Some(helm) = Helm::find() else { return };
    let sum = |more: &str| {
        let more = helm.values(more);
        let objects = helm.render(&[&helm.set("fleets"), &more]).expect("it is rendered");
        let annotations = "/spec/template/metadata/annotations";
        of_kind(&objects, "Deployment").pointer(annotations).expect("annotations").clone()
    };
    let before = sum("{}");
    assert_eq!(before, sum("{}"));
    assert_ne!(before, sum("config: { log: { level: debug } }"));
    assert_ne!(before, sum("secret: { values: { JITNEY_TOKEN: changed } }"));
}

#[test]
fn what_is_optional_is_there_when_it_is_asked_for() {
    let Some(helm) = Helm::find() else { return };
    let objects = rendered(&helm, "jobs");
    let monitor = of_kind(&objects, "PodMonitor");
    let key = "/spec/podMetricsEndpoints/0/authorization/credentials";
    let credentials = json!({ "name": "jitney-token", "key": "JITNEY_TOKEN" });
    assert_eq!(monitor.pointer(key), Some(&credentials));
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let policy = of_kind(&objects, "NetworkPolicy");
    assert_eq!(policy["spec"]["ingress"].as_array().map(Vec::len), Some(1));
    let kinds = |set: &str| {
        let of = rendered(&helm, set).into_iter().map(|object| object["kind"].to_string());
        of.map(|kind| kind.replace('"', "")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(kinds("none"), "ServiceAccount ConfigMap PersistentVolumeClaim Service Deployment");
    let with_roles = "ServiceAccount Secret ConfigMap Role RoleBinding Service Deployment";
    assert_eq!(kinds("fleets"), with_roles);
    let more = helm.values("networkPolicy: { enabled: true }");
    let closed = helm.render(&[&helm.set("none"), &more]).expect("it is rendered");
    let spec = &of_kind(&closed, "NetworkPolicy")["spec"];
    assert_eq!(spec.get("ingress"), None, "without peers nobody is let in");
}

/// Over the set `fleets` these values are refused with such words.
#[track_caller]
fn check_refused(helm: &Helm, values: &str, words: &str) {
    let refused = helm.render_text(&[&helm.set("fleets"), &helm.values(values)]);
    let refusal = refused.err().unwrap_or_else(|| panic!("{values} is taken"));
    assert!(refusal.contains(words), "{values} is refused, but not with {words:?}:\n{refusal}");
}

#[test]
fn wrong_values_are_refused() {
    let Some(helm) = Helm::find() else { return };
    for (values, words) in [
        ("replicas: 2", "'replicas' not allowed"),
        ("config: { queus: {} }", "'queus' not allowed"),
        ("config: { fleets: { stateless: { pol: 5s } } }", "'pol' not allowed"),
        ("config: { backends: { pods: { kubernetes: { imag: a } } } }", "'imag' not allowed"),
        ("config: { queues: [default] }", "at '/config/queues': got array"),
        ("journal: { volume: disk }", "must be one of 'claim', 'empty-dir'"),
        ("secret: { values: { A-B: c } }", "A-B"),
        ("env: { A: 1 }", "got number, want string"),
        ("secret: { existing: other }", "secret.existing and secret.values"),
        ("secret: { values: null }", "secret: name an existing Secret"),
        ("config: { fleets: null }", "say which queues or fleets there are"),
        ("config: { listen: \"127.0.0.1:8780\" }", "cannot be reached from outside of the pod"),
        ("config: { listen: null }", "cannot be reached from outside of the pod"),
        ("config: { backends: { pods: { kubernetes: { namespace: jitney } } } }", "and not jitney"),
        ("config: { backends: { pods: { kubernetes: { namespace: null } } } }", "name a namespace"),
        (
            "{ podMonitor: { enabled: true }, config: { access: { token: plain } } }",
            "has to be ${NAME}",
        ),
    ] {
        check_refused(&helm, values, words);
    }
}

/// What the page shows as values is taken, each by itself, by the chart and by the configuration.
#[test]
fn the_values_in_the_documentation_are_accepted() {
    let Some(helm) = Helm::find() else { return };
    let page = repository().join("docs/kubernetes.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut seen = 0;
    for values in blocks.filter(|block| block.starts_with("config:")) {
        seen += 1;
        // The first is whole; the others show what they are about.
        let base = helm.values(if seen == 1 { "{}" } else { BASE });
        let objects = helm.render(&[&base, &helm.values(values)]);
        let objects = objects.unwrap_or_else(|refusal| panic!("{values}\n{refusal}"));
        accepted(&objects, values);
    }
    assert!(seen > 4, "only {seen} blocks begin with `config:`");
}

const BASE: &str = "{ secret: { existing: a }, config: { queues: { default: { backends: [pods] } }, \
                    backends: { pods: { kubernetes: { namespace: ci, image: a } } } } }";
