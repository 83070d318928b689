//! The stand-in for a kubelet: says that its node is there, and takes up the pods that are bound
//! to it. What becomes of each is its life's part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::events::{self, Kind, Told};
use super::images::{Image, Images, Refusal};
use super::life::Life;
use super::process::SCRIPT;
use super::status::ADDRESS;
use super::{NodeOptions, logs};
use crate::clock::{now, now_micro};
use crate::error::{api, io};
use crate::plane::access::create;
use crate::plane::{Inner, lock};
use crate::{Error, Result};

/// How often it says that it is there; a kubelet does so every 10 s. See `plane::controllers`.
const HEARTBEAT: Duration = Duration::from_secs(2);
const LEASES: &str = "kube-node-lease";

pub(super) struct Kubelet {
    pub(super) plane: Arc<Inner>,
    pub(super) client: Client,
    pub(super) name: String,
    /// A folder for each pod is in it.
    pub(super) folder: PathBuf,
    /// What its containers are made with.
    pub(super) script: PathBuf,
    pub(super) pods: Mutex<BTreeMap<String, Arc<Life>>>,
    pub(super) images: Mutex<Images>,
    pub(super) start_delay: watch::Sender<Duration>,
    /// The node is no more.
    pub(super) gone: CancellationToken,
    events: mpsc::Sender<Told>,
    /// So many events were too many.
    unwritten: AtomicU64,
}

