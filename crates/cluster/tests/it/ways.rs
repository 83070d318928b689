//! What all tests here do: make a pod, and wait until something holds of it.

use std::future;
use std::pin::pin;
use std::time::Duration;

use cluster::{ControlPlane, Node, NodeOptions};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, PodStatus};
use kube::api::PostParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::wait::await_condition;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

/// More than anything takes here.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A namespace, and a node that only its pods go to.
pub(crate) struct Ground {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) node: Node,
}

impl Ground {
    /// `None` where there is no control plane to be had, which has been said then.
    pub(crate) async fn new(name: &str) -> Option<Self> {
        Self::with(name, |options| options).await
    }

    pub(crate) async fn with(
        name: &str,
        change: impl FnOnce(NodeOptions) -> NodeOptions,
    ) -> Option<Self> {
        let plane = ControlPlane::shared().await?;
        let namespace = plane.fresh_namespace(name).await.expect("a namespace");
        let mut options = NodeOptions::named(&namespace);
        options.labels.insert("ground".to_owned(), namespace.clone());
        let node = plane.join(change(options)).await.expect("a node");
        let client = plane.client().await.expect("a client");
        Some(Self { plane, client, namespace, node })
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let object = serde_json::from_value(object).expect("an object of that kind");
        self.api::<K>().create(&PostParams::default(), &object).await.expect("it is created")
    }

    /// What a pod's specification needs beside what is of interest.
    pub(crate) fn spec(&self, spec: Value) -> Value {
        let mut whole = json!({
            "restartPolicy": "Never",
            "nodeSelector": { "ground": self.namespace },
        });
        let given = spec.as_object().expect("a specification").clone();
        whole.as_object_mut().expect("an object").extend(given);
        whole
    }

    pub(crate) async fn pod(&self, name: &str, spec: Value) -> Pod {
        self.create(json!({ "metadata": { "name": name }, "spec": self.spec(spec) })).await
    }

    /// A pod with one container `main`, which runs this in a shell.
    pub(crate) async fn shell(&self, name: &str, script: &str) -> Pod {
        self.pod(name, json!({ "containers": [container(script)] })).await
    }

    /// The pod's status once it is as wanted.
    #[track_caller]
    pub(crate) fn until(
        &self,
        pod: &str,
        wanted: impl Fn(&PodStatus) -> bool + Send + 'static,
    ) -> impl Future<Output = PodStatus> {
        let caller = std::panic::Location::caller();
        let (api, pod) = (self.api::<Pod>(), pod.to_owned());
        async move {
            let condition = move |pod: Option<&Pod>| {
                pod.and_then(|pod| pod.status.as_ref()).is_some_and(&wanted)
            };
            let waited = timeout(LONG, await_condition(api.clone(), &pod, condition)).await;
            let Ok(found) = waited else {
                let now = api.get_opt(&pod).await;
                panic!("{caller}: pod {pod} has not come to what is waited for: {now:#?}");
            };
            let found = found.expect("the watch goes on").expect("it is there");
            found.status.expect("it has been asked for")
        }
    }

    #[track_caller]
    pub(crate) fn until_phase(
        &self,
        pod: &str,
        phase: &'static str,
    ) -> impl Future<Output = PodStatus> {
        self.until(pod, move |status| status.phase.as_deref() == Some(phase))
    }

    #[track_caller]
    pub(crate) fn until_waits(
        &self,
        pod: &str,
        reason: &'static str,
    ) -> impl Future<Output = String> {
        let status =
            self.until(pod, move |status| waiting(status).is_some_and(|(it, _)| it == reason));
        async move { waiting(&status.await).expect("it waits").1 }
    }

    /// Waits until its first container waits with just these words.
    #[track_caller]
    pub(crate) fn until_words(&self, pod: &str, words: String) -> impl Future<Output = PodStatus> {
        self.until(pod, move |status| waiting(status).is_some_and(|(_, it)| it == words))
    }

    /// Waits until the pod is no more.
    pub(crate) async fn until_gone(&self, pod: &str) {
        let gone = await_condition(self.api::<Pod>(), pod, |pod: Option<&Pod>| pod.is_none());
        timeout(LONG, gone).await.expect("it goes").expect("the watch goes on");
    }

    /// Waits for an event about a pod whose message begins so.
    pub(crate) async fn event(&self, pod: &str, reason: &str, words: &str) {
        let about = format!("involvedObject.name={pod},reason={reason}");
        let about = watcher::Config::default().fields(&about);
        let events = watcher(self.api::<Event>(), about).applied_objects();
        let begins = |event: Event| event.message.is_some_and(|it| it.starts_with(words));
        let mut told = pin!(events.map_ok(begins).try_filter(|it| future::ready(*it)));
        let found = timeout(LONG, told.next()).await;
        let found = found.unwrap_or_else(|_| panic!("no event {reason} about {pod}"));
        assert!(found.is_some_and(|it| it.is_ok()), "the watch goes on");
    }
}

pub(crate) fn container(script: &str) -> Value {
    json!({ "name": "main", "image": "any", "command": ["sh", "-c", script] })
}

fn first(status: &PodStatus) -> Option<&ContainerStatus> {
    status.container_statuses.as_ref()?.first()
}

/// Reason and message of its first container's waiting.
fn waiting(status: &PodStatus) -> Option<(String, String)> {
    let waiting = first(status)?.state.as_ref()?.waiting.clone()?;
    Some((waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default()))
}

/// Exit code, reason and message of its first container's end.
pub(crate) fn end(status: &PodStatus) -> (i32, String, String) {
    let state = first(status).and_then(|it| it.state.as_ref());
    let end = state.and_then(|state| state.terminated.clone()).expect("it has ended");
    (end.exit_code, end.reason.unwrap_or_default(), end.message.unwrap_or_default())
}

/// Status and reason of a condition.
pub(crate) fn condition<'a>(status: &'a PodStatus, type_: &str) -> (&'a str, &'a str) {
    let conditions = status.conditions.iter().flatten();
    let found = conditions.into_iter().find(|it| it.type_ == type_);
    found.map_or(("absent", ""), |it| (&*it.status, it.reason.as_deref().unwrap_or_default()))
}
