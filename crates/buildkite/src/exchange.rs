//! One request and its reply: the headers that Buildkite expects, the limits on what we read, and
//! what the reply says about waiting. It knows no endpoint by name.

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap};
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::{self, Error, Remedy};
use crate::limit::Limit;
use crate::token::Ready;

/// A page of 1,000 jobs is under one megabyte, a job's environment a few hundred kilobytes.
const LONGEST_REPLY: usize = 32 * 1024 * 1024;
/// What is read of a reply that is no success.
const LONGEST_REFUSAL: usize = 64 * 1024;

/// A request as the API's functions describe it.
pub(crate) struct Call<'a> {
    /// For people: `reserve jobs`.
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// Below the endpoint, percent-encoded, without a slash in front.
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) limit: Limit<'a>,
    /// The call changes nothing, so its failure leaves nothing unknown.
    pub(crate) reads: bool,
}

/// A success.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) round_trip: Duration,
}

impl Call<'_> {
    fn error(&self, remedy: Remedy, status: Option<u16>, message: String) -> Error {
        let (scope, call) = (self.limit.scope(), self.name);
        Error { remedy, status, message, retry_after: None, scope, call }
    }

    /// Sends it once. The reply's limits are taken in before it is handed on.
    pub(crate) async fn send(&self, client: &Client) -> Result<Reply, Error> {
        let permits = self.limit.acquire().await;
        // Nothing was sent: the file may be there again for the next try.
        let token =
            client.token().soon().await.map_err(|words| self.error(Remedy::Retry, None, words))?;
        let started = Instant::now();
        let sent = self.request(client, &token).send().await;
        let round_trip = started.elapsed();
        let response = sent.map_err(|error| self.transport(error, &token))?;
        let status = response.status();
        tracing::debug!(
            call = self.name,
            status = status.as_u16(),
            ?round_trip,
            "buildkite replied"
        );
        if status.is_success() {
            self.limit.take_in(response.headers(), retry_after(response.headers()));
            drop(permits);
            let (status, headers) = (status.as_u16(), response.headers().clone());
            let (body, problem) = read(response, LONGEST_REPLY).await;
            if let Some(words) = problem {
                let words = token.redact(&words);
                return Err(self.error(error::unless_read(self.reads), Some(status), words));
            }
            return Ok(Reply { status, headers, body, round_trip });
        }
        let error = self.refusal(client, response, &token).await;
        drop(permits);
        Err(error)
    }

    fn request(&self, client: &Client, token: &Ready) -> RequestBuilder {
        let url = client.url(&self.path);
        let mut request = client
            .http()
            .request(self.method.clone(), url)
            .header(AUTHORIZATION, token.header.clone());
        if !self.query.is_empty() {
            request = request.query(&self.query);
        }
        match &self.body {
            Some(body) => request.body(body.clone()),
            // Some gateways refuse a POST that does not say that it is empty.
            None if self.method != Method::GET => request.header(CONTENT_LENGTH, 0),
            None => request,
        }
    }

    fn transport(&self, error: reqwest::Error, token: &Ready) -> Error {
        let remedy = error::classify_transport(&error, self.reads);
        self.error(remedy, None, token.redact(&error::describe(error)))
    }

    /// Sends a call whose success has no body worth reading: the status alone decides.
    pub(crate) async fn send_for_status(&self, client: &Client) -> Result<(), Error> {
        match self.send(client).await {
            Ok(_) => Ok(()),
            Err(error) if error.status.is_some_and(|status| (200..300).contains(&status)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads and classifies a reply that is no success.
    async fn refusal(&self, client: &Client, response: Response, token: &Ready) -> Error {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let location = headers.get("location").and_then(|value| value.to_str().ok());
        // The status stands, however much of its words can be read.
        let (body, _) = read(response, LONGEST_REFUSAL).await;
        // Before anything is cut: half a token must not show either.
        let body = token.redact(&String::from_utf8_lossy(&body));
        let words = error::words(&body, location);
        if status == 401 {
            client.token().forget();
        }
        // A 429 always holds its scope, even when it names no time.
        let at_least = (status == 429).then(|| self.limit.refused_for(&headers, words.reset));
        let wait = retry_after(&headers).or(at_least);
        self.limit.take_in(&headers, wait);
        let remedy = error::classify_status(status, words.from_api, self.reads);
        let mut error = self.error(remedy, Some(status), token.redact(&words.message));
        error.retry_after = wait;
        error
    }

    /// Reads the reply as JSON.
    pub(crate) fn decode<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, Error> {
        serde_json::from_slice(&reply.body).map_err(|problem| {
            // serde's words can repeat a piece of the body, so only its place is told.
            let words = format!(
                "cannot understand the reply ({:?} error at line {}, column {})",
                problem.classify(),
                problem.line(),
                problem.column()
            );
            self.error(error::unless_read(self.reads), Some(reply.status), words)
        })
    }

    /// A reply that is JSON and breaks the contract all the same.
    pub(crate) fn broken(&self, words: &str) -> Error {
        self.error(error::unless_read(self.reads), None, words.to_owned())
    }
}

/// The body as far as it came, and why it is not whole: torn, or longer than anything that the
/// API sends.
async fn read(mut response: Response, limit: usize) -> (Vec<u8>, Option<String>) {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    let mut body = Vec::with_capacity(announced.unwrap_or(0).min(limit));
    loop {
        match response.chunk().await {
            Ok(None) => return (body, None),
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                body.extend_from_slice(&chunk[..limit - body.len()]);
                return (body, Some(format!("the reply is longer than {limit} bytes")));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Err(error) => return (body, Some(error::describe(error))),
        }
    }
}

/// `Retry-After`: seconds, whole or not. (The HTTP date that the standard also allows is not used
/// by Buildkite and would need the wall clock.)
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    number(headers, "retry-after").and_then(seconds)
}

pub(crate) fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Nonsense (negative, not a number, beyond all time) is no time at all.
pub(crate) fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok()
}

/// A path segment: everything but letters, digits, `-`, `_` and `~` is escaped, the dot too (the
/// server refuses it raw, B.0).
pub(crate) fn segment(raw: &str) -> String {
    let mut escaped = String::with_capacity(raw.len());
    for byte in raw.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
