//! What a pod refers to: keys of Secrets and ConfigMaps, its own fields, volumes' claims, tokens.
//! What is absent is told in a kubelet's words.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, ObjectFieldSelector, PersistentVolume, PersistentVolumeClaim, Pod,
    ResourceFieldSelector, Secret, ServiceAccount, ServiceAccountTokenProjection,
};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use super::quantity;
use super::status::ADDRESS;

pub(super) type Content = BTreeMap<String, Vec<u8>>;

/// Why something is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// Kubernetes has it not, in the words of a kubelet.
    Missing(String),
    /// The API server does not say.
    Unknown(String),
}

pub(super) type Found<T> = Result<T, Absent>;

/// Looks things up for one pod.
pub(super) struct Lookup<'a> {
    pub(super) client: &'a Client,
    pub(super) pod: &'a Pod,
    pub(super) node: &'a str,
}

impl Lookup<'_> {
    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace())
    }

    /// All keys of a Secret; none where it is absent and may be.
    pub(super) async fn secret(&self, name: &str, optional: bool) -> Found<Content> {
        let found = self.api::<Secret>().get_opt(name).await.map_err(unknown)?;
        let content = found.map(|secret| {
            let entries = secret.data.unwrap_or_default().into_iter();
            entries.map(|(key, value)| (key, value.0)).collect()
        });
        present(content, optional, || format!("secret \"{name}\" not found"))
    }

    /// All keys of a ConfigMap; none where it is absent and may be.
    pub(super) async fn config_map(&self, name: &str, optional: bool) -> Found<Content> {
        let found = self.api::<ConfigMap>().get_opt(name).await.map_err(unknown)?;
        let content = found.map(|map| {
            let texts = map.data.unwrap_or_default().into_iter();
            let texts = texts.map(|(key, value)| (key, value.into_bytes()));
            let bytes = map.binary_data.unwrap_or_default().into_iter();
            texts.chain(bytes.map(|(key, value)| (key, value.0))).collect()
        });
        present(content, optional, || format!("configmap \"{name}\" not found"))
    }

    /// Where a claim's volume is on this computer.
    pub(super) async fn claim(&self, name: &str) -> Found<PathBuf> {
        let claims: Api<PersistentVolumeClaim> = self.api();
        let missing = || Absent::Missing(format!("persistentvolumeclaim \"{name}\" not found"));
        let claim = claims.get_opt(name).await.map_err(unknown)?.ok_or_else(missing)?;
        let volume = claim.spec.and_then(|spec| spec.volume_name);
        let volume = volume.ok_or_else(|| Absent::Missing(format!("claim {name} is unbound")))?;
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let spec = volumes.get(&volume).await.map_err(unknown)?.spec.unwrap_or_default();
        let path = spec.host_path.map(|host| host.path).or(spec.local.map(|local| local.path));
        path.map(PathBuf::from)
            .ok_or_else(|| Absent::Missing(format!("volume {volume} is not on this node")))
    }

    /// A token of the pod's ServiceAccount.
    pub(super) async fn token(&self, wanted: &ServiceAccountTokenProjection) -> Found<Vec<u8>> {
        let account = self.pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let spec = TokenRequestSpec {
            audiences: wanted.audience.clone().into_iter().collect(),
            expiration_seconds: wanted.expiration_seconds,
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = self.api();
        let params = PostParams::default();
        let answer = accounts.create_token_request(&account, &params, &request).await;
        let status = answer.map_err(unknown)?.status;
        Ok(status.map(|status| status.token.into_bytes()).unwrap_or_default())
    }

    /// One of the pod's own fields.
    pub(super) fn field(&self, selector: &ObjectFieldSelector) -> Found<String> {
        let path = selector.field_path.as_str();
        let spec = self.pod.spec.as_ref();
        let lines = |map: &BTreeMap<String, String>| {
            let lines = map.iter().map(|(key, value)| format!("{key}={value:?}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        let keyed = |prefix: &str, map: &BTreeMap<String, String>| {
            let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
            Some(map.get(key).cloned().unwrap_or_default())
        };
        let value = match path {
            "metadata.name" => Some(self.pod.name_any()),
            "metadata.namespace" => Some(self.namespace()),
            "metadata.uid" => self.pod.uid(),
            "metadata.labels" => Some(lines(self.pod.labels())),
            "metadata.annotations" => Some(lines(self.pod.annotations())),
            "spec.nodeName" => Some(self.node.to_owned()),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
            "status.hostIP" | "status.podIP" | "status.hostIPs" | "status.podIPs" => {
                Some(ADDRESS.to_owned())
            }
            _ => keyed("metadata.labels", self.pod.labels())
                .or_else(|| keyed("metadata.annotations", self.pod.annotations())),
        };
        value.ok_or_else(|| Absent::Missing(format!("unsupported fieldPath: {path}")))
    }

    /// What a container asks for or may use.
    pub(super) fn resource(
        &self,
        wanted: &ResourceFieldSelector,
        of: Option<&Container>,
    ) -> Found<String> {
        let containers = self.pod.spec.as_ref().map(|spec| &spec.containers[..]);
        let named = wanted.container_name.as_deref();
        let container = of.filter(|_| named.is_none()).or_else(|| {
            containers.unwrap_or_default().iter().find(|it| named == Some(it.name.as_str()))
        });
        let resources = container.and_then(|container| container.resources.as_ref());
        let value = resources.and_then(|resources| {
            let (kind, name) = wanted.resource.split_once('.')?;
            let map = if kind == "limits" { &resources.limits } else { &resources.requests };
            let quantity = map.as_ref()?.get(name)?;
            quantity::units(quantity, wanted.divisor.as_ref())
        });
        Ok(value.unwrap_or_default().to_string())
    }
}

fn present(
    found: Option<Content>,
    optional: bool,
    words: impl FnOnce() -> String,
) -> Found<Content> {
    match found {
        Some(content) => Ok(content),
        None if optional => Ok(Content::new()),
        None => Err(Absent::Missing(words())),
    }
}

fn unknown(error: kube::Error) -> Absent {
    Absent::Unknown(error.to_string())
}
