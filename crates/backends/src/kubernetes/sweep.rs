//! Secrets whose Jobs have left them. They go with their Jobs by themselves, unless somebody deletes
//! a Job and makes orphans of what it owned: then nobody but us knows whose they are. One that an
//! orphaned pod is still to read belongs to that pod from then on, as others may go with their last
//! Job; one that nobody is to read goes.
//!
//! Only what is said about Secrets is read here, and none is deleted by us: each is given an owner
//! that is not there, and the cluster's garbage collector removes it, as it does without us.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use super::cache::{Cache, Orphan};
use super::call::{Api, Ask, Kind, METADATA_LIST, Refused, STRATEGIC_PATCH, decode};
use super::stamp;
use super::watch::escaped;
use crate::contract::Error;

/// How often to look although nobody seems to have made an orphan: it may have been while we were
/// away.
const EVERY: Duration = Duration::from_secs(600);
/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(30);
const PAGE: u32 = 500;

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    more: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Secret,
}

/// What is said about a Secret. Its values are not asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    name: String,
    uid: Uuid,
    resource_version: String,
    #[serde(default)]
    owner_references: Vec<Owner>,
}

#[derive(Debug, Deserialize)]
struct Owner {
    uid: Uuid,
}

/// Sweeps for ever: at first, when a machine has left an orphan, and now and then.
pub(super) async fn sweep(api: Api, cache: Arc<Cache>, mark: String) {
    let mut orphans = cache.orphans();
    loop {
        orphans.mark_unchanged();
        let pause = match once(&api, &cache, &mark).await {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::debug!(%error, "failed to look for Secrets that nobody owns");
                AGAIN
            }
        };
        // Whether it was in time or not, the next look is due.
        drop(timeout(pause, orphans.changed()).await);
    }
}

async fn once(api: &Api, cache: &Cache, mark: &str) -> Result<(), Error> {
    let found = list(api, mark).await?;
    if found.is_empty() {
        return Ok(());
    }
    // Looked at after the Secrets: whoever may read one of them is known by now.
    let readers = cache.readers().await;
    for (secret, pod) in found.iter().flat_map(|secret| left_to(secret, &readers.orphans)) {
        leave_to_the_pod(api, secret, pod).await.map_err(|refused| refused.error)?;
        let (secret, pod) = (&secret.name, &pod.name);
        tracing::info!(secret, %pod, "a pod that lost its Job keeps its Secret");
    }
    let unowned = found.iter().filter(|secret| secret.owner_references.is_empty());
    for secret in unowned.filter(|secret| !readers.secrets.contains(&*secret.name)) {
        leave_to_the_collector(api, secret).await.map_err(|refused| refused.error)?;
        tracing::info!(secret = secret.name, "removed a Secret that no Job owns");
    }
    Ok(())
}

/// The orphans that are to read it, and with which it does not go yet.
fn left_to<'a>(
    secret: &'a Secret,
    orphans: &'a [Orphan],
) -> impl Iterator<Item = (&'a Secret, &'a Orphan)> {
    let owns = |pod: &&Orphan| secret.owner_references.iter().any(|owner| owner.uid == pod.uid);
    let readers = orphans.iter().filter(|pod| *pod.secret == *secret.name);
    readers.filter(move |pod| !owns(pod)).map(move |pod| (secret, pod))
}

async fn list(api: &Api, mark: &str) -> Result<Vec<Secret>, Error> {
    let mut all = Vec::new();
    let mut more = String::new();
    loop {
        let path = format!(
            "{}?limit={PAGE}&labelSelector={}%3D{mark}{more}",
            api.path(Kind::Secrets, None),
            escaped(stamp::MARK)
        );
        let accept = METADATA_LIST;
        let ask = Ask { verb: "list", method: Method::GET, path, body: None, accept };
        let body = api.send(ask).await.map_err(|refused| refused.error)?;
        let page: Page = decode(&body)?;
        all.extend(page.items.into_iter().map(|item| item.metadata));
        match page.metadata.more.filter(|more| !more.is_empty()) {
            Some(next) => more = format!("&continue={}", escaped(&next)),
            None => return Ok(all),
        }
    }
}

/// Whatever else owns it: it goes with the last of them.
async fn leave_to_the_pod(api: &Api, secret: &Secret, pod: &Orphan) -> Result<(), Refused> {
    let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": &*pod.name, "uid": pod.uid });
    let patch = json!({ "metadata": { "ownerReferences": [owner] } });
    owned(api, secret, &patch).await
}

/// Unless it has changed: a Job may be its owner by now.
async fn leave_to_the_collector(api: &Api, secret: &Secret) -> Result<(), Refused> {
    // The id of nothing, and another one for each.
    let nobody = Uuid::from_u128(!secret.uid.as_u128());
    let owner =
        json!({ "apiVersion": "batch/v1", "kind": "Job", "name": secret.name, "uid": nobody });
    let patch = json!({ "metadata": {
        "resourceVersion": secret.resource_version,
        "ownerReferences": [owner],
    } });
    owned(api, secret, &patch).await
}

async fn owned(api: &Api, secret: &Secret, patch: &Value) -> Result<(), Refused> {
    match api.patch(Kind::Secrets, &secret.name, patch, STRATEGIC_PATCH).await {
        Err(refused) if !refused.is_gone() => Err(refused),
        Ok(_) | Err(_) => Ok(()),
    }
}
