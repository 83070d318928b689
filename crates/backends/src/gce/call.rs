//! One call to Compute Engine and what its outcome means. It knows classes and paths, no machines,
//! and repeats nothing but what Google refused a stale token for.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Client, Method, Url, redirect};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Options;
use super::access::Tokens;
use super::pace::{Minutes, Write};
use super::refusal::{self, Asked, Kind, Refusal};
use super::settings::region_of;
use crate::contract::{Class, Error};

const CONNECT: Duration = Duration::from_secs(3);
/// From the first byte to the last; shorter than anybody waits for us.
const CALL: Duration = Duration::from_secs(20);
/// The date of the API that all of this was written for.
const API_VERSION: &str = "2026-11-01";
/// How long a call waits for its minute before whoever asked is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: usize = 64 << 20;
const IDLE_CONNECTIONS: usize = 64;

/// The cloud, as one project.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    tokens: Tokens,
    /// `https://compute.googleapis.com/compute/v1`
    compute: String,
    resource_manager: String,
    iam: String,
    project: String,
    minutes: Minutes,
    now: fn() -> Timestamp,
}

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// Compute Engine, in our own project.
    Project,
    /// Compute Engine, where the path itself names a project.
    Compute,
    ResourceManager,
    Iam,
}

/// One request, as far as callers differ.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) verb: &'static str,
    pub(super) method: Method,
    pub(super) root: Root,
    /// Empty: the root itself.
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<&'a Value>,
    /// What is asked for, for the words of a refusal.
    pub(super) of: Asked<'a>,
    /// Whether it is one of a minute's changes, and of which kind.
    pub(super) write: Option<Write>,
}

impl<'a> Ask<'a> {
    pub(super) fn get(verb: &'static str, path: String) -> Self {
        let (root, query, of) = (Root::Project, Vec::new(), Asked::default());
        Self { verb, method: Method::GET, root, path, query, body: None, of, write: None }
    }

    /// A delete in that zone, of `instances/NAME` or `disks/NAME`.
    pub(super) fn delete(verb: &'static str, zone: &'a str, what: &str) -> Self {
        let of = Asked { zone, ..Asked::default() };
        let write = Some(Write::Delete);
        let ask = Self::get(verb, format!("zones/{zone}/{what}"));
        Self { method: Method::DELETE, of, write, ..ask }
    }

    pub(super) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }
}

impl Api {
    pub(super) fn new(options: &Options, scope: &'static str) -> Result<Self, Error> {
        let endpoint = &options.endpoint;
        // The binary installs its own first; a library that only tests this backend has none yet.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race against another thread that installs one is as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let denied = |words: String| Error::new(Class::Denied, words);
        let url = Url::parse(endpoint)
            .map_err(|error| denied(format!("`{endpoint}` is no address: {error}")))?;
        let mut builder = Client::builder()
            .user_agent(concat!("jitney/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .redirect(redirect::Policy::none());
        if crate::http::is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| {
            denied(format!("no client can be made: {}", crate::http::chain(&error)))
        })?;
        let whole = |address: &str| address.trim_end_matches('/').to_owned();
        Ok(Self {
            client,
            tokens: Tokens::new(options.access.clone(), scope),
            compute: format!("{}/compute/v1", whole(endpoint)),
            resource_manager: whole(&options.resource_manager),
            iam: whole(&options.iam),
            project: options.settings.project.clone(),
            minutes: Minutes::new(options.writes_per_minute),
            now: options.now,
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// The answer, read.
    pub(super) async fn read<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, Refusal> {
        let verb = ask.verb;
        let body = self.send(ask).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let words = format!("Google's answer to a {verb} cannot be read: {error}");
            unanswered(verb, words)
        })
    }

    /// The body of a success, or what kept it from being one.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Vec<u8>, Refusal> {
        let region = region_of(ask.of.zone);
        if let Some(write) = ask.write {
            self.turn(region, write).await?;
        }
        let mut answer = self.once(&ask).await;
        if answer.as_ref().is_err_and(|refusal| refusal.kind == Kind::Token) {
            self.tokens.forget();
            answer = self.once(&ask).await;
        }
        answer.map_err(|mut refusal| {
            if refusal.kind == Kind::Rate && ask.write.is_some() {
                refusal.error.retry_after = Some(self.minutes.refused(region, self.now()));
            }
            refusal.error.fields.insert("operation".to_owned(), ask.verb.to_owned());
            refusal
        })
    }

    /// Waits for the minute's edge where that is near; otherwise says when it is.
    async fn turn(&self, region: &str, write: Write) -> Result<(), Refusal> {
        while let Err(wait) = self.minutes.take(region, write, self.now()) {
            if wait > PATIENCE {
                let words = format!(
                    "the changes that this minute has for {region} are used up ({} s are left of it)",
                    wait.as_secs()
                );
                let mut error = Error::new(Class::Rate, words);
                error.retry_after = Some(wait);
                return Err(Refusal { kind: Kind::Rate, error });
            }
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    fn url(&self, ask: &Ask<'_>) -> String {
        let path = &ask.path;
        match ask.root {
            Root::Project if path.is_empty() => {
                format!("{}/projects/{}", self.compute, self.project)
            }
            Root::Project => format!("{}/projects/{}/{path}", self.compute, self.project),
            Root::Compute => format!("{}/{path}", self.compute),
            Root::ResourceManager => format!("{}/{path}", self.resource_manager),
            Root::Iam => format!("{}/{path}", self.iam),
        }
    }

    /// Whether there is a token to call with.
    pub(super) async fn has_token(&self) -> Result<(), Error> {
        self.tokens.token().await.map(drop)
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Vec<u8>, Refusal> {
        let token =
            self.tokens.token().await.map_err(|error| Refusal { kind: Kind::Other, error })?;
        let request = self.client.request(ask.method.clone(), self.url(ask));
        let mut request = request.query(&ask.query).timeout(CALL);
        if matches!(ask.root, Root::Project | Root::Compute) {
            request = request.header("x-goog-api-version", API_VERSION);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(body) = ask.body {
            request = request.json(body);
        }
        let lost = |error: reqwest::Error| {
            let what = if error.is_timeout() {
                "Google did not answer in time"
            } else if error.is_connect() {
                "Google cannot be reached"
            } else {
                "the connection to Google broke"
            };
            unanswered(ask.verb, format!("{what}: {}", crate::http::chain(&error)))
        };
        let mut response = request.send().await.map_err(lost)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > LONGEST {
                let words = format!("Google's answer is longer than {LONGEST} bytes");
                return Err(unanswered(ask.verb, words));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(body);
        }
        let asked = Asked { project: &self.project, ..ask.of };
        Err(refusal::of_call(status.as_u16(), &body, asked))
    }
}

/// Nobody knows whether it was done.
fn unanswered(verb: &'static str, words: String) -> Refusal {
    let mut error = Error::new(Class::Ambiguous, words);
    error.fields.insert("operation".to_owned(), verb.to_owned());
    Refusal { kind: Kind::Other, error }
}
