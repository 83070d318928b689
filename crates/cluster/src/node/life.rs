//! One pod's life on a node: its volumes, its containers in order, its end, and what the API
//! server is told of it meanwhile.

mod container;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use super::events::Kind;
use super::kubelet::Kubelet;
use super::lookup::{Absent, Lookup};
use super::status::{PodState, State, Verdict};
use super::volumes;
use crate::clock::now;
use crate::plane::lock;

/// Between two tries of what does not work yet. A kubelet's own pauses grow from half a second.
const RETRY: Duration = Duration::from_millis(500);
/// What a pod without a word about it gets.
const GRACE: i64 = 30;
/// What pods get at most where the machine is to go: as on Google's spot machines.
const SHUTDOWN: i64 = 15;

#[derive(Debug)]
pub(super) struct Life {
    kubelet: Arc<Kubelet>,
    pod: Pod,
    pub(super) namespace: String,
    pub(super) name: String,
    uid: String,
    folder: PathBuf,
    state: Mutex<PodState>,
    status: watch::Sender<PodStatus>,
    ending: watch::Sender<Ending>,
    /// The containers that are to end as if they had taken too much memory.
    out_of_memory: watch::Sender<BTreeSet<String>>,
    told: Mutex<BTreeSet<String>>,
}

/// How a pod is to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending {
    /// Its processes are to stop, and have so long for it.
    stop: Option<Duration>,
    /// It was deleted: once it is over, the API server may forget it.
    deleted: bool,
    /// The API server has forgotten it.
    removed: bool,
}

