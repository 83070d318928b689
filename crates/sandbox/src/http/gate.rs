//! What every request passes: who calls, what faults befall it, the limits, and the journal.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use buildkite::wire::{ErrorBody, Scope};
use jiff::fmt::rfc2822::DateTimePrinter;
use uuid::Uuid;

use super::reply::Failure;
use super::rest;
use super::wire::Cut;
use crate::engine::{ApiToken, Credential, Refusal};
use crate::faults::{Fate, OutageKind};
use crate::journal;
use crate::limiter::Standing;
use crate::server::Shared;

/// Who calls, from the `Authorization` header; asked for by the calls that need it.
#[derive(Clone, Debug)]
struct Identity(Result<Credential, Refusal>);

/// Who calls, by the API that is called.
enum Caller {
    Agent(Result<Credential, Refusal>),
    Rest(Result<ApiToken, Refusal>),
}

impl Caller {
    fn of(shared: &Shared, is_rest: bool, headers: &HeaderMap) -> Self {
        if is_rest {
            Self::Rest(rest::identify(shared, headers))
        } else {
            Self::Agent(identify(shared, headers))
        }
    }

    /// The kind of token, as the request journal has it.
    fn kind(&self, headers: &HeaderMap) -> &'static str {
        match self {
            Self::Agent(Ok(credential)) => credential.kind(),
            Self::Rest(Ok(_)) => "api",
            Self::Agent(Err(_)) | Self::Rest(Err(_)) => {
                if headers.contains_key(header::AUTHORIZATION) { "unknown" } else { "none" }
            }
        }
    }
}

/// A call with a cluster's agent token.
pub(super) struct OfCluster(pub(super) usize);

/// A call with any token that an agent may register with.
pub(super) struct Registrant(pub(super) Credential);

/// A call with an agent's session token.
pub(super) struct OfSession(pub(super) Uuid);

/// A call about a job, by its agent or with its token.
pub(super) struct OfJob(pub(super) Credential);

fn identity(parts: &Parts) -> Result<Credential, Failure> {
    let identity = parts.extensions.get::<Identity>();
    let found = identity.expect("the gate identifies every request").0.clone();
    found.map_err(Failure::from)
}

fn wrong_kind(wanted: &str, is: &Credential) -> Failure {
    let why = format!("this call takes {wanted}, not a {} token", is.kind());
    Failure::new(StatusCode::UNAUTHORIZED, why)
}

