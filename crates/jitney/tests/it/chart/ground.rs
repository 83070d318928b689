//! A release of the chart in the real API server: its namespaces, a node for its pods, the volume for
//! its journal, and Buildkite.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use cluster::{ControlPlane, Images, Node, NodeOptions};
use sandbox::engine::{Job, NewBuild};
use sandbox::{Options, Sandbox, pipeline};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::helm::Helm;
use crate::parts::part;
use crate::shell_support::TOKEN;

/// Longer than anything here takes; reached only by a test that fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
const HELM_PATIENCE: &str = "120s";
pub(super) const RELEASE: &str = "ci";
const ACCESS: &str = "let-me-read";
/// Whom the chart runs Jitney as.
const USER: u32 = 65_532;

/// What kubectl says; where it refuses, that.
pub(super) async fn kubectl(plane: &ControlPlane, words: &[&str]) -> String {
    let output = plane.kubectl(words).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub(super) struct Ground {
    pub(super) plane: &'static ControlPlane,
    helm: Helm,
    /// The release's namespace, that of the jobs' machines, and that of a fleet's.
    pub(super) own: String,
    pub(super) jobs: String,
    pub(super) fleet: String,
    port: u16,
    sandbox: Sandbox,
    pub(super) journal: TempDir,
    http: reqwest::Client,
    _node: Node,
}

impl Ground {
    /// `None` where a part is not to be had, which has been said then.
    pub(super) async fn new() -> Option<Self> {
        let helm = Helm::find()?;
        let agent = part("JITNEY_AGENT_3_137", "buildkite-agent 3.137", "tools/real-parts agents")?;
        let plane = ControlPlane::shared().await?;
        buildkite::install_crypto_provider();
        let own = plane.fresh_namespace("release").await.unwrap();
        let jobs = plane.fresh_namespace("machines").await.unwrap();
        let fleet = plane.fresh_namespace("fleet").await.unwrap();
        // The API server itself refuses a pod that asks for more than it needs.
        let label = ["label", "namespace", &own, "pod-security.kubernetes.io/enforce=restricted"];
        kubectl(plane, &label).await;
        let labels = [("ground".to_owned(), own.clone())].into_iter().collect();
        let images = images(&agent);
        let options = NodeOptions { images, labels, ..NodeOptions::named(&own) };
        let mut buildkite = Options::with_token(TOKEN);
        buildkite.settings.clusters[0].queues = vec!["default".to_owned(), "stateless".to_owned()];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let journal = tempfile::tempdir().unwrap();
        chown(journal.path(), Some(USER), Some(USER)).unwrap();
        let ground = Self {
            plane,
            helm,
            port: listener.local_addr().unwrap().port(),
            sandbox: Sandbox::start(buildkite).await.unwrap(),
            journal,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            _node: plane.join(options).await.unwrap(),
            own,
            jobs,
            fleet,
        };
        ground.apply(&ground.volume()).await;
        ground.apply(&ground.template()).await;
        Some(ground)
    }

    async fn apply(&self, object: &Value) {
        let file = self.helm.values(&object.to_string());
        kubectl(self.plane, &["apply", "--filename", &file]).await;
    }

    /// Where the journal's claim finds room.
    fn volume(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": { "name": self.own },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": { "storage": "1Gi" },
                "storageClassName": self.own,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": { "path": self.journal.path() },
            },
        })
    }

    /// Of a fleet whose pods find no node, so that Jitney has to ask why.
    fn template(&self) -> Value {
        let container = json!({ "name": "agent", "image": "buildkite/agent:3" });
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": "agents", "namespace": self.fleet },
            "spec": { "suspend": true, "template": { "spec": {
                "restartPolicy": "Never",
                "nodeSelector": { "ground": "nowhere" },
                "containers": [container],
            } } },
        })
    }

    pub(super) fn values(&self, most: u32) -> String {
        let pods = json!({
            "namespace": self.jobs,
            "image": "host:test",
            "agent_image": "agent:test",
            "guest_image": "guest:test",
            "template": { "spec": { "template": { "spec": {
                "nodeSelector": { "ground": self.own },
            } } } },
        });
        let values = json!({
            "config": {
                "listen": format!("0.0.0.0:{}", self.port),
                "buildkite": { "endpoint": self.sandbox.endpoint() },
                "queues": { "default": {
                    "backends": ["pods"],
                    "defaults": { "cpu": 0.1, "memory": "128M" },
                } },
                "backends": {
                    "pods": { "kubernetes": pods },
                    "others": { "kubernetes": { "namespace": self.fleet } },
                },
                "fleets": { "stateless": {
                    "queue": "stateless",
                    "backend": "others",
                    "template_from": { "job": "agents" },
                    "agents": { "max": most },
                    "poll": "1s",
                    "idle_timeout": "30s",
                    "active_deadline": "30m",
                } },
            },
            "secret": { "values": { "BUILDKITE_AGENT_TOKEN": TOKEN, "JITNEY_TOKEN": ACCESS } },
            "journal": { "storageClass": self.own },
            "nodeSelector": { "ground": self.own },
        });
        self.helm.values(&values.to_string())
    }

    /// Runs helm in the release's namespace, off this thread.
    pub(super) fn helm(&self, words: &[&str]) -> String {
        let kubeconfig = self.plane.kubeconfig().display().to_string();
        let place = ["--namespace", &*self.own, "--kubeconfig", &*kubeconfig];
        let waits = ["--wait", "--timeout", HELM_PATIENCE];
        let words = [words, &place, &waits].concat();
        let said = tokio::task::block_in_place(|| self.helm.run(&words));
        said.unwrap_or_else(|refusal| panic!("{words:?}: {refusal}"))
    }

    pub(super) async fn get(&self, words: &[&str]) -> Value {
        let text = kubectl(self.plane, &[&["get", "--output", "json"], words].concat()).await;
        serde_json::from_str(&text).unwrap()
    }

    /// The one pod of the release.
    pub(super) async fn pod(&self) -> Value {
        let mut pods = self.get(&["pods", "--namespace", &self.own]).await;
        let pods = pods["items"].as_array_mut().unwrap();
        assert_eq!(pods.len(), 1, "{pods:#?}");
        pods.remove(0)
    }

    async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let request = self.http.get(format!("http://127.0.0.1:{}{path}", self.port));
        let reply = request.bearer_auth(ACCESS).send().await.ok()?;
        Some((reply.status().as_u16(), reply.text().await.ok()?))
    }

    pub(super) async fn until_ready(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let said = self.ask("/readyz").await;
            if said.as_ref().is_some_and(|(status, _)| *status == 200) {
                return;
            }
            assert!(Instant::now() < until, "it is not ready: {said:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn user(&self) -> String {
        format!("system:serviceaccount:{}:{RELEASE}", self.own)
    }

    /// What Jitney asked of the API server in a namespace, and that nothing was ever refused.
    pub(super) fn asked(&self, namespace: &str) -> BTreeSet<String> {
        let calls = self.plane.audit().unwrap();
        let ours = calls.iter().filter(|call| call.user == self.user());
        let ours = ours.inspect(|call| assert_ne!(call.code, 403, "{call:?}"));
        let there = ours.filter(|call| call.namespace == namespace);
        there.map(|call| format!("{} {}", call.verb, call.resource)).collect()
    }

    /// Queues a build of these steps.
    pub(super) fn build(&self, steps: &str) -> Vec<uuid::Uuid> {
        let steps = pipeline::from_yaml(steps).unwrap();
        self.sandbox.engine(|engine, now| {
            let new = NewBuild { pipeline: "web".to_owned(), steps, ..NewBuild::default() };
            let build = engine.create_build(new, now).unwrap();
            engine.build(build).unwrap().jobs().collect()
        })
    }

    pub(super) async fn ended(&self, jobs: &[uuid::Uuid]) -> Vec<Job> {
        let all = self.sandbox.until(|engine| {
            let known: Vec<_> = jobs.iter().filter_map(|id| engine.job(*id)).collect();
            let over = known.iter().all(|job| job.state.is_terminal());
            over.then(|| known.into_iter().cloned().collect())
        });
        let ended = tokio::time::timeout(PATIENCE, all).await;
        ended.unwrap_or_else(|_| panic!("the jobs have not ended"))
    }

    /// What its Role in a namespace allows.
    pub(super) async fn allowed(&self, namespace: &str) -> BTreeSet<String> {
        let name = format!("{}.{RELEASE}", self.own);
        let role = self.get(&["role", &name, "--namespace", namespace]).await;
        let list = |of: &Value| -> Vec<String> { serde_json::from_value(of.clone()).unwrap() };
        let rules = role["rules"].as_array().unwrap().iter();
        rules
            .flat_map(|rule| {
                let (verbs, resources) = (list(&rule["verbs"]), list(&rule["resources"]));
                let each = resources.into_iter();
                each.flat_map(move |resource| {
                    verbs.clone().into_iter().map(move |verb| format!("{verb} {resource}"))
                })
            })
            .collect()
    }

    /// Everything of the release, in all namespaces, and what it made for jobs.
    pub(super) async fn left(&self) -> String {
        let kinds =
            "all,configmaps,secrets,persistentvolumeclaims,serviceaccounts,roles,rolebindings";
        let selector = format!("app.kubernetes.io/instance={RELEASE}");
        let words = ["get", kinds, "--all-namespaces", "--selector", &selector, "--output", "name"];
        let of_release = kubectl(self.plane, &words).await;
        let kinds = ["get", "jobs,pods,secrets", "--output", "name", "--namespace", &self.jobs];
        of_release + &kubectl(self.plane, &kinds).await
    }
}

fn images(agent: &Path) -> Images {
    Images::default()
        .with("jitney/jitney:0.1.0", env!("CARGO_BIN_EXE_jitney"), "/jitney")
        .with("guest:test", env!("CARGO_BIN_EXE_jitney-guest"), guest::pod::IN_IMAGE)
        .with("agent:test", agent, "/usr/local/bin/buildkite-agent")
}
