//! The client: one connection pool, one token, one endpoint. Calls that belong to no stack are
//! here; those of a stack are in `stack`. It installs nothing in the process by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, Method, Url};

use crate::error::{ConfigError, Error, Remedy};
use crate::exchange::{Call, Reply, number, seconds, segment};
use crate::limit::Limit;
use crate::limiter::{MOST_IN_FLIGHT, Windows};
use crate::proxies::Proxies;
use crate::stack::StackClient;
use crate::token::{Scheme, Token, TokenSource};
use crate::wire::{QueueMetrics, RegisterStack, Scope, Stack, TokenIdentity};

/// How a client reaches Buildkite.
#[derive(Clone, Debug)]
pub struct Options {
    /// `https://agent.buildkite.com/v3`, or a sandbox by `http://`. For the REST API
    /// `https://api.buildkite.com/v2`.
    pub endpoint: String,
    pub token: TokenSource,
    pub user_agent: String,
    /// A PEM file of authorities that are trusted beside the system's, as `SSL_CERT_FILE` names
    /// one. (The system's own store already yields to that variable.)
    pub extra_ca: Option<PathBuf>,
    pub proxies: Proxies,
    pub timeouts: Timeouts,
}

impl Options {
    /// With the default timeouts, no proxy and no further authority.
    pub fn new(endpoint: impl Into<String>, token: TokenSource) -> Self {
        Self {
            endpoint: endpoint.into(),
            token,
            user_agent: concat!("buildkite-rs/", env!("CARGO_PKG_VERSION")).to_owned(),
            extra_ca: None,
            proxies: Proxies::none(),
            timeouts: Timeouts::default(),
        }
    }
}

/// How long to wait for the network. The time that a call waits for its turn is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name, TCP, proxy and TLS together; less than `request`, since running out of it proves
    /// that nothing was sent.
    pub connect: Duration,
    /// From the sending to the last byte of the reply.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), request: Duration::from_secs(30) }
    }
}

/// Idle connections are closed before a server or balancer (often after 60 s) closes them under
/// a request.
const IDLE: Duration = Duration::from_secs(45);
/// Makes rustls use ring, once per process. Does nothing when a provider is installed already.
pub fn install_crypto_provider() {
    // An error says that somebody was faster, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Cheap to clone; all clones share connections, token and rate limits.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    /// Without a slash at the end.
    endpoint: String,
    token: Arc<Token>,
    windows: Mutex<BTreeMap<String, Arc<Windows>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.0.endpoint).finish_non_exhaustive()
    }
}

/// The reply to `GET /token` with what else it shows of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub identity: TokenIdentity,
    /// The reply's `Date`, to the second: for a check of our clock.
    pub server_time: Option<Timestamp>,
    /// From the sending to the reply's head.
    pub round_trip: Duration,
}

/// The reply to `GET /metrics/queue`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueCounts {
    pub metrics: QueueMetrics,
    /// Do not ask again sooner (`Buildkite-Agent-Metrics-Poll-Duration`).
    pub poll_after: Option<Duration>,
}

impl Client {
    /// A client for one endpoint and token. Nothing is sent yet, but a token file and a
    /// certificate file are read, so that what is wrong with them is known at once.
    ///
    /// # Errors
    /// Each names the option and the reason.
    pub fn new(options: Options) -> Result<Self, ConfigError> {
        Self::with_scheme(options, Scheme::Token)
    }

    pub(crate) fn with_scheme(options: Options, scheme: Scheme) -> Result<Self, ConfigError> {
        let endpoint = parse_endpoint(&options.endpoint)?;
        let http = build_http(&endpoint, &options)?;
        let token = Arc::new(Token::new(options.token, scheme));
        token.ready().map_err(ConfigError::Token)?;
        Ok(Self(Arc::new(Inner {
            http,
            endpoint: endpoint.as_str().trim_end_matches('/').to_owned(),
            token,
            windows: Mutex::new(BTreeMap::new()),
        })))
    }

    /// Whose token this is (B.10). An empty `cluster_uuid` means that there are no stacks.
    ///
    /// # Errors
    /// As [`Remedy`] sorts them; [`Remedy::Unauthorized`] for a token that is not known.
    pub async fn token_identity(&self) -> Result<TokenIdentity, Error> {
        Ok(self.probe().await?.identity)
    }

    /// As [`Client::token_identity`], with the server's clock and the round trip.
    ///
    /// # Errors
    /// The same.
    pub async fn probe(&self) -> Result<Probe, Error> {
        let call = self.get("check the token", "token".to_owned(), Vec::new());
        let reply = call.send(self).await?;
        let identity = call.decode(&reply)?;
        Ok(Probe { identity, server_time: server_time(&reply), round_trip: reply.round_trip })
    }

    /// Creates or updates a stack (B.1); may be repeated. The `cluster_queue_key` of the reply is
    /// the key to list with.
    ///
    /// # Errors
    /// [`Remedy::Forbidden`] when the organisation has too many stacks, [`Remedy::Gone`] when the
    /// queue does not exist, [`Remedy::Never`] for a key or metadata that the server refuses.
    pub async fn register(&self, request: &RegisterStack) -> Result<Stack, Error> {
        let windows = self.windows(&request.key);
        let call = Call {
            name: "register the stack",
            method: Method::POST,
            path: "stacks/register".to_owned(),
            query: Vec::new(),
            body: Some(encode(request)),
            limit: Limit::Stack(&windows, Scope::Default),
            reads: false,
        };
        let stack: Stack = call.decode(&call.send(self).await?)?;
        if stack.cluster_queue_key.is_empty() {
            return Err(call.broken("the reply names no queue (cluster_queue_key is empty)"));
        }
        Ok(stack)
    }

