//! Who may do what: kubeconfigs, clients, namespaces, ServiceAccounts.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::Ordering;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ControlPlane, Inner};
use crate::Result;
use crate::error::{api, io};

/// Those with a kubeconfig in the folder. They are named apart so that the audit log tells them
/// apart, and may all do everything: what Kubernetes' own parts may do is nobody's question here.
const USERS: [&str; 4] = ["admin", "controllers", "scheduler", "kubelet"];

/// A client for a kubeconfig, in the caller's runtime. No proxy is used: everything is local.
///
/// # Errors
///
/// Where the file cannot be read or used.
pub async fn connect(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig).map_err(api("read a kubeconfig"))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(read, &options).await;
    let mut config = config.map_err(api("use a kubeconfig"))?;
    config.proxy_url = None;
    Client::try_from(config).map_err(api("make a client"))
}

impl ControlPlane {
    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.inner.kubeconfig("admin")
    }

    /// The certificate of the API server's authority, as PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.inner.folder.join("ca.crt")
    }

    #[must_use]
    pub fn url(&self) -> String {
        self.inner.url()
    }

    /// A client for the administrator, in the caller's runtime.
    ///
    /// # Errors
    ///
    /// Where none can be made.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.kubeconfig()).await
    }

    /// What the real kubectl says, as the administrator.
    ///
    /// # Errors
    ///
    /// Where it cannot be run; that it fails is in the output.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        tokio::process::Command::new(&self.inner.parts.kubectl)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments)
            .output()
            .await
            .map_err(io("run kubectl"))
    }

    /// A namespace that nobody else has, whose default ServiceAccount is there already.
    ///
    /// # Errors
    ///
    /// Where it cannot be made.
    pub async fn fresh_namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{}", self.inner.names.fetch_add(1, Ordering::Relaxed));
        let made = name.clone();
        self.run(|inner| async move {
            let namespaces: Api<Namespace> = Api::all(inner.client("admin").await?);
            create(&namespaces, json!({ "metadata": { "name": made } })).await?;
            inner.default_account(&made).await
        })
        .await?;
        Ok(name)
    }

    /// The kubeconfig of a new ServiceAccount that may do, in its namespace, just what the rules
    /// say.
    ///
    /// # Errors
    ///
    /// Where it, its Role or its token cannot be made.
    pub async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        rules: Vec<PolicyRule>,
    ) -> Result<PathBuf> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.run(|inner| async move {
            let client = inner.client("admin").await?;
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
            let roles: Api<Role> = Api::namespaced(client.clone(), &namespace);
            let bindings: Api<RoleBinding> = Api::namespaced(client, &namespace);
            let metadata = json!({ "name": name });
            create(&accounts, json!({ "metadata": metadata })).await?;
            create(&roles, json!({ "metadata": metadata, "rules": rules })).await?;
            let subject = json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace });
            let role =
                json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
            let binding = json!({ "metadata": metadata, "roleRef": role, "subjects": [subject] });
            create(&bindings, binding).await?;
            let request = TokenRequest::default();
            let params = PostParams::default();
            let answer = accounts.create_token_request(&name, &params, &request).await;
            let answer = answer.map_err(api("get a token"))?;
            let token = answer.status.map(|status| status.token).unwrap_or_default();
            inner.write_kubeconfig(&format!("{namespace}.{name}"), &token, &namespace)
        })
        .await
    }
}

impl Inner {
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// A client in the runtime of the plane.
    pub(crate) async fn client(&self, user: &str) -> Result<Client> {
        connect(&self.kubeconfig(user)).await
    }

    /// The tokens that the API server takes, and a kubeconfig for each.
    pub(super) fn write_access(&self) -> Result<()> {
        let mut tokens = String::new();
        for user in USERS {
            let token = format!("{user}-{}", self.token);
            tokens.push_str(&format!("{token},{user},{user},system:masters\n"));
            self.write_kubeconfig(user, &token, "default")?;
        }
        self.write("tokens.csv", &tokens).map(drop)
    }

    fn write_kubeconfig(&self, user: &str, token: &str, namespace: &str) -> Result<PathBuf> {
        let cluster = json!({ "server": self.url(), "certificate-authority": self.file("ca.crt") });
        let context = json!({ "cluster": "local", "user": user, "namespace": namespace });
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "local", "cluster": cluster }],
            "users": [{ "name": user, "user": { "token": token } }],
            "contexts": [{ "name": "local", "context": context }],
            "current-context": "local",
        });
        self.write(&format!("{user}.kubeconfig"), &text.to_string())
    }

    /// Waits for what the controllers put into a new namespace. Without it no pod is admitted.
    pub(super) async fn default_account(&self, namespace: &str) -> Result<()> {
        let client = self.client("admin").await?;
        let accounts: &Api<ServiceAccount> = &Api::namespaced(client, namespace);
        self.until("the default ServiceAccount", || async move {
            let found = accounts.get_opt("default").await;
            found.map(|found| found.is_some()).map_err(api("look for a ServiceAccount"))
        })
        .await
    }
}

/// Makes an object that is told in JSON.
pub(crate) async fn create<K>(objects: &Api<K>, object: Value) -> Result<K>
where
    K: k8s_openapi::Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let object = serde_json::from_value(object).map_err(api("form an object"))?;
    let created = objects.create(&PostParams::default(), &object).await;
    created.map_err(api(format!("create a {}", K::KIND)))
}
