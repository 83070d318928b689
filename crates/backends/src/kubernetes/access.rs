//! The way to a cluster: a kubeconfig's context, or what a pod is given. No call is made with it
//! here.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::call::chain;

const CONNECT: Duration = Duration::from_secs(5);

/// Where the cluster is and who we are to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// None: what a pod is given where we are one, then the usual files.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    /// None: the context's own.
    pub namespace: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("{path} cannot be used: {why}")]
    File { path: String, why: String },
    #[error("there is no way to a cluster: {0}; name a kubeconfig, or run in a pod")]
    None(String),
    #[error("no client could be made: {0}")]
    Client(String),
}

/// A cluster that can be reached, as far as is known without trying.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) client: Client,
    /// Where Jobs are made, unless it is said otherwise.
    pub namespace: String,
    /// For people.
    pub address: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("address", &self.address)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Reads the files that say how.
    ///
    /// # Errors
    /// Where there are none, or they cannot be used.
    pub async fn cluster(&self) -> Result<Cluster, AccessError> {
        // The binary installs its own first; a library that only tests this backend has none yet.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race against another thread that installs one is as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let mut config = self.config().await?;
        // Our own classes say what is tried again, and when.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let address = config.cluster_url.to_string();
        let client =
            Client::try_from(config).map_err(|error| AccessError::Client(chain(&error)))?;
        Ok(Cluster { client, namespace, address })
    }

    async fn config(&self) -> Result<Config, AccessError> {
        let wanted = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        if let Some(path) = &self.kubeconfig {
            let unusable = |error: &dyn std::error::Error| AccessError::File {
                path: path.display().to_string(),
                why: chain(error),
            };
            let read = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
            let config = Config::from_custom_kubeconfig(read, &wanted).await;
            return config.map_err(|error| unusable(&error));
        }
        if self.context.is_none()
            && let Ok(config) = Config::incluster()
        {
            return Ok(config);
        }
        let config = Config::from_kubeconfig(&wanted).await;
        config.map_err(|error| AccessError::None(chain(&error)))
    }
}
