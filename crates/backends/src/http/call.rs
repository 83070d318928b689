//! One call to the service and what its outcome means. Knows classes, not machines.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use super::OptionsError;
use super::wire::Failure;
use crate::contract::{Class, Error};

/// The longest listing that we read: some 50,000 machines.
pub(super) const LONGEST_LISTING: usize = 64 << 20;
/// The longest reply of another kind.
pub(super) const LONGEST_REPLY: usize = 64 << 10;
/// How much of a reply that we do not understand stands in an error.
const QUOTED: usize = 200;
/// The longest wait that a service may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
const IDLE: Duration = Duration::from_secs(60);
const IDLE_CONNECTIONS: usize = 64;

pub(super) fn client(
    base: &Url,
    token: Option<&SecretString>,
    connect: Duration,
) -> Result<Client, OptionsError> {
    // The binary installs its own first; a library that only tests this backend has none yet.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing a race against another thread that installs one is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| OptionsError::Token)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut builder = Client::builder()
        .default_headers(headers)
        .user_agent(concat!("jitney/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .tcp_nodelay(true)
        .redirect(redirect::Policy::none());
    if is_loopback(base) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| OptionsError::Client(chain(&error)))
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost"
            || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// What is being asked, for the words of an error.
pub(super) struct Call<'a> {
    pub(super) verb: &'static str,
    pub(super) name: Option<&'a str>,
    pub(super) limit: usize,
}

impl Call<'_> {
    /// The body of a success, or the class of anything else.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>, Error> {
        let response = request.send().await.map_err(|error| self.no_answer(&error))?;
        let status = response.status();
        let header = retry_after(response.headers());
        let body = self.read(response).await;
        if status.is_success() {
            return body;
        }
        Err(self.refused(status, header, body.as_deref().unwrap_or_default()))
    }

    pub(super) fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|error| {
            let quoted = quote(body);
            self.error(
                Class::Ambiguous,
                format!("the service's reply cannot be read: {error}; it begins `{quoted}`"),
            )
        })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.no_answer(&error))? {
            if body.len() + chunk.len() > self.limit {
                let words = format!("the service's reply is longer than {} bytes", self.limit);
                return Err(self.error(Class::Ambiguous, words));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Whether the request has arrived is not known, or we do not trust ourselves to know.
    fn no_answer(&self, error: &reqwest::Error) -> Error {
        let what = if error.is_timeout() {
            "the service did not answer in time"
        } else if error.is_connect() {
            "the service cannot be reached"
        } else {
            "the connection to the service broke"
        };
        self.error(Class::Ambiguous, format!("{what}: {}", chain(error)))
    }

    fn refused(&self, status: StatusCode, header: Option<Duration>, body: &[u8]) -> Error {
        if let Ok(failure) = serde_json::from_slice::<Failure>(body) {
            let mut error = self.error(failure.class, failure.message);
            error.retry_after = failure.retry_after_s.and_then(seconds).or(header);
            error.fields.insert("status".to_owned(), status.as_u16().to_string());
            return error;
        }
        let quoted = quote(body);
        let words = if quoted.is_empty() {
            format!("the service answered {status}")
        } else {
            format!("the service answered {status}: {quoted}")
        };
        let mut error = self.error(class_of(status), words);
        error.retry_after = header;
        error.fields.insert("status".to_owned(), status.as_u16().to_string());
        error
    }

    fn error(&self, class: Class, words: String) -> Error {
        let mut error = Error::new(class, words);
        error.fields.insert("operation".to_owned(), self.verb.to_owned());
        if let Some(name) = self.name {
            error.fields.insert("machine".to_owned(), name.to_owned());
        }
        error
    }
}

/// What a status means when the service does not say it.
fn class_of(status: StatusCode) -> Class {
    match status.as_u16() {
        401 | 403 | 407 => Class::Denied,
        429 => Class::Rate,
        // 408: it may have been half read. 409: another call about this machine is under way.
        408 | 409 | 425 => Class::Ambiguous,
        // 404 too, even to a delete: a wrong address must not look like a machine that is gone.
        400..=499 => Class::Rejected,
        // 3xx too: somebody between us and the service answered; nobody knows what it has done.
        _ => Class::Ambiguous,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<f64>().ok().and_then(seconds)
}

/// A wait of nothing says nothing: whoever calls has pauses of its own.
fn seconds(value: f64) -> Option<Duration> {
    let wait = Duration::try_from_secs_f64(value).ok().filter(|wait| !wait.is_zero())?;
    Some(wait.min(LONGEST_PAUSE))
}

fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut quoted: String =
        text.chars().take(QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(QUOTED).is_some() {
        quoted.push('…');
    }
    quoted.trim().to_owned()
}

/// The whole chain of causes, without the address, which may be long and is in the fields.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), causes)
}

/// An error with all of its causes, each said once.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !words.contains(&said) {
            words.push_str(": ");
            words.push_str(&said);
        }
        source = cause.source();
    }
    words
}
