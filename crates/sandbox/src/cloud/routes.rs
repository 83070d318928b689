//! The cloud's HTTP: the calls of Google's APIs, held to their discovery documents on the way in
//! and on the way out, and the endpoints beside them. What a call does is in `compute`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::compute::{Call, Group};
use super::discovery::select::Selection;
use super::discovery::{DISCOVERY, Found, check};
use super::refusal::Refusal;
use super::server::Shared;
use super::{control, tokens};
use crate::faults::Fate;
use crate::http::wire::{Cut, CuttableListener};
use crate::journal::Request as Entry;

/// Where the public keys of identity tokens are.
pub(super) const JWKS: &str = "/oauth2/v3/certs";
/// Of one request; metadata may be half of it.
const MAX_BODY_BYTES: usize = 2 << 20;
/// How long `wait` waits at the most.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Serves until the token is cancelled.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let app = Router::new()
        .merge(control::routes())
        .route("/token", post(tokens::token))
        .route(JWKS, get(jwks))
        .fallback(call)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(shared);
    let service = app.into_make_service_with_connect_info::<Cut>();
    let serving = axum::serve(CuttableListener(listener), service)
        .with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(%error, "the cloud stopped serving");
    }
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Response {
    axum::Json(shared.keys.jwks()).into_response()
}

/// One call of an API, as it came.
struct Arrived {
    found: Found,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Body,
}

async fn call(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let Some(found) = DISCOVERY.find(parts.method.as_str(), &path) else {
        return unknown(&shared, &parts.method, &parts.uri);
    };
    let method = found.method.id.as_str();
    let fate = shared.faults(|faults| faults.fate(parts.method.as_str(), method, &path));
    pause(fate.before).await;
    let token = bearer(&parts.headers);
    let mut entry = Entry {
        at: shared.now(),
        method: parts.method.to_string(),
        route: method.to_owned(),
        path,
        token: if token.is_some() { "access" } else { "none" },
        status: None,
        scope: Group::of(method).map(Group::name),
    };
    if fate.drop {
        cut.cut();
        shared.journal(|journal| journal.push(entry));
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let query = read_query(&parts.uri);
    let arrived = Arrived { found, query, headers: parts.headers, body };
    let response = match refused_on_demand(&fate) {
        Some(refusal) => Err(refusal),
        None => arrived.answer(&shared).await,
    };
    let (status, value) = match response {
        Ok(value) => (StatusCode::OK, value),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.code);
            (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), refusal.body())
        }
    };
    pause(fate.after).await;
    if fate.lose_reply {
        cut.cut();
    } else {
        entry.status = Some(status.as_u16());
    }
    shared.journal(|journal| journal.push(entry));
    reply(status, &value, fate.retry_after)
}

/// Even a sleep of no length takes a while.
async fn pause(length: Duration) {
    if !length.is_zero() {
        sleep(length).await;
    }
}

fn refused_on_demand(fate: &Fate) -> Option<Refusal> {
    let (code, message) = fate.status.clone()?;
    Some(Refusal::on_demand(code, message))
}

fn reply(status: StatusCode, value: &Value, retry_after: Option<f64>) -> Response {
    let mut response = (status, axum::Json(value)).into_response();
    let retry_after = retry_after.map(|seconds| HeaderValue::from_str(&seconds.to_string()));
    if let Some(Ok(value)) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
        .headers_mut()
        .insert(HeaderName::from_static("vary"), HeaderValue::from_static("Origin"));
    response
}

