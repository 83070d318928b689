//! Orders in, Jobs out, compared with files that a person can read: `tests/golden/*.yaml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use backends::Error;
use backends::kubernetes::{self, Disk, Nodes, Settings, Template, TemplateError, TemplateFrom};
use backends::{Class, Hardware, Labels, Order, Resources};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

pub(super) fn settings() -> Settings {
    Settings {
        mark: "jitney".to_owned(),
        namespace: "buildkite".to_owned(),
        image: Some("debian:12".to_owned()),
        images: BTreeMap::new(),
        agent_image: "buildkite/agent:3".to_owned(),
        guest_image: "jitney/guest:latest".to_owned(),
        agent_config: None,
        service_account: None,
        template: TemplateFrom::Here(Template::default()),
        limits_cpu: false,
        disk: Disk::EmptyDir,
        nodes: BTreeMap::new(),
        ttl: Duration::from_secs(600),
    }
}

fn order() -> Order {
    let id = Uuid::parse_str("0199a3c0-5c39-7d13-8f0e-0d6a8e2f7a11").expect("an id");
    Order {
        name: format!("jitney-{}-1", id.as_simple()),
        request_id: Uuid::from_u128(1),
        labels: Labels {
            mark: "jitney".into(),
            instance: "host.example/1".into(),
            job: id,
            attempt: 1,
            queue: "jit".into(),
            dispatch_id: "d15ba7c4d15ba7c4d15ba7c4d15ba7c4".into(),
            cpu_millis: 2000,
            memory_bytes: 4 << 30,
        },
        resources: Resources {
            cpu_millis: 2000,
            memory_bytes: 4 << 30,
            disk_bytes: None,
            local_ssds: 0,
        },
        place: String::new(),
        machine_type: String::new(),
        spot: false,
        vm: None,
        hardware: Hardware::default(),
        deadline: Duration::from_millis(4_199_500),
        endpoint: "https://agent.buildkite.com/v3".to_owned(),
        token: SecretString::from("bkjat_secret"),
        agent_name: format!("jitney-{}-1", id.as_simple()),
        agent_tags: vec!["queue=jit".to_owned(), "price=$(HOME) in $".to_owned()],
        image: None,
        no_rights: false,
    }
}

fn job(order: &Order, settings: &Settings, secret: &str) -> Result<Value, Error> {
    let TemplateFrom::Here(template) = &settings.template else { panic!("it is here") };
    kubernetes::job(order, settings, template, secret)
}

/// Compares with the golden file of this name.
fn check(name: &str, order: &Order, settings: &Settings) -> Value {
    let made = job(order, settings, "jitney-d15ba7c4-1").expect("a Job");
    let yaml = serde_saphyr::to_string(&made).expect("JSON is YAML");
    assert!(!yaml.contains("bkjat_"), "no token stands in a Job");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.yaml"));
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(yaml == expected, "{} should be:\n{yaml}", path.display());
    made
}

#[test]
fn a_plain_job() {
    check("plain", &order(), &settings());
}

#[test]
fn everything_that_a_job_can_ask_for() {
    let mut order = order();
    order.resources = Resources {
        cpu_millis: 15_500,
        memory_bytes: 64 << 30,
        disk_bytes: Some(200 << 30),
        local_ssds: 2,
    };
    order.spot = true;
    order.image = Some("ci-rust-1.95".to_owned());
    order.hardware = Hardware {
        arch: Some("arm64".to_owned()),
        families: vec!["c4a".to_owned(), "t2a".to_owned()],
        zone: Some("europe-west4-a".to_owned()),
        region: None,
        gpu: None,
        prefers_spot: true,
    };
    order.labels.queue = "eine Schlange mit Ümläuten".into();
    let mut settings = settings();
    settings.images = BTreeMap::from(
        [("ci-*", "registry.example/other"), ("ci-rust-*", "registry.example/$0:stable")]
            .map(|(name, image)| (name.to_owned(), image.to_owned())),
    );
    settings.agent_config = Some("buildkite-agent".to_owned());
    settings.service_account = Some("ci-jobs".to_owned());
    settings.limits_cpu = true;
    check("everything", &order, &settings);
}

