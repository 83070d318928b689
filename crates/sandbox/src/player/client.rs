//! The agent API from the agent's side: one method per call, and the rule of when to try again.
//! Whoever uses it decides what to run; it knows neither processes nor machines.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::wire::{Beat, Finish, Job, JobNow, Registered};

/// Calls in flight at once, over all agents that share a `Wire`: each holds a connection.
const IN_FLIGHT: usize = 256;
/// A call that takes longer has failed.
const CALL: Duration = Duration::from_secs(60);
/// What is read of a reply at the most.
const LONGEST_REPLY: usize = 4 << 20;
/// Between two tries where the server does not say.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The connections that any number of agents share.
#[derive(Clone, Debug)]
pub struct Wire {
    http: reqwest::Client,
    permits: Arc<Semaphore>,
}

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody knows whether the server has acted.
    #[error("{what}: no answer: {why}")]
    Unanswered { what: &'static str, why: String },
    #[error("{what}: {status}: {message}")]
    Refused { what: &'static str, status: u16, message: String, retry_after: Option<Duration> },
    #[error("{what}: the answer makes no sense: {why}")]
    Garbled { what: &'static str, why: String },
}

impl CallError {
    /// The status, where there is one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unanswered { .. } | Self::Garbled { .. } => None,
        }
    }

    /// How long to wait before the next try; `None` where trying again is no use.
    fn pause(&self, tried: u32) -> Option<Duration> {
        let doubling = FIRST_PAUSE.saturating_mul(1 << tried.min(8)).min(LAST_PAUSE);
        match self {
            Self::Unanswered { .. } => Some(doubling),
            Self::Refused { status: 423 | 429 | 500.., retry_after, .. } => {
                Some(retry_after.unwrap_or(doubling))
            }
            Self::Refused { .. } | Self::Garbled { .. } => None,
        }
    }
}

/// Repeats a call that may succeed later, `tries` times at the most.
pub(super) async fn patiently<T, F>(tries: u32, mut call: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut tried = 0;
    loop {
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        tried += 1;
        match error.pause(tried) {
            Some(pause) if tried < tries => tokio::time::sleep(pause).await,
            Some(_) | None => return Err(error),
        }
    }
}

impl Wire {
    pub fn new() -> Result<Self, reqwest::Error> {
        buildkite::install_crypto_provider();
        let http = reqwest::Client::builder().no_proxy().timeout(CALL).build()?;
        Ok(Self { http, permits: Arc::new(Semaphore::new(IN_FLIGHT)) })
    }

