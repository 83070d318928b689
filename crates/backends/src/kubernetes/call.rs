//! One call to the API server and what its outcome means. Knows classes and paths, not machines.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::wire::{self, Message};
use crate::contract::{Class, Error};

/// How long a call may take, from connect to the last byte; an API server that accepts and does
/// not answer must not hold anybody up for longer.
const CALL: Duration = Duration::from_secs(20);
/// How long a watch may take to begin.
const OPEN: Duration = Duration::from_secs(10);
/// What fairness asks for where it names no time.
const USUAL_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait that the server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const QUOTED: usize = 600;

/// The kinds of objects that we read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Jobs,
    Pods,
    Secrets,
    Events,
    PodTemplates,
    ResourceQuotas,
}

impl Kind {
    const fn path(self) -> (&'static str, &'static str) {
        match self {
            Self::Jobs => ("apis/batch/v1", "jobs"),
            Self::Pods => ("api/v1", "pods"),
            Self::Secrets => ("api/v1", "secrets"),
            Self::Events => ("api/v1", "events"),
            Self::PodTemplates => ("api/v1", "podtemplates"),
            Self::ResourceQuotas => ("api/v1", "resourcequotas"),
        }
    }
}

/// The API server, for the objects of one namespace.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// What a refusal was, beside its class.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: Error,
    /// None where there was no answer.
    pub(super) status: Option<StatusCode>,
    /// The machine-readable reason: `AlreadyExists`.
    pub(super) reason: String,
}

impl Refused {
    pub(super) fn is(&self, status: StatusCode) -> bool {
        self.status == Some(status)
    }

    /// It is not there, or not as it was seen.
    pub(super) fn is_gone(&self) -> bool {
        self.is(StatusCode::NOT_FOUND) || self.is(StatusCode::CONFLICT)
    }

    pub(super) fn is_already_there(&self) -> bool {
        self.reason == "AlreadyExists"
    }
}

/// One request, as far as callers differ.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) verb: &'static str,
    pub(super) method: Method,
    /// From the API server's root on, with its query.
    pub(super) path: String,
    /// As it is sent, and what it is: thousands of objects are written at once, and none is kept
    /// in a larger form meanwhile.
    pub(super) body: Option<(Vec<u8>, &'static str)>,
    /// In which form the answer is wanted.
    pub(super) accept: &'static str,
}

pub(super) const JSON: &str = "application/json";
/// What is said about objects, without what is in them.
pub(super) const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
/// Adds to a list of owners what is not there yet.
pub(super) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

impl Api {
    pub(super) fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    /// The path of all objects of a kind, or of one.
    pub(super) fn path(&self, kind: Kind, name: Option<&str>) -> String {
        let (group, plural) = kind.path();
        let namespace = &self.namespace;
        match name {
            // Names of objects are made of letters, digits, dashes and dots.
            Some(name) => format!("/{group}/namespaces/{namespace}/{plural}/{name}"),
            None => format!("/{group}/namespaces/{namespace}/{plural}"),
        }
    }

    /// The object as it is sent.
    pub(super) async fn create(&self, kind: Kind, object: Vec<u8>) -> Result<Vec<u8>, Refused> {
        // What the server does not know is a mistake in a template, and is said to be one.
        let path = format!("{}?fieldManager=jitney&fieldValidation=Strict", self.path(kind, None));
        let body = Some((object, JSON));
        let accept = wire::ACCEPTED;
        self.send(Ask { verb: "create", method: Method::POST, path, body, accept }).await
    }

    pub(super) async fn get(&self, kind: Kind, name: &str) -> Result<Vec<u8>, Refused> {
        let path = self.path(kind, Some(name));
        self.send(Ask { verb: "get", method: Method::GET, path, body: None, accept: JSON }).await
    }

    pub(super) async fn patch(
        &self,
        kind: Kind,
        name: &str,
        patch: &Value,
        how: &'static str,
    ) -> Result<Vec<u8>, Refused> {
        let path = format!("{}?fieldManager=jitney", self.path(kind, Some(name)));
        let body = Some((written(patch), how));
        let accept = wire::ACCEPTED;
        self.send(Ask { verb: "patch", method: Method::PATCH, path, body, accept }).await
    }

