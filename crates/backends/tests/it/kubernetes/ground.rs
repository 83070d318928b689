//! A namespace of the real control plane, a node whose pods are local processes, and a play agent
//! in an image, whose end the tests decide.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backends::conformance::Subject;
use backends::kubernetes::{
    Access, Cluster, Kubernetes, Options, Settings, Template, TemplateFrom,
};
use backends::{Backend, Future, Machine, Order};
use cluster::{ControlPlane, Images, Node, NodeOptions};
use jiff::Timestamp;
use serde_json::json;

use super::translation::settings;
use crate::place::{now, write_agent};

/// What a play agent does after it has said that it registered.
pub(super) const STAYS: &str = r#"trap 'echo "asked to stop"; exit 0' TERM
read -r code <> "$PLAY/$BUILDKITE_AGENT_NAME" & wait $!
exit 0"#;

/// Until the test says otherwise nothing of a pod begins.
pub(super) const HELD: Duration = Duration::from_secs(3600);

pub(super) struct Ground<'a> {
    pub(super) plane: &'a ControlPlane,
    pub(super) node: Node,
    pub(super) namespace: String,
    pub(super) cluster: Cluster,
    pub(super) settings: Settings,
    pub(super) keep_failed: Duration,
    folder: tempfile::TempDir,
}

impl Ground<'static> {
    /// `None` where there is no control plane to be had, which has been said then.
    pub(super) async fn new(name: &str, then: &str) -> Option<Self> {
        Self::with(name, then, |_| {}).await
    }

    /// The same with another node.
    pub(super) async fn with(
        name: &str,
        then: &str,
        change: impl FnOnce(&mut NodeOptions),
    ) -> Option<Self> {
        Some(Ground::on(ControlPlane::shared().await?, name, then, change).await)
    }
}

impl<'a> Ground<'a> {
    pub(super) async fn on(
        plane: &'a ControlPlane,
        name: &str,
        then: &str,
        change: impl FnOnce(&mut NodeOptions),
    ) -> Self {
        let namespace = plane.fresh_namespace(name).await.expect("a namespace");
        let folder = tempfile::tempdir().expect("a temporary directory");
        let play = folder.path().join("play");
        fs::create_dir(&play).expect("a directory");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let agent = folder.path().join("buildkite-agent");
        write_agent(&agent, "buildkite-agent version 3.137.0+play", then);
        let mut options = NodeOptions::named(&namespace);
        options.labels.insert("ground".to_owned(), namespace.clone());
        options.images = images(&agent);
        change(&mut options);
        let node = plane.join(options).await.expect("a node");
        let access = Access {
            kubeconfig: Some(plane.kubeconfig().to_owned()),
            context: None,
            namespace: Some(namespace.clone()),
        };
        let mut settings = Settings { namespace: namespace.clone(), ..settings() };
        settings.template = TemplateFrom::Here(template(&namespace, &play));
        Self {
            plane,
            node,
            namespace,
            cluster: access.cluster().await.expect("a way to the cluster"),
            settings,
            keep_failed: Duration::ZERO,
            folder,
        }
    }

    /// One more node for this namespace's pods.
    pub(super) async fn another_node(
        &self,
        nth: u32,
        change: impl FnOnce(&mut NodeOptions),
    ) -> Node {
        let mut options = NodeOptions::named(format!("{}-{nth}", self.namespace));
        options.labels.insert("ground".to_owned(), self.namespace.clone());
        options.images = images(&self.agent());
        change(&mut options);
        self.plane.join(options).await.expect("a node")
    }

    pub(super) fn play(&self, name: &str) -> PathBuf {
        self.folder.path().join("play").join(name)
    }

    pub(super) fn agent(&self) -> PathBuf {
        self.folder.path().join("buildkite-agent")
    }

    pub(super) fn kubernetes(&self) -> Kubernetes {
        self.kubernetes_at(now)
    }

    /// The same by another clock.
    pub(super) fn kubernetes_at(&self, now: fn() -> Timestamp) -> Kubernetes {
        let options = Options {
            settings: self.settings.clone(),
            keep_failed: self.keep_failed,
            between_writes: None,
            now,
        };
        Kubernetes::new(&self.cluster, options)
    }

