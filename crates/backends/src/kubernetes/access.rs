//! The way to a cluster: a kubeconfig's context, or what a pod is given. No call is made with it
//! here.

use std::path::PathBuf;
use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use super::AT_ONCE;
use super::call::chain;

const CONNECT: Duration = Duration::from_secs(5);
/// What a connection reads at a time, and has room for as long as it is kept: one record of TLS. The
/// headers of an answer are at most as long.
const READ_BYTES: usize = 16 << 10;

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
    #[error(
        "a proxy is to be gone through ({0}), and that way is not built: take proxy-url out of the kubeconfig or HTTPS_PROXY out of Jitney's environment (NO_PROXY is not looked at), or run in the cluster"
    )]
    Proxy(String),
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
        if let Some(proxy) = &config.proxy_url {
            // Without what else may stand in it: a name and a password.
            return Err(AccessError::Proxy(proxy.host().unwrap_or_default().to_owned()));
        }
        let client = client(&config).map_err(|error| AccessError::Client(chain(&error)))?;
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

/// As `kube` makes one, but for what its connections keep. A call that finds none free opens another,
/// and often has a free one before that is open: a burst would leave twice as many as it used, each
/// with room for the largest answer that it ever read.
fn client(config: &Config) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let mut connector = TimeoutConnector::new(tls);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(AT_ONCE)
        .http1_read_buf_exact_size(READ_BYTES)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use http::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    use super::*;

    const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

    /// Answers each request of a connection when it may, until the other side is gone.
    async fn serve(mut stream: TcpStream, mut open: watch::Receiver<bool>) {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            open.wait_for(|open| *open).await.expect("the test goes on");
            if stream.write_all(REPLY).await.is_err() {
                return;
            }
        }
    }

    #[tokio::test]
    async fn a_burst_leaves_some_connections_and_not_more_than_are_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (gate, open) = watch::channel(false);
        let count = watch::Sender::new(0_usize);
        let alive = count.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                alive.send_modify(|count| *count += 1);
                let (alive, open) = (alive.clone(), open.clone());
                tokio::spawn(async move {
                    serve(stream, open).await;
                    alive.send_modify(|count| *count -= 1);
                });
            }
        });
        let mut config = Config::new(address.parse().expect("an address"));
        // Whom the host trusts does not matter here.
        config.root_cert = Some(Vec::new());
        let client = client(&config).expect("a client");
        let all = (0..3 * AT_ONCE).map(async |_| {
            let request = Request::get("/x").body(Vec::new()).expect("a request");
            client.request_text(request).await.expect("an answer");
        });
        let (mut connected, mut seen) = (count.subscribe(), count.subscribe());
        let begun = async {
            connected.wait_for(|count| *count == 3 * AT_ONCE).await.expect("the server is there");
            gate.send_replace(true);
        };
        let burst = async {
            tokio::join!(join_all(all), begun);
            seen.wait_for(|count| (1..=AT_ONCE).contains(count))
                .await
                .expect("the server is there");
        };
        tokio::time::timeout(Duration::from_secs(20), burst).await.expect("the rest is let go of");
    }

    #[tokio::test]
    async fn a_proxy_is_refused_with_a_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kubeconfig");
        let text = "clusters: [{name: c, cluster: {server: 'https://c.example', proxy-url: 'http://me:secret@p.example:3128'}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: x
";
        std::fs::write(&path, text).expect("written");
        let access = Access { kubeconfig: Some(path), ..Access::default() };
        let error = access.cluster().await.expect_err("there is a proxy").to_string();
        assert!(error.contains("(p.example)") && error.contains("proxy-url"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