    async fn send(
        &self,
        what: &'static str,
        request: RequestBuilder,
    ) -> Result<Vec<u8>, CallError> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let unanswered = |error: reqwest::Error| CallError::Unanswered { what, why: chain(&error) };
        let response = request.send().await.map_err(unanswered)?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let body = read(response).await.map_err(|why| CallError::Unanswered { what, why })?;
        if status.is_success() {
            return Ok(body);
        }
        let message = serde_json::from_slice::<buildkite::wire::ErrorBody>(&body)
            .map_or_else(|_| status.to_string(), |body| body.message);
        Err(CallError::Refused { what, status: status.as_u16(), message, retry_after })
    }

    /// Whether a sandbox listens at this endpoint, and nothing else.
    pub async fn is_sandbox(&self, endpoint: &str) -> Result<bool, CallError> {
        let root = endpoint.trim_end_matches('/').trim_end_matches("/v3");
        let request = self.http.get(format!("{root}/_sandbox/hello"));
        match self.send("hello", request).await {
            Ok(body) => Ok(serde_json::from_slice::<serde_json::Value>(&body)
                .is_ok_and(|body| body["sandbox"] == true)),
            Err(CallError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Registers an agent; the session is what all its other calls are made with.
    pub async fn register(
        &self,
        endpoint: &str,
        token: &SecretString,
        name: &str,
        tags: &[String],
    ) -> Result<Session, CallError> {
        let base = endpoint.trim_end_matches('/').to_owned();
        let body = json!({
            "name": name, "hostname": name, "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH, "script_eval_enabled": true,
            "ignore_in_dispatches": true, "version": env!("CARGO_PKG_VERSION"), "build": "sandbox",
            "meta_data": tags, "features": ["acquire-job"],
        });
        let request = self
            .http
            .post(format!("{base}/register"))
            .header("Authorization", format!("Token {}", token.expose_secret()))
            .json(&body);
        let registered: Registered = decode("register", &self.send("register", request).await?)?;
        Ok(Session {
            wire: self.clone(),
            base: registered.endpoint.clone().unwrap_or(base),
            registered,
            job_token: None,
        })
    }
}

/// Whose token a call carries.
#[derive(Clone, Copy)]
enum Caller {
    Agent,
    /// About the job that the agent has acquired.
    Job,
}

/// A registered agent, and the job that it holds.
#[derive(Clone, Debug)]
pub struct Session {
    wire: Wire,
    base: String,
    pub registered: Registered,
    job_token: Option<SecretString>,
}

impl Session {
    pub async fn connect(&self) -> Result<(), CallError> {
        self.call(Caller::Agent, "connect", Method::POST, "connect", None::<&()>).await.map(drop)
    }

    pub async fn disconnect(&self) -> Result<(), CallError> {
        self.call(Caller::Agent, "disconnect", Method::POST, "disconnect", None::<&()>)
            .await
            .map(drop)
    }

    pub async fn heartbeat(&self, now: Timestamp) -> Result<(), CallError> {
        let beat = Beat { sent_at: now };
        self.call(Caller::Agent, "heartbeat", Method::POST, "heartbeat", Some(&beat))
            .await
            .map(drop)
    }

    /// Takes the job; `hold` it next.
    pub async fn acquire(&self, job: Uuid) -> Result<Job, CallError> {
        let url = format!("{}/jobs/{job}/acquire", self.base);
        let request = self
            .wire
            .http
            .put(url)
            .header("Authorization", self.authorization(Caller::Agent))
            .header("X-Buildkite-Lock-Acquire-Job", "1");
        decode("acquire", &self.wire.send("acquire", request).await?)
    }

    /// From here on, calls about the job carry its own token.
    pub fn hold(&mut self, job: &Job) {
        self.job_token = job.token.clone().map(SecretString::from);
    }

    pub async fn start(&self, job: Uuid, now: Timestamp) -> Result<(), CallError> {
        let body = json!({ "started_at": now });
        self.call(Caller::Job, "start", Method::PUT, &format!("jobs/{job}/start"), Some(&body))
            .await
            .map(drop)
    }

    pub async fn state(&self, job: Uuid) -> Result<JobNow, CallError> {
        let body = self
            .call(Caller::Job, "state", Method::GET, &format!("jobs/{job}"), None::<&()>)
            .await?;
        decode("state", &body)
    }

    pub async fn finish(&self, job: Uuid, finish: &Finish) -> Result<(), CallError> {
        let path = format!("jobs/{job}/finish");
        self.call(Caller::Job, "finish", Method::PUT, &path, Some(finish)).await.map(drop)
    }

    /// One piece of the log. `sequence` counts from 1, `offset` in bytes of the whole log.
    pub async fn chunk(
        &self,
        job: Uuid,
        sequence: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), CallError> {
        let what = "chunks";
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let packed = gzip.write_all(bytes).and_then(|()| gzip.finish()).map_err(|error| {
            CallError::Garbled { what, why: format!("the log cannot be packed: {error}") }
        })?;
        let size = bytes.len();
        let query = format!("sequence={sequence}&offset={offset}&size={size}");
        let request = self
            .wire
            .http
            .post(format!("{}/jobs/{job}/chunks?{query}", self.base))
            .header("Authorization", self.authorization(Caller::Job))
            .header("Content-Type", "text/plain")
            .header("Content-Encoding", "gzip")
            .body(packed);
        self.wire.send(what, request).await.map(drop)
    }

    async fn call<B: Serialize>(
        &self,
        caller: Caller,
        what: &'static str,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Vec<u8>, CallError> {
        let url = format!("{}/{path}", self.base);
        let request = self.wire.http.request(method, url);
        let request = request.header("Authorization", self.authorization(caller));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.wire.send(what, request).await
    }

    fn authorization(&self, caller: Caller) -> String {
        let agent = &self.registered.access_token;
        let token = match caller {
            Caller::Agent => agent,
            Caller::Job => self.job_token.as_ref().unwrap_or(agent),
        };
        format!("Token {}", token.expose_secret())
    }
}

fn decode<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body)
        .map_err(|error| CallError::Garbled { what, why: error.to_string() })
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get("Retry-After")?.to_str().ok()?.parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
        if body.len() + chunk.len() > LONGEST_REPLY {
            return Err(format!("the answer is longer than {LONGEST_REPLY} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes: reqwest's own text leaves out the one that matters.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