    pub(super) async fn delete(
        &self,
        kind: Kind,
        name: &str,
        options: &Value,
    ) -> Result<Vec<u8>, Refused> {
        let path = self.path(kind, Some(name));
        let body = Some((written(options), JSON));
        let accept = wire::ACCEPTED;
        self.send(Ask { verb: "delete", method: Method::DELETE, path, body, accept }).await
    }

    /// The body of a success, or the class of anything else.
    pub(super) async fn send(&self, ask: Ask) -> Result<Vec<u8>, Refused> {
        let verb = ask.verb;
        let request = request(ask).map_err(|words| no_answer(verb, words))?;
        let whole = async {
            let response = self.client.send(request).await?;
            let (parts, body) = response.into_parts();
            Ok::<_, kube::Error>((parts.status, parts.headers, body.collect_bytes().await?))
        };
        let (status, headers, body) = in_time(verb, CALL, whole).await?;
        if status.is_success() {
            return Ok(body.to_vec());
        }
        Err(refused(verb, status, &headers, &body))
    }

    /// Begins a watch, whose frames come with the body.
    pub(super) async fn watch(&self, path: String) -> Result<Body, Refused> {
        let (verb, accept) = ("watch", wire::ONLY);
        let ask = Ask { verb, method: Method::GET, path, body: None, accept };
        let request = request(ask).map_err(|words| no_answer(verb, words))?;
        let opened = in_time(verb, OPEN, self.client.send(request)).await?;
        let (parts, body) = opened.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        let body = in_time(verb, OPEN, body.collect_bytes()).await?;
        Err(refused(verb, parts.status, &parts.headers, &body))
    }
}

async fn in_time<T>(
    verb: &str,
    limit: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Refused> {
    match timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(no_answer(verb, chain(&error))),
        Err(_) => Err(no_answer(verb, format!("no answer within {} s", limit.as_secs()))),
    }
}

/// An object of ours, in whichever encoding it has come.
pub(super) fn object<T: DeserializeOwned + Message>(body: &[u8]) -> Result<T, Error> {
    if wire::is_object(body) {
        return wire::object(body).map_err(unreadable);
    }
    decode(body)
}

pub(super) fn unreadable(error: impl std::fmt::Display) -> Error {
    let words = format!("the API server's answer cannot be read: {error}");
    Error::new(Class::Ambiguous, words)
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(unreadable)
}

/// An object as it is sent.
pub(super) fn written(object: &Value) -> Vec<u8> {
    serde_json::to_vec(object).expect("its keys are texts")
}

fn request(ask: Ask) -> Result<Request<Body>, String> {
    let mut builder =
        Request::builder().method(ask.method).uri(&ask.path).header(ACCEPT, ask.accept);
    let body = match ask.body {
        Some((bytes, kind)) => {
            builder = builder.header(CONTENT_TYPE, kind);
            Body::from(bytes)
        }
        None => Body::empty(),
    };
    builder.body(body).map_err(|error| format!("{}: {error}", ask.path))
}

/// Whether the request has arrived is not known.
fn no_answer(verb: &str, why: String) -> Refused {
    let mut error =
        Error::new(Class::Ambiguous, format!("the API server cannot be reached: {why}"));
    error.fields.insert("operation".to_owned(), verb.to_owned());
    Refused { error, status: None, reason: String::new() }
}