/// As `kubectl get job -o json` shows one that is used as a template.
fn job_in_the_cluster() -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "agents", "namespace": "buildkite", "uid": "u", "resourceVersion": "12",
            "generation": 1, "creationTimestamp": "2026-11-27T08:00:00Z",
            "finalizers": ["x"], "ownerReferences": [{ "kind": "CronJob" }], "managedFields": [{}],
            "labels": {
                "team": "ci", "kueue.x-k8s.io/queue-name": "ci",
                "app.kubernetes.io/instance": "argo", "app.kubernetes.io/managed-by": "Helm",
                "jitney.dev/mark": "other",
            },
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "argocd.argoproj.io/tracking-id": "x", "meta.helm.sh/release-name": "x",
                "note": "kept",
            },
        },
        "spec": {
            "parallelism": 7, "completions": 7, "backoffLimit": 6, "suspend": true,
            "completionMode": "Indexed", "podFailurePolicy": { "rules": [] },
            "podReplacementPolicy": "Failed", "managedBy": "kueue.x-k8s.io/multikueue",
            "selector": { "matchLabels": { "batch.kubernetes.io/controller-uid": "u" } },
            "template": {
                "metadata": {
                    "creationTimestamp": null,
                    "labels": {
                        "batch.kubernetes.io/controller-uid": "u", "controller-uid": "u",
                        "batch.kubernetes.io/job-name": "agents", "job-name": "agents", "app": "ci",
                        "app.kubernetes.io/instance": "argo", "jitney.dev/fleet": "other",
                    },
                    "annotations": {
                        "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
                        "kubectl.kubernetes.io/default-container": "job",
                    },
                },
                "spec": {
                    "restartPolicy": "OnFailure",
                    "terminationGracePeriodSeconds": 90,
                    "serviceAccountName": "of-the-template",
                    "imagePullSecrets": [{ "name": "registry" }],
                    "nodeSelector": { "pool": "ci" },
                    "tolerations": [
                        { "key": "pool", "operator": "Exists", "effect": "NoSchedule" },
                        { "key": "node.kubernetes.io/unreachable", "operator": "Exists",
                          "effect": "NoExecute", "tolerationSeconds": 60 },
                    ],
                    "affinity": { "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                            { "matchExpressions": [{ "key": "a", "operator": "Exists" }] },
                            { "matchExpressions": [{ "key": "b", "operator": "Exists" }] },
                        ] },
                    } },
                    "containers": [
                        { "name": "docker", "image": "docker:dind",
                          "securityContext": { "privileged": true } },
                        { "name": "job", "image": "of-the-template", "command": ["sleep"],
                          "args": ["1"],
                          "env": [{ "name": "DOCKER_HOST", "value": "tcp://localhost:2375" },
                                  { "name": "JITNEY_TOKEN", "value": "mine" }],
                          "resources": { "limits": { "memory": "1Mi", "nvidia.com/gpu": "1" } },
                          "startupProbe": { "httpGet": { "port": 80 } },
                          "volumeMounts": [{ "name": "cache", "mountPath": "/cache" }] },
                    ],
                    "volumes": [{ "name": "cache", "hostPath": { "path": "/cache" } }],
                },
            },
        },
        "status": { "active": 3 },
    })
}

#[test]
fn a_template_lies_under_ours_by_name() {
    let mut order = order();
    order.hardware.families = vec!["n2".to_owned(), "n2d".to_owned()];
    let mut settings = settings();
    let template = Template::from_job(&job_in_the_cluster()).expect("a template");
    settings.template = TemplateFrom::Here(template.clone());
    check("over_a_template", &order, &settings);
    assert_eq!(template.doubt(), Some(TemplateError::Beside("docker".to_owned())));
}

#[test]
fn a_pod_without_rights_is_nobody_in_particular() {
    let (mut order, mut settings) = (order(), settings());
    settings.service_account = Some("ci-jobs".to_owned());
    let mut theirs = job_in_the_cluster();
    theirs["spec"]["template"]["spec"]["serviceAccountName"] = json!("theirs");
    settings.template = TemplateFrom::Here(Template::from_job(&theirs).expect("a template"));
    let account = |order: &Order| {
        let made = job(order, &settings, "s").expect("a Job");
        made.pointer("/spec/template/spec/serviceAccountName").cloned()
    };
    assert_eq!(account(&order), Some(json!("ci-jobs")));
    order.no_rights = true;
    assert_eq!(account(&order), Some(json!("default")));
}

#[test]
fn where_nobody_names_an_image_the_templates_runs_the_job() {
    let mut settings = settings();
    settings.image = None;
    let error = job(&order(), &settings, "s").expect_err("there is no image");
    assert_eq!(error.class, Class::Rejected, "{error}");
    let template = Template::from_job(&job_in_the_cluster()).expect("a template");
    settings.template = TemplateFrom::Here(template);
    let made = job(&order(), &settings, "s").expect("a Job");
    assert_eq!(
        made.pointer("/spec/template/spec/containers/0/image"),
        Some(&json!("of-the-template"))
    );
}