impl fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubelet").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Kubelet {
    /// Registers the node and sets all to work; returns once pods can be scheduled on it.
    pub(super) async fn start(plane: Arc<Inner>, options: NodeOptions) -> Result<Arc<Self>> {
        let client = plane.client("kubelet").await?;
        let folder = plane.folder.join(format!("node-{}", options.name));
        std::fs::create_dir_all(&folder).map_err(io("make a node's folder"))?;
        let script = folder.join("container.sh");
        std::fs::write(&script, SCRIPT).map_err(io("write a node's script"))?;
        let (events, queue) = events::queue();
        let kubelet = Arc::new(Self {
            client,
            name: options.name.clone(),
            folder,
            script,
            pods: Mutex::default(),
            images: Mutex::new(options.images.clone()),
            start_delay: watch::Sender::new(options.start_delay),
            gone: CancellationToken::new(),
            events,
            unwritten: AtomicU64::default(),
            plane,
        });
        let up = kubelet.come_up(&options, queue).await;
        up.inspect_err(|_| kubelet.gone.cancel())?;
        Ok(kubelet)
    }

    async fn come_up(
        self: &Arc<Self>,
        options: &NodeOptions,
        queue: mpsc::Receiver<Told>,
    ) -> Result<()> {
        let port = logs::serve(Arc::clone(self)).await?;
        self.register(options, port).await?;
        self.spawn(|it| async move { it.beat().await });
        self.spawn(|it| async move { it.watch().await });
        self.spawn(|it| async move { events::write(&it.client, queue).await });
        let nodes: &Api<Node> = &Api::all(self.client.clone());
        let name = &options.name;
        let ready = self.plane.until("a node that takes pods", || async move {
            let node = nodes.get(name).await.map_err(api("look at a node"))?;
            let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
            Ok(!taints.iter().any(|taint| taint.key == "node.kubernetes.io/not-ready"))
        });
        ready.await
    }

    /// Does something until the node is gone.
    fn spawn<F>(self: &Arc<Self>, work: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let gone = self.gone.clone();
        let work = work(Arc::clone(self));
        tokio::spawn(async move { gone.run_until_cancelled(work).await });
    }

    async fn register(&self, options: &NodeOptions, port: u16) -> Result<()> {
        let mut labels = BTreeMap::from(
            [("hostname", &*self.name), ("os", "linux"), ("arch", "amd64")]
                .map(|(key, value)| (format!("kubernetes.io/{key}"), value.to_owned())),
        );
        labels.extend(options.labels.clone());
        let node = json!({
            "metadata": { "name": self.name, "labels": labels },
            "spec": { "taints": options.taints },
            "status": {
                "capacity": options.capacity,
                "allocatable": options.capacity,
                "conditions": conditions(),
                "addresses": [
                    { "type": "InternalIP", "address": ADDRESS },
                    { "type": "Hostname", "address": self.name },
                ],
                "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
                "nodeInfo": {
                    "architecture": "amd64",
                    "operatingSystem": "linux",
                    "kubeletVersion": "v1.36.3",
                    "bootID": "", "containerRuntimeVersion": "local://1", "kernelVersion": "",
                    "kubeProxyVersion": "", "machineID": "", "osImage": "", "systemUUID": "",
                },
            },
        });
        create(&Api::<Node>::all(self.client.clone()), node).await?;
        let lease = json!({
            "metadata": { "name": self.name },
            "spec": { "holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now_micro() },
        });
        create(&Api::<Lease>::namespaced(self.client.clone(), LEASES), lease).await.map(drop)
    }

    /// Renews lease and conditions. A beat that does not get through is followed by the next.
    async fn beat(&self) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASES);
        let params = PatchParams::default();
        loop {
            sleep(HEARTBEAT).await;
            let lease = Patch::Merge(json!({ "spec": { "renewTime": now_micro() } }));
            let status = Patch::Strategic(json!({ "status": { "conditions": conditions() } }));
            let beat = tokio::join!(
                leases.patch(&self.name, &params, &lease),
                nodes.patch_status(&self.name, &params, &status),
            );
            drop(beat);
        }
    }

    async fn watch(self: Arc<Self>) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let bound = watcher::Config::default().fields(&format!("spec.nodeName={}", self.name));
        let mut events = pin!(watcher(pods, bound).default_backoff());
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) => {
                    listed.extend(pod.uid());
                    self.see(pod);
                }
                Ok(Event::InitDone) => {
                    let pods = lock(&self.pods);
                    let lost = pods.iter().filter(|(uid, _)| !listed.contains(*uid));
                    lost.for_each(|(_, life)| life.lost());
                }
                Ok(Event::Apply(pod)) => self.see(pod),
                Ok(Event::Delete(pod)) => {
                    let uid = pod.uid().unwrap_or_default();
                    if let Some(life) = lock(&self.pods).get(&uid) {
                        life.lost();
                    }
                }
                // The watcher goes on by itself, after a pause.
                Err(_) => {}
            }
        }
    }

    fn see(self: &Arc<Self>, pod: Pod) {
        let Some(uid) = pod.uid() else { return };
        let known = lock(&self.pods).get(&uid).cloned();
        let life = known.unwrap_or_else(|| {
            let life = Arc::new(Life::new(self, pod.clone()));
            lock(&self.pods).insert(uid, Arc::clone(&life));
            tokio::spawn(Arc::clone(&life).run());
            life
        });
        life.seen(&pod);
    }

    /// The pod of that name that is here.
    pub(super) fn find(&self, namespace: &str, name: &str) -> Result<Arc<Life>> {
        let pods = lock(&self.pods);
        let mut here = pods.values().filter(|life| life.is_here());
        let found = here.find(|life| life.namespace == namespace && life.name == name);
        found.cloned().ok_or_else(|| Error::NoSuchPod(format!("{namespace}/{name}")))
    }

    pub(super) fn pull(&self, image: &str) -> std::result::Result<Image, Refusal> {
        lock(&self.images).pull(image)
    }

    /// For as long as a pod is to wait that has come now, also where that is changed meanwhile.
    pub(super) async fn start_delay(&self) {
        let (came, mut delay) = (Instant::now(), self.start_delay.subscribe());
        loop {
            let until = came + *delay.borrow_and_update();
            if timeout_at(until, delay.changed()).await.is_err() {
                return;
            }
        }
    }

    pub(super) fn tell(&self, pod: &Pod, kind: Kind, reason: &'static str, message: &str) {
        let told = self.events.try_send(events::form(&self.name, pod, kind, reason, message));
        // Once is enough for whoever reads that, and thousands may follow.
        let too_many = told.is_err() && !self.gone.is_cancelled();
        if too_many && self.unwritten.fetch_add(1, Ordering::Relaxed) == 0 {
            eprintln!("too many events on node {}: what comes too fast is not written", self.name);
        }
    }
}

/// That all is well.
fn conditions() -> Value {
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now(),
        })
    };
    json!([
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "there is enough"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "there is enough"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "there are enough"),
    ])
}
