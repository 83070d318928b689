//! Nodes: what a test says to one. A node takes the pods that the scheduler binds to it and runs
//! their containers as local processes.

mod environment;
mod events;
mod images;
mod kubelet;
mod life;
mod logs;
mod lookup;
mod played;
mod process;
mod quantity;
mod status;
mod volumes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node as ApiNode, Taint};
use kube::Api;
use kube::api::DeleteParams;
use tokio::runtime::Handle;

pub use images::{Images, PullFailure};
use kubelet::Kubelet;
pub use played::{Outcome, Played};
use status::Verdict;

use crate::error::api;
use crate::plane::lock;
use crate::{ControlPlane, Result};

/// What a node is like.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Of the whole cluster's nodes.
    pub name: String,
    /// What pods can ask for, as quantities. Nothing holds them to it, but for memory.
    pub capacity: BTreeMap<String, String>,
    /// Beside those of host name, operating system and architecture.
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub images: Images,
    /// How long a pod waits on the node before anything of it begins.
    pub start_delay: Duration,
}

impl NodeOptions {
    /// One with room for a crowd of pods.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        let room =
            [("cpu", "64"), ("memory", "256Gi"), ("ephemeral-storage", "1Ti"), ("pods", "2000")];
        Self {
            name: name.into(),
            capacity: room.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            images: Images::default(),
            start_delay: Duration::ZERO,
        }
    }
}

/// A node of a control plane. With its drop it is removed.
#[derive(Debug)]
pub struct Node {
    kubelet: Arc<Kubelet>,
    runtime: Handle,
}

impl ControlPlane {
    /// Adds a node, and returns once pods can be scheduled on it.
    ///
    /// # Errors
    ///
    /// Where it cannot be registered; one of that name is there, for example.
    pub async fn join(&self, options: NodeOptions) -> Result<Node> {
        self.run(|inner| async move {
            let kubelet = Kubelet::start(inner, options).await?;
            Ok(Node { kubelet, runtime: Handle::current() })
        })
        .await
    }
}

impl Node {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.kubelet.name
    }

    /// What the names of images mean from now on.
    pub fn set_images(&self, images: Images) {
        *lock(&self.kubelet.images) = images;
    }

    /// How long pods wait before anything of them begins; those that wait already, too.
    pub fn set_start_delay(&self, delay: Duration) {
        self.kubelet.start_delay.send_replace(delay);
    }

    /// Evicts a pod, as a node does that runs low on something.
    ///
    /// # Errors
    ///
    /// Where there is no such pod here.
    pub fn evict(&self, namespace: &str, pod: &str, message: &str) -> Result<()> {
        let life = self.kubelet.find(namespace, pod)?;
        life.doom(Verdict::Evicted(message.to_owned()));
        Ok(())
    }

    /// Ends a container as the kernel ends one that takes more memory than it may. Where the
    /// memory controller (version 1) is there, a real one ends by itself, with all that runs in it.
    ///
    /// # Errors
    ///
    /// Where there is no such pod here.
    pub fn oom_kill(&self, namespace: &str, pod: &str, container: &str) -> Result<()> {
        self.kubelet.find(namespace, pod)?.run_out_of_memory(container);
        Ok(())
    }

    /// Ends all pods in good order, as a machine does that is told of its preemption.
    pub fn shut_down(&self) {
        let message = "Pod was terminated in response to imminent node shutdown.";
        for life in lock(&self.kubelet.pods).values() {
            life.doom(Verdict::ShutDown(message.to_owned()));
        }
    }

    /// The machine is no more, without a word: its processes end, its heartbeat stops. Kubernetes
    /// gives up the pods of such a node only as long as another one is ready.
    pub fn vanish(&self) {
        self.kubelet.gone.cancel();
    }

    /// As `vanish`, and the node's object is deleted, as a cloud does when it knows.
    ///
    /// # Errors
    ///
    /// Where it cannot be deleted.
    pub async fn remove(&self) -> Result<()> {
        self.vanish();
        let deleted = self.runtime.spawn(delete(Arc::clone(&self.kubelet)));
        deleted.await.expect("it does not panic")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.kubelet.gone.is_cancelled() {
            self.vanish();
            // Where it fails, the node stays there as one that is not heard of.
            drop(self.runtime.spawn(delete(Arc::clone(&self.kubelet))));
        }
    }
}

async fn delete(kubelet: Arc<Kubelet>) -> Result<()> {
    let nodes: Api<ApiNode> = Api::all(kubelet.client.clone());
    let deleted = nodes.delete(&kubelet.name, &DeleteParams::default()).await;
    deleted.map(drop).map_err(api("delete a node"))
}