    /// Frees the stack's slot (B.2). That it is gone already is success.
    ///
    /// # Errors
    /// As [`Remedy`] sorts them.
    pub async fn deregister(&self, key: &str) -> Result<(), Error> {
        let windows = self.windows(key);
        let call = Call {
            name: "deregister the stack",
            method: Method::POST,
            path: format!("stacks/{}/deregister", segment(key)),
            query: Vec::new(),
            body: None,
            limit: Limit::Stack(&windows, Scope::Default),
            reads: false,
        };
        match call.send_for_status(self).await {
            Ok(()) => Ok(()),
            Err(error) if error.remedy == Remedy::Gone => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The calls of one registered stack. All handles for one key share its rate limits.
    #[must_use]
    pub fn stack(&self, key: &str) -> StackClient {
        StackClient::new(self.clone(), key, self.windows(key))
    }

    /// Counts of one queue (C.6): no ids, also for tokens without a cluster.
    ///
    /// # Errors
    /// As [`Remedy`] sorts them.
    pub async fn queue_metrics(&self, queue: &str) -> Result<QueueCounts, Error> {
        let query = vec![("name", queue.to_owned())];
        let call = self.get("read the queue's metrics", "metrics/queue".to_owned(), query);
        let reply = call.send(self).await?;
        let poll_after =
            number(&reply.headers, "buildkite-agent-metrics-poll-duration").and_then(seconds);
        Ok(QueueCounts { metrics: call.decode(&reply)?, poll_after })
    }

    fn get(
        &self,
        name: &'static str,
        path: String,
        query: Vec<(&'static str, String)>,
    ) -> Call<'_> {
        Call { name, method: Method::GET, path, query, body: None, limit: Limit::None, reads: true }
    }

    pub(crate) fn token(&self) -> &Arc<Token> {
        &self.0.token
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.0.endpoint)
    }

    fn windows(&self, key: &str) -> Arc<Windows> {
        let mut all = self.0.windows.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(key.to_owned()).or_insert_with(|| Arc::new(Windows::new())))
    }
}

/// Our own request types are plain data, which always has a JSON form.
pub(crate) fn encode(request: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(request).expect("the wire types have a JSON form")
}

fn server_time(reply: &Reply) -> Option<Timestamp> {
    let date = reply.headers.get("date")?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp())
}

fn parse_endpoint(text: &str) -> Result<Url, ConfigError> {
    let endpoint = text.trim();
    let refuse = |shown: &str, reason: &str| ConfigError::Endpoint {
        endpoint: shown.to_owned(),
        reason: reason.to_owned(),
    };
    let url = Url::parse(endpoint).map_err(|error| refuse(endpoint, &error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("…", "holds a user name or password; the token goes by itself"));
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse(endpoint, "is neither https:// nor http://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse(endpoint, "holds a query (?) or a fragment (#)"));
    }
    Ok(url)
}

fn build_http(endpoint: &Url, options: &Options) -> Result<reqwest::Client, ConfigError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(ConfigError::NoCryptoProvider);
    }
    let user_agent = HeaderValue::from_str(&options.user_agent)
        .map_err(|_| ConfigError::UserAgent(options.user_agent.clone()))?;
    let json = HeaderValue::from_static("application/json");
    let headers = HeaderMap::from_iter([(ACCEPT, json.clone()), (CONTENT_TYPE, json)]);
    let proxy = options.proxies.choose(endpoint);
    let mut builder = reqwest::Client::builder()
        .user_agent(user_agent)
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        // Only the proxies that we were given, not those of the environment.
        .no_proxy()
        .connect_timeout(options.timeouts.connect)
        .timeout(options.timeouts.request)
        .pool_idle_timeout(IDLE)
        // What one burst opened serves the next; with HTTP/2 there is one connection.
        .pool_max_idle_per_host(MOST_IN_FLIGHT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(Duration::from_secs(10));
    if let Some(proxy) = proxy {
        let proxy = reqwest::Proxy::all(proxy.clone()).map_err(|error| ConfigError::Proxy {
            variable: "proxy".to_owned(),
            reason: crate::error::describe(error),
        })?;
        builder = builder.proxy(proxy);
    }
    let extra = options.extra_ca.as_deref().map(read_authorities).transpose()?.unwrap_or_default();
    let encrypted = endpoint.scheme() == "https" || proxy.is_some_and(|p| p.scheme() == "https");
    builder = match (encrypted, extra.is_empty()) {
        // Nothing will be verified, so the system's store is not loaded; it may not even exist.
        (false, _) => builder.tls_certs_only(Vec::new()),
        (true, true) => builder,
        (true, false) => builder.tls_certs_merge(extra),
    };
    builder.build().map_err(|error| ConfigError::Tls(crate::error::describe(error)))
}

fn read_authorities(path: &Path) -> Result<Vec<Certificate>, ConfigError> {
    let refuse = |reason: String| ConfigError::Certificates { path: path.to_owned(), reason };
    let pem = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let found =
        Certificate::from_pem_bundle(&pem).map_err(|e| refuse(crate::error::describe(e)))?;
    if found.is_empty() {
        return Err(refuse("holds no certificate in PEM form".to_owned()));
    }
    Ok(found)
}
