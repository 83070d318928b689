//! Waiting until nothing is left in a namespace, told by watches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{ControlPlane, lock};
use crate::{Error, Result};

/// The names that are left, by kind.
type Left = Mutex<BTreeMap<String, BTreeSet<String>>>;

impl ControlPlane {
    /// Returns once no Job, no pod and no Secret is left in a namespace.
    ///
    /// # Errors
    ///
    /// Where there still is one when the time is over; it is named.
    pub async fn until_empty(&self, namespace: &str, patience: Duration) -> Result<()> {
        let client = self.client().await?;
        let left = Left::default();
        let all = async {
            tokio::join!(
                empty::<Job>(&client, namespace, &left),
                empty::<Pod>(&client, namespace, &left),
                empty::<Secret>(&client, namespace, &left),
            )
        };
        timeout(patience, all).await.map(drop).map_err(|_| {
            let left = lock(&left);
            let of_kind = |(kind, names): (&String, &BTreeSet<String>)| {
                names.iter().map(|name| format!("{kind} {name}")).collect::<Vec<_>>()
            };
            let left: Vec<String> = left.iter().flat_map(of_kind).collect();
            Error::Left { left: left.join(", "), seconds: patience.as_secs() }
        })
    }
}

/// Watches one kind until none of it is there.
async fn empty<K>(client: &Client, namespace: &str, left: &Left)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let kind = K::kind(&()).into_owned();
    let mut listed = false;
    while let Some(event) = events.next().await {
        let mut left = lock(left);
        let names = left.entry(kind.clone()).or_default();
        match event {
            Ok(Event::Init) => (listed, *names) = (false, BTreeSet::new()),
            Ok(Event::InitDone) => listed = true,
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                names.insert(object.name_any());
            }
            Ok(Event::Delete(object)) => {
                names.remove(&object.name_any());
            }
            // The watcher goes on by itself, after a pause.
            Err(_) => {}
        }
        if listed && names.is_empty() {
            return;
        }
    }
}
