//! The chart in a real API server: its objects are accepted as they are, and a release comes up,
//! does its work with just its permissions, is changed, and leaves nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::os::unix::fs::chown;
use std::time::Duration;

use cluster::{ControlPlane, Images, Node, NodeOptions};
use sandbox::engine::{NewBuild, NewStep};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::helm::{Helm, SETS, chart, fields};
use crate::shell_support::TOKEN;

/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(120);
const HELM_PATIENCE: &str = "120s";
const RELEASE: &str = "ci";
const ACCESS: &str = "let-me-read";
/// Whom the chart runs Jitney as.
const USER: u32 = 65_532;

/// What kubectl says; where it refuses, that.
async fn kubectl(plane: &ControlPlane, words: &[&str]) -> String {
    let output = plane.kubectl(words).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

async fn namespace(plane: &ControlPlane, name: &str) {
    let made = plane.kubectl(&["create", "namespace", name]).await.unwrap();
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success() || said.contains("AlreadyExists"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_accepts_every_object_as_it_is() {
    let Some(helm) = Helm::find() else { return };
    let Some(plane) = ControlPlane::shared().await else { return };
    for name in ["jitney", "buildkite", "buildkite-deploy", "ci"] {
        namespace(plane, name).await;
    }
    // The Prometheus operator is no part of Kubernetes.
    let without = helm.values("podMonitor: { enabled: false }");
    for set in SETS {
        let text = helm.render_text(&[&helm.set(set), &without]).unwrap();
        let file = helm.values(&text);
        let dry = ["apply", "--dry-run=server", "--validate=strict", "--filename", &file];
        let said = kubectl(plane, &dry).await;
        assert!(said.contains("deployment.apps/jitney created (server dry run)"), "{set}: {said}");
    }
}

/// A release's two namespaces, a node for its pod, and Buildkite.
struct Ground {
    plane: &'static ControlPlane,
    helm: Helm,
    /// Of the release, and of the Jobs.
    own: String,
    jobs: String,
    port: u16,
    sandbox: Sandbox,
    journal: TempDir,
    http: reqwest::Client,
    _node: Node,
}

impl Ground {
    async fn new() -> Option<Self> {
        let helm = Helm::find()?;
        let plane = ControlPlane::shared().await?;
        buildkite::install_crypto_provider();
        let own = plane.fresh_namespace("release").await.unwrap();
        let jobs = plane.fresh_namespace("machines").await.unwrap();
        // The API server itself refuses a pod that asks for more than it needs.
        let label = ["label", "namespace", &own, "pod-security.kubernetes.io/enforce=restricted"];
        kubectl(plane, &label).await;
        let jitney = env!("CARGO_BIN_EXE_jitney");
        let images = Images::default().with("jitney/jitney:0.1.0", jitney, "/jitney");
        let labels = [("ground".to_owned(), own.clone())].into_iter().collect();
        let options = NodeOptions { images, labels, ..NodeOptions::named(&own) };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let journal = tempfile::tempdir().unwrap();
        chown(journal.path(), Some(USER), Some(USER)).unwrap();
        let ground = Self {
            plane,
            helm,
            port: listener.local_addr().unwrap().port(),
            sandbox: Sandbox::start(Options::with_token(TOKEN)).await.unwrap(),
            journal,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            _node: plane.join(options).await.unwrap(),
            own,
            jobs,
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
            "metadata": { "name": "agents", "namespace": self.jobs },
            "spec": { "suspend": true, "template": { "spec": {
                "restartPolicy": "Never",
                "nodeSelector": { "ground": "nowhere" },
                "containers": [container],
            } } },
        })
    }

    fn values(&self, most: u32) -> String {
        let values = json!({
            "config": {
                "listen": format!("0.0.0.0:{}", self.port),
                "buildkite": { "endpoint": self.sandbox.endpoint() },
                "backends": { "pods": { "kubernetes": { "namespace": self.jobs } } },
                "fleets": { "stateless": {
                    "queue": "default",
                    "backend": "pods",
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
    fn helm(&self, words: &[&str]) -> String {
        let kubeconfig = self.plane.kubeconfig().display().to_string();
        let place = ["--namespace", &*self.own, "--kubeconfig", &*kubeconfig];
        let waits = ["--wait", "--timeout", HELM_PATIENCE];
        let words = [words, &place, &waits].concat();
        let said = tokio::task::block_in_place(|| self.helm.run(&words));
        said.unwrap_or_else(|refusal| panic!("{words:?}: {refusal}"))
    }

    async fn get(&self, words: &[&str]) -> Value {
        let text = kubectl(self.plane, &[&["get", "--output", "json"], words].concat()).await;
        serde_json::from_str(&text).unwrap()
    }

    /// The one pod of the release.
    async fn pod(&self) -> Value {
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

    async fn until_ready(&self) {
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

    /// What Jitney asked of the API server, as RBAC names it, and that nothing was refused.
    fn asked(&self) -> BTreeSet<String> {
        let calls = self.plane.audit().unwrap();
        let ours = calls.iter().filter(|call| call.user == self.user());
        ours.map(|call| {
            assert_ne!(call.code, 403, "{call:?}");
            assert_eq!(call.namespace, self.jobs, "{call:?}");
            format!("{} {}", call.verb, call.resource)
        })
        .collect()
    }

    /// What its Role allows.
    async fn allowed(&self) -> BTreeSet<String> {
        let name = format!("{}.{RELEASE}", self.own);
        let role = self.get(&["role", &name, "--namespace", &self.jobs]).await;
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

    /// Everything of the release, in all namespaces.
    async fn left(&self) -> String {
        let kinds =
            "all,configmaps,secrets,persistentvolumeclaims,serviceaccounts,roles,rolebindings";
        let selector = format!("app.kubernetes.io/instance={RELEASE}");
        let words = ["get", kinds, "--all-namespaces", "--selector", &selector, "--output", "name"];
        kubectl(self.plane, &words).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_comes_up_works_changes_and_leaves_nothing() {
    let Some(ground) = Ground::new().await else { return };
    let said = ground.helm(&["install", RELEASE, &chart(), "--values", &ground.values(5)]);
    assert!(said.contains(&format!("It makes Jobs in namespace {}", ground.jobs)), "{said}");
    ground.until_ready().await;
    let first = ground.pod().await;
    let qos = fields(&first, &["/status/qosClass", "/status/phase"]);
    assert_eq!(qos, "Burstable Running");

    let steps = (0..3).map(|_| NewStep::command("echo hello")).collect();
    let new = NewBuild { pipeline: "web".to_owned(), steps, ..NewBuild::default() };
    ground.sandbox.engine(|engine, now| engine.create_build(new, now).map(drop)).unwrap();
    let until = Instant::now() + PATIENCE;
    // It copies the template, and asks why the pods do not come.
    let allowed = ground.allowed().await;
    while ground.asked() != allowed {
        assert!(Instant::now() < until, "of {allowed:?} only {:?} is used", ground.asked());
        sleep(Duration::from_millis(100)).await;
    }
    let jobs = ["jobs", "--namespace", &ground.jobs, "--selector", "jitney.dev/fleet=stateless"];
    let made = ground.get(&jobs).await;
    assert_eq!(fields(&made, &["/items/0/spec/parallelism", "/items/1"]), "3 -");

    ground.helm(&["upgrade", RELEASE, &chart(), "--values", &ground.values(6)]);
    ground.until_ready().await;
    let second = ground.pod().await;
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"], "it reads what is new");
    assert!(ground.journal.path().join("jitney.db").is_file(), "the journal is on the claim");

    ground.helm(&["uninstall", RELEASE]);
    let until = Instant::now() + PATIENCE;
    while !ground.left().await.trim().is_empty() {
        assert!(Instant::now() < until, "there is still {}", ground.left().await);
        sleep(Duration::from_millis(200)).await;
    }
    kubectl(ground.plane, &["delete", "persistentvolume", &ground.own]).await;
}