    /// What `kubectl` prints of these words, in this namespace.
    pub(super) async fn kubectl(&self, words: &[&str]) -> String {
        let words = [&["--namespace", &self.namespace], words].concat();
        let output = self.plane.kubectl(&words).await.expect("kubectl");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub(super) async fn apply(&self, object: serde_json::Value) {
        let file = self.folder.path().join("object.json");
        fs::write(&file, object.to_string()).expect("written");
        self.kubectl(&["apply", "-f", &file.display().to_string()]).await;
    }

    /// The name of a machine's one pod.
    pub(super) async fn pod_of(&self, order: &Order) -> String {
        let label = format!("batch.kubernetes.io/job-name={}", order.name);
        let name = self.kubectl(&["get", "pods", "-l", &label, "-o", "name"]).await;
        name.trim().trim_start_matches("pod/").to_owned()
    }
}

pub(super) fn images(agent: &std::path::Path) -> Images {
    Images::default()
        .with("jitney/guest:latest", env!("CARGO_BIN_EXE_machine-guest"), guest::pod::IN_IMAGE)
        .with("buildkite/agent:3", agent, "/usr/local/bin/buildkite-agent")
}

/// Pods go to this namespace's node only, and can be played with.
fn template(namespace: &str, play: &std::path::Path) -> Template {
    let fragment = json!({ "spec": { "template": { "spec": {
        "nodeSelector": { "ground": namespace },
        "containers": [{
            "name": "job",
            "env": [{ "name": "PLAY", "value": "/play" }, { "name": "HOME", "value": "/root" }],
            "volumeMounts": [{ "name": "play", "mountPath": "/play" }],
        }],
        "volumes": [{ "name": "play", "hostPath": { "path": play } }],
    } } } });
    Template::from_fragment(&fragment).expect("a template")
}

impl Subject for Ground<'_> {
    fn backend(&self, mark: &str) -> Arc<dyn Backend> {
        let settings = Settings { mark: mark.to_owned(), ..self.settings.clone() };
        let options =
            Options { settings, keep_failed: self.keep_failed, between_writes: None, now };
        Arc::new(Kubernetes::new(&self.cluster, options))
    }

    fn end<'a>(&'a self, name: &'a str) -> Future<'a, ()> {
        Box::pin(async move {
            let fifo = self.play(name);
            let told = tokio::task::spawn_blocking(move || {
                use std::io::Write;
                let until = Instant::now() + Duration::from_secs(20);
                while !fifo.exists() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let mut fifo = fs::OpenOptions::new().write(true).open(fifo)?;
                fifo.write_all(b"0\n")
            });
            told.await.expect("the step runs").expect("the agent listens");
        })
    }

    /// Each is a dozen programs, and a control plane wants the processors too.
    fn at_once(&self) -> usize {
        20
    }

    fn adjust(&self, order: &mut Order) {
        order.resources.cpu_millis = 100;
    }
}

/// Nothing is left of what was asked of this namespace, once everybody has done their work.
pub(super) async fn until_nothing_is_left(ground: &Ground<'_>) {
    let empty = ground.plane.until_empty(&ground.namespace, Duration::from_secs(60)).await;
    empty.unwrap_or_else(|error| panic!("{error}"));
}

/// As the suite's `until`, for what a control plane takes its time for.
pub(super) async fn patiently(
    backend: &Kubernetes,
    name: &str,
    wanted: impl Fn(Option<&Machine>) -> bool,
) -> Option<Machine> {
    let give_up = Instant::now() + Duration::from_secs(120);
    loop {
        let listing = backend.list().await.expect("a listing");
        let found = listing.machines.iter().find(|machine| machine.name == name);
        if wanted(found) {
            return found.cloned();
        }
        assert!(Instant::now() < give_up, "{found:?}");
        // A change, or the time after which one looks again.
        drop(tokio::time::timeout(Duration::from_secs(1), backend.changed()).await);
    }
}
