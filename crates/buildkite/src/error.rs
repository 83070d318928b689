//! What can go wrong with a call, sorted by what the caller can do about it.
//! It does not decide how often or when to try again.

use std::path::PathBuf;
use std::time::Duration;

use crate::cut;
use crate::wire::Scope;

/// How many characters of a foreign reply are worth repeating.
const LONGEST_QUOTE: usize = 200;

/// What a failed call leaves the caller to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// Certainly without effect (not sent, refused for now, or only a question): the same call may
    /// be made again, not before [`Error::retry_after`].
    Retry,
    /// It may or may not have been applied: look, or repeat what can be repeated without harm.
    Unknown,
    /// The server will say the same again: the request is at fault.
    Never,
    /// 401: the token is missing, wrong or expired.
    Unauthorized,
    /// 403: the token is good and may not do this, or a quota is used up; the message says which.
    Forbidden,
    /// 404, in the API's own words: the stack, job or queue does not exist (any more).
    Gone,
}

/// A call that failed. Holds no secret: the token is taken out of every message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{call}: {message}{}", status_suffix(*status))]
pub struct Error {
    pub remedy: Remedy,
    /// The HTTP status, when there was a reply.
    pub status: Option<u16>,
    /// The server's words where it had any, else ours.
    pub message: String,
    /// How long the server asked to wait.
    pub retry_after: Option<Duration>,
    /// The rate limit of the Stacks API that the call counts for.
    pub scope: Option<Scope>,
    /// Which call it was, in words: `reserve jobs`, `list jobs`, …
    pub call: &'static str,
}

fn status_suffix(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(" (HTTP {status})"))
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("endpoint {endpoint:?}: {reason}")]
    Endpoint { endpoint: String, reason: String },
    #[error("token: {0}")]
    Token(String),
    #[error("certificate file {path}: {reason}")]
    Certificates { path: PathBuf, reason: String },
    #[error("{variable}: {reason}")]
    Proxy { variable: String, reason: String },
    #[error("user agent {0:?} holds characters that a header cannot")]
    UserAgent(String),
    #[error("no TLS provider: call install_crypto_provider() when the program starts")]
    NoCryptoProvider,
    #[error("TLS: {0}")]
    Tls(String),
}

/// How a reply that is no success is understood. `reads` says that the call changes nothing.
pub(crate) fn classify_status(status: u16, from_api: bool, reads: bool) -> Remedy {
    match status {
        401 => Remedy::Unauthorized,
        403 => Remedy::Forbidden,
        404 if from_api => Remedy::Gone,
        // 408 and 425 say that the request was not taken in; 429 that it was refused.
        408 | 425 | 429 => Remedy::Retry,
        // Buildkite's own 503 refuses; a gateway's may follow on a request that it passed on.
        503 if from_api => Remedy::Retry,
        300..=499 => Remedy::Never,
        _ => unless_read(reads),
    }
}

/// What is not known to have been applied is harmless where nothing can be applied.
pub(crate) fn unless_read(reads: bool) -> Remedy {
    if reads { Remedy::Retry } else { Remedy::Unknown }
}

/// A transport failure: nothing left this machine when no connection came about.
pub(crate) fn classify_transport(error: &reqwest::Error, reads: bool) -> Remedy {
    if error.is_connect() || error.is_builder() { Remedy::Retry } else { unless_read(reads) }
}

/// The whole chain of causes in one line, without the address (it is in the configuration) and
/// without saying anything twice.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !line.contains(&words) {
            line.push_str(": ");
            line.push_str(&words);
        }
        cause = inner.source();
    }
    line
}

/// What a refusal says, as far as it can be understood.
pub(crate) struct Words {
    pub(crate) message: String,
    /// The body has the API's form, a JSON object with `message`; nothing between us and
    /// Buildkite answers so.
    pub(crate) from_api: bool,
    /// The `reset` of a 429's body, in seconds.
    pub(crate) reset: Option<f64>,
}

/// Reads a refusal's body leniently: what is odd about its other fields does not cost the message.
pub(crate) fn words(body: &str, location: Option<&str>) -> Words {
    let parsed = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
    if let Some(message) = parsed.get("message").and_then(serde_json::Value::as_str) {
        let reset = parsed.get("reset").and_then(serde_json::Value::as_f64);
        return Words { message: message.to_owned(), from_api: true, reset };
    }
    let text = body.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = match location {
        Some(location) => format!("redirected to {location}: is the endpoint right?"),
        None if text.is_empty() => "empty reply, not from the API".to_owned(),
        None => format!("not a reply of the API: {}", cut::chars(&text, LONGEST_QUOTE)),
    };
    Words { message, from_api: false, reset: None }
}