impl<S: Sync> FromRequestParts<S> for OfCluster {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        match identity(parts)? {
            Credential::Cluster { cluster } => Ok(Self(cluster)),
            other @ (Credential::Acquisition { .. }
            | Credential::Session { .. }
            | Credential::Job { .. }) => Err(wrong_kind("an agent token", &other)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Registrant {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        identity(parts).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for OfSession {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        match identity(parts)? {
            Credential::Session { agent } => Ok(Self(agent)),
            other @ (Credential::Cluster { .. }
            | Credential::Acquisition { .. }
            | Credential::Job { .. }) => Err(wrong_kind("a session token", &other)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for OfJob {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        match identity(parts)? {
            found @ (Credential::Session { .. } | Credential::Job { .. }) => Ok(Self(found)),
            other @ (Credential::Cluster { .. } | Credential::Acquisition { .. }) => {
                Err(wrong_kind("a job's or a session's token", &other))
            }
        }
    }
}

/// The way of every request.
pub(super) async fn pass(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let is_rest = path.starts_with(rest::PREFIX);
    let is_api = is_rest
        || path.starts_with("/v3/")
        || path.starts_with("/uploads/")
        || path.starts_with("/artifacts/");
    if !is_api {
        if is_foreign_page(request.method(), request.headers()) {
            let why = "another site's page may not use the controls";
            return Failure::new(StatusCode::FORBIDDEN, why).into_response();
        }
        return next.run(request).await;
    }
    let route = route.map_or_else(|| path.clone(), |route| route.as_str().to_owned());
    let method = request.method().clone();
    let found = Caller::of(&shared, is_rest, request.headers());
    let mut entry = journal::Request {
        at: shared.now(),
        method: method.to_string(),
        token: found.kind(request.headers()),
        scope: if is_rest { Some(rest::SCOPE) } else { scope_of(&method, &route).map(Scope::name) },
        route,
        path,
        status: None,
    };
    let response = befall(&shared, &entry, &cut, (found, request), next).await;
    entry.status = response.as_ref().map(|response| response.status().as_u16());
    shared.journal(|journal| journal.push(entry));
    // An answer on a connection that has been cut is never written.
    let mut response = response.unwrap_or_else(|| StatusCode::SERVICE_UNAVAILABLE.into_response());
    // By the sandbox's own clock, which the controls may have moved.
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&shared.now());
    if let Some(date) = date.ok().and_then(|date| HeaderValue::try_from(date).ok()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

/// Whether a page of another site calls the controls through somebody's browser. They need no
/// token, and a build runs commands, so loopback alone would not keep such a page out.
fn is_foreign_page(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    if !(is_address || name == "localhost" || host.is_empty()) {
        return true;
    }
    let origin = text(header::ORIGIN).filter(|_| !method.is_safe());
    origin.is_some_and(|origin| origin.rsplit_once("//").is_none_or(|(_, from)| from != host))
}

/// Lets the faults have their way; `None` when the connection was cut.
async fn befall(
    shared: &Shared,
    entry: &journal::Request,
    cut: &Cut,
    request: (Caller, Request),
    next: Next,
) -> Option<Response> {
    let now = shared.now();
    if let Some((kind, left)) = shared.faults(|faults| faults.outage(now)) {
        match kind {
            OutageKind::Refuse => {
                let why = "the organisation is temporarily unavailable";
                let failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, why);
                return Some(failure.into_response());
            }
            OutageKind::Drop => {}
            OutageKind::Hang => tokio::time::sleep(left).await,
        }
        cut.cut();
        return None;
    }
    let fate = shared.faults(|faults| faults.fate(&entry.method, &entry.route, &entry.path));
    if !fate.before.is_zero() {
        tokio::time::sleep(fate.before).await;
    }
    if fate.drop {
        cut.cut();
        return None;
    }
    let mut response = answer(shared, entry, &fate, request, next).await;
    if let Some(seconds) = fate.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, number(seconds));
    }
    if !fate.after.is_zero() {
        tokio::time::sleep(fate.after).await;
    }
    if fate.lose_reply {
        cut.cut();
        return None;
    }
    Some(response)
}

async fn answer(
    shared: &Shared,
    entry: &journal::Request,
    fate: &Fate,
    (caller, mut request): (Caller, Request),
    next: Next,
) -> Response {
    if let Some((status, message)) = &fate.status {
        let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = message.clone().unwrap_or_else(|| "a fault that was asked for".to_owned());
        return Failure::new(status, message).into_response();
    }
    let found = match caller {
        Caller::Agent(found) => found,
        Caller::Rest(token) => {
            return rest::admit(shared, token, &entry.route, request, next).await;
        }
    };
    request.extensions_mut().insert(Identity(found));
    let scope = scope_of(request.method(), &entry.route);
    let Some(scope) = scope.filter(|_| shared.rate_limits && entry.token == "cluster") else {
        return next.run(request).await;
    };
    let stack = entry.path.split('/').nth(3).unwrap_or_default();
    let standing = shared.limiter(|limiter| limiter.count(stack, scope, shared.now()));
    let mut response = if standing.allowed { next.run(request).await } else { too_many(standing) };
    tell_limits(response.headers_mut(), standing);
    response
}

fn too_many(standing: Standing) -> Response {
    let body = ErrorBody {
        message: format!("Rate limit exceeded, retry in {} second.", standing.reset_s),
        scope: Some(standing.scope.name().to_owned()),
        limit: Some(standing.limit),
        current: Some(standing.current),
        reset: Some(standing.reset_s),
    };
    let mut response = (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, number(standing.reset_s));
    response
}

fn tell_limits(headers: &mut HeaderMap, standing: Standing) {
    headers.insert("ratelimit-scope", HeaderValue::from_static(standing.scope.name()));
    headers.insert("ratelimit-limit", number(standing.limit));
    headers.insert("ratelimit-remaining", number(standing.remaining));
    headers.insert("ratelimit-reset", number(standing.reset_s));
}

fn number(value: impl ToString) -> HeaderValue {
    HeaderValue::from_str(&value.to_string()).expect("a number is a valid header")
}

fn identify(shared: &Shared, headers: &HeaderMap) -> Result<Credential, Refusal> {
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let missing =
        || Refusal::Unauthorized("an `Authorization: Token …` header is missing".to_owned());
    let (scheme, token) = text.and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("token") {
        return Err(missing());
    }
    let now = shared.now();
    shared.look(|engine| engine.credential(token.trim(), now))
}

/// The limit that a call counts for; only the Stacks API has any.
fn scope_of(method: &Method, route: &str) -> Option<Scope> {
    let call = route.strip_prefix("/v3/stacks/")?;
    Some(match call {
        "{key}/scheduled-jobs" if method == Method::GET => Scope::ListScheduledJobs,
        "{key}/scheduled-jobs/batch-reserve" => Scope::BatchReserve,
        "{key}/jobs/{id}" => Scope::ShowJob,
        "{key}/jobs/get-states" => Scope::BatchLoadJobStates,
        "{key}/jobs/{id}/finish" => Scope::FinishJob,
        "{key}/notifications" => Scope::StackNotification,
        "{key}/job-acquisition-tokens" => Scope::JobAcquisitionTokens,
        _ => Scope::Default,
    })
}
