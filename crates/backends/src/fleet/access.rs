//! The way to a cluster for a fleet: a kubeconfig's context, or what a pod is given. No call is made
//! with it here.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

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

#[derive(Clone, Debug, thiserror::Error)]
#[error("there is no way to the cluster: {0}")]
pub struct AccessError(String);

impl Access {
    /// A client and the namespace that it is for.
    pub(super) async fn client(&self) -> Result<(Client, String), AccessError> {
        let mut config = self.config().await?;
        // What is tried again, and when, is the fleet's own to decide.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| AccessError(chain(&error)))?;
        Ok((client, namespace))
    }

    async fn config(&self) -> Result<Config, AccessError> {
        let wanted = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        if let Some(path) = &self.kubeconfig {
            let unusable = |why: String| AccessError(format!("{}: {why}", path.display()));
            let read = Kubeconfig::read_from(path).map_err(|error| unusable(chain(&error)))?;
            let config = Config::from_custom_kubeconfig(read, &wanted).await;
            return config.map_err(|error| unusable(chain(&error)));
        }
        let in_pod = if self.context.is_none() { Config::incluster().ok() } else { None };
        match in_pod {
            Some(config) => Ok(config),
            None => {
                let config = Config::from_kubeconfig(&wanted).await;
                config.map_err(|error| AccessError(chain(&error)))
            }
        }
    }
}

/// The whole chain of causes: the outermost says only that something failed.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let said = cause.to_string();
        if !words.iter().any(|known| known.contains(&said)) {
            words.push(said);
        }
        next = cause.source();
    }
    words.join(": ")
}
