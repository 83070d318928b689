//! What `doctor` wants to know of a fleet before its first dispatch: the cluster's version, what we
//! may do there, the template, whether a dispatch would be taken, and the quotas. It returns what it
//! found; the words for people are made elsewhere.

use futures_util::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{ListParams, PostParams};

use super::cluster::answer;
use super::{Cluster, From, Order, Template, job};
use crate::contract::Error;
use crate::kubernetes::{Right, right, version_of};

/// The oldest 1.x in which each agent of a Job is on its own for certain.
pub const OLDEST_MINOR: u32 = 33;

/// Everything that a fleet does. A Role needs no more.
pub const RIGHTS: [Right; 6] = [
    right("batch", "jobs", &["create", "list"], ""),
    right("batch", "jobs", &["get"], "job"),
    right("", "podtemplates", &["get"], "pod_template"),
    right("", "pods", &["list"], ""),
    right("", "events", &["list"], ""),
    right("", "resourcequotas", &["list"], "doctor"),
];

/// The state of a cluster for one fleet.
#[derive(Clone, Debug)]
pub struct Probe {
    /// `1.36`, and its minor number.
    pub version: Result<(String, u32), Error>,
    /// What we may not do and have to: `create jobs.batch`. Or why nobody knows.
    pub missing: Result<Vec<String>, Error>,
    pub template: Result<Template, Error>,
    /// Whether the API server would take a dispatch; nothing where there is no template.
    pub trial: Option<Result<(), Error>>,
    /// None where we may not look.
    pub quotas: Vec<Quota>,
}

/// What a ResourceQuota leaves of one thing: `pods`, `requests.cpu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    pub name: String,
    pub of: String,
    pub used: String,
    pub most: String,
}

impl Cluster {
    /// Asks for everything at once, and changes nothing.
    pub async fn probe(&self, from: &From, order: &Order) -> Probe {
        let (version, missing, template, quotas) =
            tokio::join!(self.version(), self.missing(from), self.template(from), self.quotas());
        let trial = match &template {
            Ok(template) => Some(self.trial(&job(template, order)).await),
            Err(_) => None,
        };
        Probe { version, missing, template, trial, quotas }
    }

    async fn version(&self) -> Result<(String, u32), Error> {
        let info = answer(self.client.apiserver_version()).await?;
        Ok(version_of(&info.major, &info.minor))
    }

    /// Asks for each right whether we have it; anybody may ask that of himself.
    async fn missing(&self, from: &From) -> Result<Vec<String>, Error> {
        let with = match from {
            From::Job(_) => "job",
            From::PodTemplate(_) => "pod_template",
        };
        let needed = RIGHTS.iter().filter(|right| right.with.is_empty() || right.with == with);
        let each = needed.flat_map(|right| right.verbs.iter().map(move |verb| (right, *verb)));
        let mut missing = Vec::new();
        for answered in join_all(each.map(|(right, verb)| self.may(right, verb))).await {
            missing.extend(answered?);
        }
        Ok(missing)
    }

    /// The right in words, if we do not have it.
    async fn may(&self, right: &Right, verb: &str) -> Result<Option<String>, Error> {
        let attributes = ResourceAttributes {
            namespace: Some(self.namespace.clone()),
            group: Some(right.group.to_owned()),
            resource: Some(right.resource.to_owned()),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let reviewed = answer(reviews.create(&PostParams::default(), &review)).await?;
        let allowed = reviewed.status.is_some_and(|status| status.allowed);
        Ok((!allowed).then(|| right.words(verb)))
    }

    async fn quotas(&self) -> Vec<Quota> {
        let quotas: Api<ResourceQuota> = self.api();
        match answer(quotas.list(&ListParams::default())).await {
            Ok(listed) => listed.items.iter().flat_map(of_quota).collect(),
            Err(error) => {
                tracing::debug!(%error, "quotas cannot be looked at");
                Vec::new()
            }
        }
    }
}

fn of_quota(quota: &ResourceQuota) -> Vec<Quota> {
    let name = quota.metadata.name.clone().unwrap_or_default();
    let status = quota.status.clone().unwrap_or_default();
    let used = status.used.unwrap_or_default();
    // A new one has no status yet.
    let wanted = quota.spec.as_ref().and_then(|spec| spec.hard.clone());
    let hard = status.hard.or(wanted).unwrap_or_default();
    hard.into_iter()
        .map(|(of, most)| {
            let used = used.get(&of).map_or("0".to_owned(), |used| used.0.clone());
            Quota { name: name.clone(), of, used, most: most.0 }
        })
        .collect()
}