#[test]
fn fragments_and_pod_templates_are_templates_too() {
    let spec =
        json!({ "containers": [{ "name": "job", "workingDir": "/w" }], "hostNetwork": true });
    let pod_template = json!({ "metadata": { "name": "x" }, "template": { "spec": spec } });
    let fragment = json!({ "spec": { "template": { "spec": spec } } });
    for template in [
        Template::from_pod_template(&pod_template).expect("a template"),
        Template::from_fragment(&fragment).expect("a template"),
    ] {
        let settings = Settings { template: TemplateFrom::Here(template), ..settings() };
        let made = job(&order(), &settings, "s").expect("a Job");
        let pod = made.pointer("/spec/template/spec").expect("a pod");
        assert_eq!(pod.pointer("/containers/0/workingDir"), Some(&json!("/w")));
        assert_eq!(pod.pointer("/containers/0/image"), Some(&json!("debian:12")));
        assert_eq!(pod.get("hostNetwork"), Some(&json!(true)));
    }
    let wrong = [json!([]), json!({ "containers": [] }), json!("x")];
    for fragment in wrong {
        assert_eq!(Template::from_fragment(&fragment), Err(TemplateError::NotAMapping));
    }
    assert_eq!(Template::from_pod_template(&json!({})), Err(TemplateError::Missing("template")));
    assert_eq!(Template::from_job(&json!({})), Err(TemplateError::Missing("spec")));
}

#[test]
fn a_volume_of_a_storage_class_has_the_disk_that_was_asked_for() {
    let mut settings = settings();
    settings.disk = Disk::Ephemeral { storage_class: Some("fast".to_owned()) };
    let mut order = order();
    for (asked, expected) in [(None, "20Gi"), (Some(200 << 30), "200Gi"), (Some(1000), "1000")] {
        order.resources.disk_bytes = asked;
        let made = job(&order, &settings, "s").expect("a Job");
        let claim = made
            .pointer("/spec/template/spec/volumes/1/ephemeral/volumeClaimTemplate/spec")
            .expect("a claim");
        assert_eq!(claim.pointer("/resources/requests/storage"), Some(&json!(expected)));
        assert_eq!(claim.get("storageClassName"), Some(&json!("fast")));
        let requests = made.pointer("/spec/template/spec/containers/0/resources/requests");
        assert_eq!(requests.and_then(|all| all.get("ephemeral-storage")), None, "it is elsewhere");
    }
}

#[test]
fn an_operators_own_nodes_take_the_place_of_the_usual() {
    let mut settings = settings();
    let selector = BTreeMap::from([("capacity".to_owned(), "spot".to_owned())]);
    settings.nodes = BTreeMap::from([("spot".to_owned(), Nodes { selector, tolerations: vec![] })]);
    let mut order = order();
    order.spot = true;
    let made = job(&order, &settings, "s").expect("a Job");
    let pod = made.pointer("/spec/template/spec").expect("a pod");
    assert_eq!(pod.get("nodeSelector"), Some(&json!({ "capacity": "spot" })));
    // A wish leaves other nodes open.
    (order.spot, order.hardware.prefers_spot) = (false, true);
    let made = job(&order, &settings, "s").expect("a Job");
    let pod = made.pointer("/spec/template/spec").expect("a pod");
    assert_eq!(pod.get("nodeSelector"), None);
    let wish =
        "/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/preference";
    let expected = json!([{ "key": "capacity", "operator": "In", "values": ["spot"] }]);
    assert_eq!(pod.pointer(wish).and_then(|term| term.get("matchExpressions")), Some(&expected));
}

#[test]
fn gpus_are_a_limit_and_a_kind_of_node() {
    let mut order = order();
    let pod = |order: &Order, settings: &Settings| {
        let made = job(order, settings, "s").expect("a Job");
        made.pointer("/spec/template/spec").expect("a pod").clone()
    };
    let limit = |pod: &Value| pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"].clone();
    for (asked, kind, count) in [("nvidia-l4", "nvidia-l4", "1"), ("nvidia-l4:4", "nvidia-l4", "4")]
    {
        order.hardware.gpu = Some(asked.to_owned());
        let pod = pod(&order, &settings());
        assert_eq!(limit(&pod), json!(count));
        assert_eq!(pod["nodeSelector"], json!({ "cloud.google.com/gke-accelerator": kind }));
        let taint =
            json!({ "key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule" });
        let tolerations = pod["tolerations"].as_array().expect("a list");
        assert!(tolerations.contains(&taint), "{tolerations:?}");
    }
    let mut settings = settings();
    let selector = BTreeMap::from([("accelerator".to_owned(), "is-$0".to_owned())]);
    settings.nodes = BTreeMap::from([("gpu".to_owned(), Nodes { selector, tolerations: vec![] })]);
    let of_ours = pod(&order, &settings);
    assert_eq!(of_ours["nodeSelector"], json!({ "accelerator": "is-nvidia-l4" }));
    assert_eq!(limit(&of_ours), json!("4"));
    for wrong in ["nvidia-l4:", "nvidia-l4:0", "nvidia-l4:-1", "nvidia-l4:two"] {
        order.hardware.gpu = Some(wrong.to_owned());
        let error = job(&order, &settings, "s").expect_err("there is no such number");
        assert_eq!(error.class, Class::Rejected, "{error}");
        assert!(error.words.contains(wrong), "{error}");
    }
}