pub(super) fn refused(verb: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refused {
    let said = match wire::status(body) {
        Ok(status) => Some(status),
        Err(_) => serde_json::from_slice::<Status>(body).ok(),
    };
    let said = said.unwrap_or_else(|| {
        // A proxy's page, or fairness, which answers in plain text.
        let text: String = String::from_utf8_lossy(body).chars().take(QUOTED).collect();
        Status::failure(text.trim(), "")
    });
    let words = match said.message.as_str() {
        "" => format!("the API server answered {status}"),
        message => message.chars().take(QUOTED).collect(),
    };
    let class = class_of(status.as_u16(), &said.message);
    let mut error = Error::new(class, words);
    error.fields.insert("operation".to_owned(), verb.to_owned());
    error.fields.insert("status".to_owned(), status.as_u16().to_string());
    if !said.reason.is_empty() {
        error.fields.insert("reason".to_owned(), said.reason.clone());
    }
    let named = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let named = named.or(said.details.map(|details| u64::from(details.retry_after_seconds)));
    error.retry_after = pause(class, named);
    Refused { error, status: Some(status), reason: said.reason }
}

/// How long to wait before the next call, where the server names so many seconds or none.
pub(crate) fn pause(class: Class, named: Option<u64>) -> Option<Duration> {
    let named = named.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let named = named.map(|pause| pause.min(LONGEST_PAUSE));
    match class {
        Class::Rate => Some(named.unwrap_or(USUAL_PAUSE)),
        Class::Ambiguous => named,
        Class::Capacity | Class::Quota | Class::Rejected | Class::Denied => None,
    }
}

pub(crate) fn class_of(code: u16, message: &str) -> Class {
    match code {
        // A quota may count Jobs and Secrets, too.
        403 if message.contains("exceeded quota") => Class::Quota,
        // The cluster's own rules on what the job asked for, not on who we are.
        400..=422
            if message.contains("denied the request") || message.contains("denied request") =>
        {
            Class::Rejected
        }
        // The namespace, or the kind, is not there.
        401 | 403 | 404 | 405 | 407 => Class::Denied,
        429 => Class::Rate,
        // Another call is at the same object, or it was half read.
        408 | 409 | 425 => Class::Ambiguous,
        400..=499 => Class::Rejected,
        _ => Class::Ambiguous,
    }
}

/// The whole chain of causes: the outermost says only that something failed.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let said = cause.to_string();
        if !words.iter().any(|known: &String| known.contains(&said)) {
            words.push(said);
        }
        next = cause.source();
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, header: Option<&str>, expected: (Class, Option<u64>)) {
        let status = StatusCode::from_u16(status).expect("a status");
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(RETRY_AFTER, value.parse().expect("a value"));
        }
        let error = refused("create", status, &headers, body.as_bytes()).error;
        let retry_after = error.retry_after.map(|pause| pause.as_secs());
        assert_eq!((error.class, retry_after), expected, "{status} {body}: {error}");
        assert!(!error.words.is_empty(), "{status} {body}");
    }

    fn status(reason: &str, message: &str) -> String {
        format!(r#"{{"kind":"Status","reason":"{reason}","message":"{message}"}}"#)
    }

    #[test]
    fn answers_are_classified_by_what_can_be_done() {
        let quota = status(
            "Forbidden",
            "jobs.batch is forbidden: exceeded quota: q, requested: count/jobs.batch=1",
        );
        check(403, &quota, None, (Class::Quota, None));
        let role = status("Forbidden", "jobs.batch is forbidden: User x cannot create resource");
        check(403, &role, None, (Class::Denied, None));
        check(401, &status("Unauthorized", "Unauthorized"), None, (Class::Denied, None));
        let policy =
            status("Invalid", "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no");
        check(422, &policy, None, (Class::Rejected, None));
        let hook = status("Forbidden", "admission webhook 'x' denied the request: no");
        check(403, &hook, None, (Class::Rejected, None));
        check(404, &status("NotFound", "namespaces 'ci' not found"), None, (Class::Denied, None));
        check(422, &status("Invalid", "Job is invalid"), None, (Class::Rejected, None));
        check(400, &status("BadRequest", "unknown field"), None, (Class::Rejected, None));
        check(409, &status("Conflict", "try again"), None, (Class::Ambiguous, None));
        check(
            500,
            &status("InternalError", "failed calling webhook"),
            None,
            (Class::Ambiguous, None),
        );
        check(503, "", None, (Class::Ambiguous, None));
        check(504, &status("Timeout", "etcd"), Some("2"), (Class::Ambiguous, Some(2)));
    }

    #[test]
    fn a_server_that_has_enough_says_for_how_long() {
        check(429, "Too many requests, please try again later.", Some("3"), (Class::Rate, Some(3)));
        check(429, "Too many requests", None, (Class::Rate, Some(1)));
        check(429, "", Some("100000"), (Class::Rate, Some(60)));
        let details =
            r#"{"message":"x","reason":"TooManyRequests","details":{"retryAfterSeconds":7}}"#;
        check(429, details, None, (Class::Rate, Some(7)));
    }
}