impl Life {
    pub(super) fn new(kubelet: &Arc<Kubelet>, pod: Pod) -> Self {
        let uid = pod.uid().unwrap_or_default();
        let mut state = PodState::new(&pod, &now());
        let status = state.status(&uid, &now());
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            folder: kubelet.folder.join(&uid),
            state: Mutex::new(state),
            status: watch::Sender::new(status),
            ending: watch::Sender::default(),
            out_of_memory: watch::Sender::default(),
            told: Mutex::default(),
            kubelet: Arc::clone(kubelet),
            pod,
            uid,
        }
    }

    /// From the first status to the last, and until the API server has forgotten it.
    pub(super) async fn run(self: Arc<Self>) {
        let gone = self.kubelet.gone.clone();
        gone.run_until_cancelled(async {
            tokio::join!(self.live(), self.write_statuses());
            let mut ending = self.ending.subscribe();
            if ending.wait_for(|it| it.deleted || it.removed).await.is_ok_and(|it| !it.removed) {
                self.forget().await;
            }
            self.removed().await;
        })
        .await;
        if let Err(error) = fs::remove_dir_all(&self.folder)
            && error.kind() != std::io::ErrorKind::NotFound
            && !gone.is_cancelled()
        {
            eprintln!("failed to remove the folder of pod {}: {error}", self.name);
        }
        lock(&self.kubelet.pods).remove(&self.uid);
    }

    fn spec(&self) -> &PodSpec {
        self.pod.spec.as_ref().expect("a pod on a node has a spec")
    }

    async fn live(&self) {
        let work = async {
            self.kubelet.start_delay().await;
            let volumes = self.volumes().await;
            self.update(|state| state.sandbox = true);
            volumes
        };
        let volumes = tokio::select! {
            volumes = work => Some(volumes),
            () = self.stopped() => None,
        };
        if let Some(volumes) = volumes {
            tokio::select! {
                () = self.containers(&volumes) => {}
                () = self.deadline() => unreachable!("it only says when"),
            }
        }
        let cut_short = self.ending.borrow().stop.is_some();
        self.update(|state| state.finish(cut_short, &now()));
    }

    async fn volumes(&self) -> BTreeMap<String, PathBuf> {
        let folder = self.folder.join("volumes");
        let wanted = self.spec().volumes.as_deref().unwrap_or_default();
        loop {
            match volumes::prepare(&self.lookup(), wanted, &folder).await {
                Ok(volumes) => return volumes,
                Err((_, Absent::Unknown(_))) => {}
                Err((volume, Absent::Missing(words))) => {
                    let words =
                        format!("MountVolume.SetUp failed for volume \"{volume}\" : {words}");
                    self.tell(Kind::Warning, "FailedMount", &words);
                }
            }
            sleep(RETRY).await;
        }
    }

    /// Init containers one after the other, then the others side by side.
    async fn containers(&self, volumes: &BTreeMap<String, PathBuf>) {
        for container in self.spec().init_containers.iter().flatten() {
            if self.run_container(container, volumes).await != Some(0) {
                return;
            }
        }
        let containers = self.spec().containers.iter();
        join_all(containers.map(|container| self.run_container(container, volumes))).await;
    }

    /// Ends the pod when it has been active for too long. Does not return.
    async fn deadline(&self) {
        if let Some(seconds) = self.spec().active_deadline_seconds {
            sleep(Duration::from_secs(seconds.unsigned_abs())).await;
            self.doom(Verdict::Deadline);
        }
        std::future::pending().await
    }

    fn lookup(&self) -> Lookup<'_> {
        Lookup { client: &self.kubelet.client, pod: &self.pod, node: &self.kubelet.name }
    }

    /// Once its processes are to stop.
    async fn stopped(&self) {
        let mut ending = self.ending.subscribe();
        let stopped = ending.wait_for(|it| it.stop.is_some()).await.map(drop);
        stopped.expect("the sender is ours");
    }

    // --- what ends it ---

    /// The pod as the API server has it now.
    pub(super) fn seen(&self, pod: &Pod) {
        if pod.metadata.deletion_timestamp.is_some() {
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(GRACE);
            let grace = Duration::from_secs(grace.unsigned_abs());
            self.ending.send_modify(|ending| {
                ending.deleted = true;
                ending.stop = Some(ending.stop.map_or(grace, |before| before.min(grace)));
            });
        }
    }

    /// The API server has it no more: nobody waits for its end.
    pub(super) fn lost(&self) {
        self.ending.send_modify(|ending| {
            ending.removed = true;
            ending.stop = Some(Duration::ZERO);
        });
    }

    /// The node ends it.
    pub(super) fn doom(&self, verdict: Verdict) {
        let mut state = lock(&self.state);
        if state.over || state.verdict.is_some() {
            return;
        }
        let grace = match &verdict {
            Verdict::Evicted(message) => {
                self.tell(Kind::Warning, "Evicted", message);
                0
            }
            Verdict::Deadline => self.grace(),
            Verdict::ShutDown(_) => self.grace().min(SHUTDOWN),
        };
        state.verdict = Some(verdict);
        drop(state);
        self.update(|_| {});
        let grace = Duration::from_secs(grace.unsigned_abs());
        self.ending.send_modify(|ending| {
            ending.stop = Some(ending.stop.map_or(grace, |before| before.min(grace)));
        });
    }

    fn grace(&self) -> i64 {
        self.spec().termination_grace_period_seconds.unwrap_or(GRACE)
    }

    /// A container of it is to end as the kernel ends what takes too much memory.
    pub(super) fn run_out_of_memory(&self, container: &str) {
        self.out_of_memory.send_modify(|them| {
            them.insert(container.to_owned());
        });
    }

    async fn told_out_of_memory(&self, container: &str) {
        let mut told = self.out_of_memory.subscribe();
        let told = told.wait_for(|them| them.contains(container)).await.map(drop);
        told.expect("the sender is ours");
    }

    /// Whether the API server may still ask for it.
    pub(super) fn is_here(&self) -> bool {
        !self.ending.borrow().removed
    }

    async fn removed(&self) {
        let removed = self.ending.subscribe().wait_for(|it| it.removed).await.map(drop);
        removed.expect("the sender is ours");
    }

    // --- what is told of it ---

    /// Changes what is known, and has it written.
    fn update(&self, change: impl FnOnce(&mut PodState)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let status = state.status(&self.uid, &now());
        self.status.send_replace(status);
    }

    fn is_over(status: &PodStatus) -> bool {
        matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    /// Writes the newest status until it is the last one, through outages too.
    async fn write_statuses(&self) {
        let mut statuses = self.status.subscribe();
        loop {
            let status = statuses.borrow_and_update().clone();
            let patch = Patch::Strategic(json!({
                "metadata": { "uid": self.uid },
                "status": nulls_where_absent(&status),
            }));
            let written = tokio::select! {
                written = self.write(&patch) => written,
                () = self.removed() => return,
            };
            let newer = statuses.has_changed().unwrap_or(false);
            if written && Self::is_over(&status) && !newer {
                return;
            }
            if !written {
                sleep(RETRY).await;
            } else if !newer {
                let changed = statuses.changed().await;
                changed.expect("the sender is ours");
            }
        }
    }

    /// Whether there is nothing more to do about it.
    async fn write(&self, patch: &Patch<serde_json::Value>) -> bool {
        let written = self.pods().patch_status(&self.name, &PatchParams::default(), patch).await;
        match written {
            Ok(_) => true,
            // It is gone, or another one bears its name. The watch says so, too.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
            Err(kube::Error::Api(status)) => {
                eprintln!("failed to write the status of pod {}: {status}", self.name);
                false
            }
            Err(_) => false,
        }
    }

    /// Lets the API server forget it, now that it is over.
    async fn forget(&self) {
        let preconditions = Preconditions { uid: Some(self.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let params = params.grace_period(0);
        let forget = async {
            loop {
                match self.pods().delete(&self.name, &params).await {
                    Ok(_) => return,
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                    Err(_) => sleep(RETRY).await,
                }
            }
        };
        tokio::select! {
            () = forget => {}
            () = self.removed() => {}
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.kubelet.client.clone(), &self.namespace)
    }

    /// Writes an event about it, once for the same words.
    fn tell(&self, kind: Kind, reason: &'static str, message: &str) {
        if lock(&self.told).insert(format!("{reason} {message}")) {
            self.kubelet.tell(&self.pod, kind, reason, message);
        }
    }

    /// Where the log of a container is: of the one that runs, or of the one before.
    pub(super) fn log(&self, container: &str, previous: bool) -> Option<PathBuf> {
        let state = lock(&self.state);
        let progress = state.named(container)?;
        let number = progress.restarts - i32::from(previous);
        Some(self.folder.join(format!("{container}.{number}.log")))
    }

    /// Whether more can come into a container's log.
    pub(super) fn may_log(&self, container: &str) -> bool {
        let state = lock(&self.state);
        let ended = state.named(container).is_none_or(|it| matches!(it.state, State::Ended(_)));
        !state.over && !ended
    }
}

/// A reason that is not there any more has to be taken away from what was written before.
fn nulls_where_absent(status: &PodStatus) -> serde_json::Value {
    let mut value = json!(status);
    let put_nulls = |value: &mut serde_json::Value, fields: &[&str]| {
        for field in fields {
            if value.get(field).is_none() {
                value[field] = serde_json::Value::Null;
            }
        }
    };
    put_nulls(&mut value, &["reason", "message", "podIP"]);
    for condition in value["conditions"].as_array_mut().into_iter().flatten() {
        put_nulls(condition, &["reason", "message"]);
    }
    value
}
