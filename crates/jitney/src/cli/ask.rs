//! Asking the Jitney that runs, by its HTTP API, at the address and with the token that its own
//! configuration says. It changes nothing but what `drain` is told to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Exit, Failure};
use crate::api::{Explained, Snapshot};
use crate::config::Config;
use crate::journal::Closed;

/// It is on this host or near.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(15);

/// The Jitney that runs with this configuration.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    client: Client,
    base: String,
    token: Option<SecretString>,
}

impl Peer {
    pub(crate) fn of(config: &Config) -> Result<Self, Failure> {
        let token = config.server.access.token.clone();
        Ok(Self { token, ..Self::at(config.server.listen)? })
    }

    /// One that asks for no token.
    pub(crate) fn at(listen: SocketAddr) -> Result<Self, Failure> {
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only(Vec::new())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()
            .map_err(|error| Failure::new(Exit::Failed, format!("no HTTP client: {error}")))?;
        Ok(Self { client, base: format!("http://{}", reachable(listen)), token: None })
    }

    pub(crate) async fn status(&self) -> Result<Snapshot, Failure> {
        let found = self.call(Method::GET, "/api/status").await?;
        found.ok_or_else(|| self.not_a_jitney("it knows no /api/status"))
    }

    /// Nothing where it does not know the job.
    pub(crate) async fn job(&self, job: Uuid) -> Result<Option<Explained>, Failure> {
        self.call(Method::GET, &format!("/api/jobs/{job}")).await
    }

    /// The jobs that were done with last, newest first.
    pub(crate) async fn history(&self) -> Result<Vec<Closed>, Failure> {
        Ok(self.call(Method::GET, "/api/history").await?.unwrap_or_default())
    }

    pub(crate) async fn set_draining(&self, draining: bool) -> Result<(), Failure> {
        let method = if draining { Method::POST } else { Method::DELETE };
        let told: Option<serde_json::Value> = self.call(method, "/api/drain").await?;
        told.map(|_| ()).ok_or_else(|| self.not_a_jitney("it knows no /api/drain"))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<Option<T>, Failure> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let reply = request.send().await.map_err(|error| self.away(&error))?;
        let status = reply.status();
        let body = reply.bytes().await.map_err(|error| self.away(&error))?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| self.not_a_jitney(&error.to_string())),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::new(
                Exit::Refused,
                format!(
                    "the Jitney at {} does not let us: {}; the configuration's access.token has to be the one that it was started with",
                    self.base,
                    words(&body)
                ),
            )),
            status => Err(Failure::new(
                Exit::Unreachable,
                format!("the Jitney at {} answers {status}: {}", self.base, words(&body)),
            )),
        }
    }

    fn away(&self, error: &reqwest::Error) -> Failure {
        let what = if error.is_timeout() { "does not answer in time" } else { "does not answer" };
        let words = format!(
            "Jitney {what} at {}. Start it with `jitney run`, or look whether it does (systemctl status jitney) and whether `listen` in this configuration is the one that it was started with",
            self.base
        );
        Failure::new(Exit::Unreachable, words)
    }

    fn not_a_jitney(&self, why: &str) -> Failure {
        let words = format!("what answers at {} is not a Jitney of this version: {why}", self.base);
        Failure::new(Exit::Unreachable, words)
    }
}

/// The error that the API words, else the beginning of what came.
fn words(body: &[u8]) -> String {
    let parsed = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    let said = parsed.get("error").and_then(serde_json::Value::as_str).map(str::to_owned);
    said.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(200).collect())
}

/// What listens everywhere is reached on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}
