//! The ground for tests of fleets: a namespace of a real control plane with two nodes, the template as
//! somebody deploys it, and an account that may do what `docs/fleets.md` says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backends::fleet::RIGHTS;
use cluster::{ControlPlane, Images, Node, NodeOptions};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::shell_support::TOKEN;

/// Two computers' worth of agents start at once, on what may be two cores.
pub(crate) const LONG: Duration = Duration::from_secs(600);
const IMAGE: &str = "buildkite/agent:test";
const TEMPLATE: &str = "agents";
const SECRET: &str = "agent";

pub(crate) struct Ground {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) client: kube::Client,
    pub(crate) namespace: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) kubeconfig: PathBuf,
}

/// What a fleet does with a template Job, and what `doctor` looks at beyond it.
pub(crate) fn rules(doctor: bool) -> Vec<PolicyRule> {
    let needed = RIGHTS.iter().filter(|right| match right.with {
        "doctor" => doctor,
        with => with.is_empty() || with == "job",
    });
    let words = |words: &[&str]| Some(words.iter().map(|text| (*text).to_owned()).collect());
    needed
        .map(|right| PolicyRule {
            api_groups: words(&[right.group]),
            resources: words(&[right.resource]),
            verbs: right.verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            ..PolicyRule::default()
        })
        .collect()
}

impl Ground {
    /// None where a part is absent, which has been said then.
    pub(crate) async fn new(name: &str, agent: &Path, rules: Vec<PolicyRule>) -> Option<Self> {
        let plane = ControlPlane::shared().await?;
        let namespace = plane.fresh_namespace(name).await.unwrap();
        let mut nodes = Vec::new();
        for at in ["a", "b"] {
            let mut options = NodeOptions::named(format!("{namespace}-{at}"));
            options.labels.insert("ground".to_owned(), namespace.clone());
            options.images = Images::default().with(IMAGE, agent, "/usr/local/bin/buildkite-agent");
            nodes.push(plane.join(options).await.unwrap());
        }
        let kubeconfig = plane.service_account(&namespace, "jitney", rules).await.unwrap();
        let client = plane.client().await.unwrap();
        Some(Self { plane, client, namespace, nodes, kubeconfig })
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The template as somebody deploys it, and the Secret that it names.
    pub(crate) async fn template(&self, endpoint: &str, change: impl FnOnce(&mut Value)) {
        let secret = json!({ "metadata": { "name": SECRET }, "stringData": { "token": TOKEN } });
        self.put::<Secret>(secret).await;
        let token = json!({ "secretKeyRef": { "name": SECRET, "key": "token" } });
        let lost = |key: &str| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3 });
        let mut job = json!({
            "metadata": { "name": TEMPLATE, "labels": { "app": "agents" } },
            "spec": { "suspend": true, "template": { "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "nodeSelector": { "ground": self.namespace },
                "tolerations": [lost("node.kubernetes.io/unreachable"), lost("node.kubernetes.io/not-ready")],
                "containers": [{
                    "name": "agent", "image": IMAGE, "command": ["buildkite-agent", "start"],
                    "env": [
                        { "name": "BUILDKITE_AGENT_TOKEN", "valueFrom": token },
                        { "name": "BUILDKITE_AGENT_ENDPOINT", "value": endpoint },
                        { "name": "BUILDKITE_BUILD_PATH", "value": "/tmp/builds" },
                        { "name": "BUILDKITE_PLUGINS_PATH", "value": "/tmp/plugins" },
                        // The stand-in for a kubelet gives no terminals.
                        { "name": "BUILDKITE_NO_PTY", "value": "true" },
                    ],
                }],
            } } },
        });
        change(&mut job);
        self.put::<Job>(job).await;
    }

    /// Puts an object there, as an operator does.
    pub(crate) async fn put<K>(&self, object: Value)
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap();
    }

    pub(crate) async fn jobs(&self) -> Vec<Job> {
        let of_fleets = ListParams::default().labels("jitney.dev/fleet=stateless");
        self.api::<Job>().list(&of_fleets).await.unwrap().items
    }

    /// What we may do was done, and nothing else; each Job that we made bears a dispatch that was seen.
    pub(crate) fn check_calls<'a>(&self, dispatches: impl Iterator<Item = &'a String>) {
        let ours = format!("system:serviceaccount:{}:jitney", self.namespace);
        let calls = self.plane.audit().unwrap();
        let calls: Vec<_> = calls.iter().filter(|call| call.user == ours).collect();
        assert!(calls.iter().all(|call| call.code < 400), "{calls:#?}");
        let used: BTreeSet<(&str, &str)> =
            calls.iter().map(|call| (call.verb.as_str(), call.resource.as_str())).collect();
        let needed = RIGHTS.iter().filter(|right| ["", "job"].contains(&right.with));
        let may = needed.flat_map(|right| right.verbs.iter().map(|verb| (*verb, right.resource)));
        assert_eq!(used, may.collect::<BTreeSet<_>>());
        let made = calls.iter().filter(|call| call.verb == "create").map(|call| &call.name);
        let made: BTreeSet<String> = made.cloned().collect();
        let seen: BTreeSet<String> = dispatches.map(|id| format!("stateless-{id}")).collect();
        assert!(seen.is_subset(&made), "{made:?} {seen:?}");
    }

    /// Until the cluster has nothing any more. Whoever deployed the template takes it away first.
    pub(crate) async fn nothing_left(&self) {
        let background = DeleteParams::background();
        self.api::<Job>().delete(TEMPLATE, &background).await.unwrap();
        self.api::<Secret>().delete(SECRET, &background).await.unwrap();
        let empty = self.plane.until_empty(&self.namespace, LONG).await;
        empty.unwrap_or_else(|error| panic!("{error}"));
    }
}
