//! The calls of a fleet to the API server, and what their outcomes mean. Lists are asked of the
//! store and not of a cache, so that what was made before a list began is in it.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::timeout;

use super::{Access, AccessError, DISPATCH, Dispatched, FLEET, From, MARK, Template, dispatched};
use crate::contract::{Class, Error};
use crate::kubernetes::{chain, class_of, pause};

/// An API server that accepts and does not answer must not hold a round up for longer.
const CALL: Duration = Duration::from_secs(10);
/// Of a dispatch in trouble so many pods and events are looked at.
const LOOKED_AT: u32 = 100;

/// The namespace of a fleet.
#[derive(Clone)]
pub struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
    address: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Makes no call.
    ///
    /// # Errors
    /// Where no file says how to reach it, or one that does cannot be used.
    pub async fn new(access: &Access) -> Result<Self, AccessError> {
        let found = access.cluster().await?;
        Ok(Self { client: found.client, namespace: found.namespace, address: found.address })
    }

    /// For people.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// All dispatches of a fleet. What cannot be read is an error: a listing without it would lie.
    ///
    /// # Errors
    /// As their classes say.
    pub async fn dispatches(&self, mark: &str, fleet: &str) -> Result<Vec<Dispatched>, Error> {
        let jobs: Api<Job> = self.api();
        let wanted = ListParams::default().labels(&format!("{MARK}={mark},{FLEET}={fleet}"));
        let listed = answer(jobs.list(&wanted)).await?;
        let read = listed.items.iter().map(dispatched);
        read.collect::<Result<_, _>>().map_err(|words| Error::new(Class::Rejected, words))
    }

    /// Why the pods of a dispatch do not come.
    ///
    /// # Errors
    /// As their classes say.
    pub async fn trouble(&self, of: &Dispatched) -> Result<Option<String>, Error> {
        let pods: Api<Pod> = self.api();
        let wanted = ListParams::default()
            .labels(&format!("{DISPATCH}={}", of.dispatch_id))
            .limit(LOOKED_AT);
        let pods = answer(pods.list(&wanted)).await?;
        let events: Api<Event> = self.api();
        let about =
            format!("involvedObject.kind=Job,involvedObject.name={},reason=FailedCreate", of.name);
        let wanted = ListParams::default().fields(&about).limit(LOOKED_AT);
        // Events are worth a word, and no reason to say nothing of the pods.
        let refusals = match answer(events.list(&wanted)).await {
            Ok(events) => events.items,
            Err(error) => {
                tracing::debug!(%error, name = of.name, "the events of a dispatch cannot be read");
                Vec::new()
            }
        };
        Ok(super::trouble(&pods.items, &refusals, of.suspended))
    }

    /// The template as it is now.
    ///
    /// # Errors
    /// Where it is not there, or cannot be copied.
    pub async fn template(&self, from: &From) -> Result<Template, Error> {
        let (group, kind, name) = match from {
            From::Job(name) => ("batch", "Job", name),
            From::PodTemplate(name) => ("", "PodTemplate", name),
        };
        let named = |mut error: Error| {
            error.words = format!("the template {kind} {name}: {}", error.words);
            error
        };
        let objects = self.objects(group, kind);
        let object = answer(objects.get(name)).await.map_err(named)?;
        let value = serde_json::to_value(&object)
            .map_err(|error| named(Error::new(Class::Rejected, error.to_string())))?;
        let template = match from {
            From::Job(_) => Template::from_job(&value),
            From::PodTemplate(_) => Template::from_pod_template(&value),
        };
        template.map_err(|error| named(Error::new(Class::Rejected, error.to_string())))
    }

    /// Makes a dispatch. A name that is taken is ours, since an id is in it: it was made before.
    ///
    /// # Errors
    /// As their classes say; only an ambiguous one may have made it.
    pub async fn create(&self, job: &Value) -> Result<(), Error> {
        match self.send(job, false).await {
            Ok(()) => Ok(()),
            Err(error) if error.fields.get("reason").is_some_and(|of| of == "AlreadyExists") => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// A create that is checked like any other and not carried out.
    ///
    /// # Errors
    /// As their classes say.
    pub(super) async fn trial(&self, job: &Value) -> Result<(), Error> {
        self.send(job, true).await
    }

    async fn send(&self, job: &Value, dry_run: bool) -> Result<(), Error> {
        let read = |error: serde_json::Error| Error::new(Class::Rejected, error.to_string());
        let object: DynamicObject = serde_json::from_value(job.clone()).map_err(read)?;
        let jobs = self.objects("batch", "Job");
        let parameters = PostParams { field_manager: Some("jitney".to_owned()), dry_run };
        answer(jobs.create(&parameters, &object)).await.map(drop)
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects as they are, with fields that we do not know.
    fn objects(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }
}

pub(super) async fn answer<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(refused(&status)),
        Ok(Err(error)) => {
            let words = format!("the API server cannot be reached: {}", chain(&error));
            Err(Error::new(Class::Ambiguous, words))
        }
        Err(_) => {
            let words = format!("the API server does not answer within {} s", CALL.as_secs());
            Err(Error::new(Class::Ambiguous, words))
        }
    }
}

fn refused(status: &kube::core::Status) -> Error {
    let class = class_of(status.code, &status.message);
    let mut error = Error::new(class, status.message.clone());
    error.fields.insert("reason".to_owned(), status.reason.clone());
    let named = status.details.as_ref().map(|details| u64::from(details.retry_after_seconds));
    error.retry_after = pause(class, named);
    error
}