/// A path that no document has.
fn unknown(shared: &Shared, method: &Method, uri: &Uri) -> Response {
    let entry = Entry {
        at: shared.now(),
        method: method.to_string(),
        route: uri.path().to_owned(),
        path: uri.path().to_owned(),
        token: "none",
        status: Some(404),
        scope: None,
    };
    shared.journal(|journal| journal.push(entry));
    let words = format!("{method} {} (the sandbox plays no such method)", uri.path());
    reply(StatusCode::NOT_FOUND, &Refusal::not_found(&words).body(), None)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn read_query(uri: &Uri) -> Vec<(String, String)> {
    Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

impl Arrived {
    async fn answer(self, shared: &Arc<Shared>) -> Result<Value, Refusal> {
        let Self { found, query, headers, body } = self;
        let account = account(shared, &headers)?;
        if let Some(group) = Group::of(&found.method.id) {
            shared.compute(|compute, now| compute.count(group, &found.path, now))?;
        }
        let body = read_body(&headers, body).await?;
        let mut violations = check::parameters(&found, &query);
        violations.extend(check::request(&found, &body));
        if !violations.is_empty() {
            let words: Vec<String> = violations.into_iter().map(in_words).collect();
            return Err(Refusal::malformed(&words));
        }
        let selection = selection(&found, &query)?;
        let call = Call {
            method: &found.method.id,
            path: &found.path,
            query: &query,
            body: &body,
            account: account.as_deref(),
        };
        if found.method.id == "compute.zoneOperations.wait" {
            operation_done(shared, call).await;
        }
        let value = shared.compute(|compute, now| compute.call(call, now))?;
        let wrong = check::answer(&found, &value);
        if !wrong.is_empty() {
            let words: Vec<String> = wrong.into_iter().map(in_words).collect();
            tracing::error!(method = found.method.id, ?words, "an answer breaks its schema");
            return Err(Refusal::broken(&words.join("; ")));
        }
        Ok(match selection {
            Some(selection) => selection.cut(value),
            None => value,
        })
    }
}

fn in_words(violation: check::Violation) -> String {
    let check::Violation { at, words } = violation;
    if at.is_empty() || words.starts_with("Invalid JSON payload") {
        return words;
    }
    format!("Invalid value at '{at}': {words}")
}

/// Whose token it is; where tokens are needed, none or a bad one is refused.
fn account(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let needed = shared.look(|compute| compute.settings().need_token);
    let now = shared.now();
    let known = bearer(headers).and_then(|token| {
        let issued = shared.tokens(|tokens| tokens.account(token, now));
        issued.or_else(|| shared.self_signed(token))
    });
    if known.is_none() && needed { Err(Refusal::unauthenticated()) } else { Ok(known) }
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<Value, Refusal> {
    let bytes = axum::body::to_bytes(body, MAX_BODY_BYTES)
        .await
        .map_err(|error| Refusal::malformed(&[format!("the body cannot be read: {error}")]))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/json")) {
        let words = "the body must be of the content type application/json".to_owned();
        return Err(Refusal::malformed(&[words]));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::malformed(&[format!("Invalid JSON payload received. {error}")]))
}

fn selection(found: &Found, query: &[(String, String)]) -> Result<Option<Selection>, Refusal> {
    let Some((_, fields)) = query.iter().find(|(name, _)| name == "fields") else {
        return Ok(None);
    };
    let refused = |words: String| Refusal::malformed(&[words]);
    let selection = Selection::read(fields).map_err(refused)?;
    if let Some(answer) = &found.method.response {
        let schema = found.document.schema(answer);
        selection.check(found.document, schema).map_err(refused)?;
    }
    Ok(Some(selection))
}

/// Waits until the operation has ended, or for as long as Google does.
async fn operation_done(shared: &Arc<Shared>, call: Call<'_>) {
    let Some(name) = call.path.get("operation") else { return };
    let mut changes = shared.changes();
    let done = async {
        loop {
            changes.mark_unchanged();
            let waits = shared.look(|compute| {
                compute.operation(name).is_some_and(|operation| operation.ended_at.is_none())
            });
            if !waits || changes.changed().await.is_err() {
                return;
            }
        }
    };
    // That the time is up is an answer too: the operation as it is.
    let _ = timeout(LONGEST_WAIT, done).await;
}
