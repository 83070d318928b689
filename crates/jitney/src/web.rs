//! What the program serves over HTTP: probes, metrics, the JSON API and Buildkite's webhook. It
//! asks the loop for everything and keeps nothing.

mod access;
mod guests;
mod metrics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use planner::{JobId, QueueKey};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;
use uuid::Uuid;

use crate::api::{Explained, Readiness};
use crate::clock::{Clock, to_jiff};
use crate::input::{Input, Query, Sender};
use crate::settings::Settings;

/// A webhook is a few kilobytes.
const LARGEST_BODY: usize = 1 << 20;
/// The loop answers between two rounds; longer than this and something is wrong.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many jobs `/api/history` names.
const HISTORY_MOST: u32 = 1_000;

pub(crate) use guests::Doors;

#[derive(Clone, Debug)]
pub(crate) struct Web {
    pub inbox: Sender,
    pub settings: watch::Receiver<Arc<Settings>>,
    pub wakes: Wakes,
    pub doors: Doors,
    pub clock: Clock,
}

/// What wakes each queue's listing.
#[derive(Clone, Debug)]
pub(crate) struct Wakes(Arc<BTreeMap<QueueKey, Arc<Notify>>>);

impl Wakes {
    pub(crate) fn new(queues: &[QueueKey]) -> Self {
        Self(Arc::new(queues.iter().map(|key| (key.clone(), Arc::new(Notify::new()))).collect()))
    }

    pub(crate) fn of(&self, queue: &QueueKey) -> Option<Arc<Notify>> {
        self.0.get(queue).cloned()
    }

    /// The named queue, or all of them where the hint names none that we know: it may be the
    /// default queue, which goes without a name.
    fn wake(&self, queue: Option<&str>) {
        match queue.and_then(|key| self.0.get(&QueueKey::new(key))) {
            Some(wake) => wake.notify_one(),
            None => self.0.values().for_each(|wake| wake.notify_one()),
        }
    }
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, web: Web) {
    let api = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/api/status", get(status))
        .route("/api/history", get(history))
        .route("/api/jobs/{id}", get(job))
        .route("/api/drain", post(drain).delete(resume))
        .layer(middleware::from_fn_with_state(web.clone(), access::check));
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/webhook", post(webhook))
        .route("/guests/{backend}/token", post(guests::token))
        .route("/guests/{backend}/report", post(guests::report))
        .route("/guests/{backend}/program", get(guests::program))
        .merge(api)
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is nothing here; what there is begins with /api/status, /metrics, /healthz or /readyz") })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(web);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the web server has ended");
    }
}

impl Web {
    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, Response> {
        let (reply, answer) = oneshot::channel();
        let sent = self.inbox.send(Input::Query(query(reply))).is_ok();
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) if sent => Ok(answer),
            Ok(_) | Err(_) => {
                Err(refusal(StatusCode::SERVICE_UNAVAILABLE, "the program does not answer itself"))
            }
        }
    }
}

fn refusal(status: StatusCode, words: &str) -> Response {
    (status, Json(json!({ "error": words }))).into_response()
}

async fn healthz(State(web): State<Web>) -> Response {
    match web.ask(Query::Ping).await {
        Ok(()) => "ok\n".into_response(),
        Err(response) => response,
    }
}

async fn readyz(State(web): State<Web>) -> Response {
    let missing = match web.ask(Query::Ready).await {
        Ok(missing) => missing,
        Err(response) => return response,
    };
    let ready = missing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, missing })).into_response()
}

async fn status(State(web): State<Web>) -> Response {
    match web.ask(Query::Snapshot).await {
        Ok(snapshot) => Json(snapshot).into_response(),
        Err(response) => response,
    }
}

async fn metrics_text(State(web): State<Web>) -> Response {
    match web.ask(Query::Snapshot).await {
        Ok(snapshot) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            (kind, metrics::render(&snapshot)).into_response()
        }
        Err(response) => response,
    }
}

async fn history(State(web): State<Web>) -> Response {
    match web.ask(|reply| Query::Recent(HISTORY_MOST, reply)).await {
        Ok(closed) => Json(closed).into_response(),
        Err(response) => response,
    }
}

async fn job(State(web): State<Web>, Path(id): Path<String>) -> Response {
    let Ok(id) = Uuid::parse_str(&id) else {
        return refusal(StatusCode::BAD_REQUEST, "a job is named by its UUID");
    };
    let job = JobId(id);
    let found = match web.ask(|reply| Query::Job(job, reply)).await {
        Ok(Some(explained)) => Some(*explained),
        Ok(None) => match web.ask(|reply| Query::History(job, reply)).await {
            Ok(closed) => closed.map(|closed| Explained::Closed(Box::new(closed))),
            Err(response) => return response,
        },
        Err(response) => return response,
    };
    match found {
        Some(explained) => Json(explained).into_response(),
        None => refusal(
            StatusCode::NOT_FOUND,
            "no such job is in our queues, in our hands or in the history",
        ),
    }
}

async fn drain(State(web): State<Web>) -> Response {
    set_draining(&web, true).await
}

async fn resume(State(web): State<Web>) -> Response {
    set_draining(&web, false).await
}

async fn set_draining(web: &Web, draining: bool) -> Response {
    match web.ask(|reply| Query::Drain(draining, reply)).await {
        Ok(()) => Json(json!({ "draining": draining })).into_response(),
        Err(response) => response,
    }
}

async fn webhook(State(web): State<Web>, headers: HeaderMap, body: Bytes) -> Response {
    let secret = web.settings.borrow().web.webhook_secret.clone();
    let Some(secret) = secret else {
        return refusal(StatusCode::NOT_FOUND, "buildkite.webhook_secret is not set");
    };
    let now = to_jiff(web.clock.now());
    match buildkite::webhook::receive(&secret, &headers, &body, now) {
        Ok(hint) => {
            if hint.event == "job.scheduled" {
                web.wakes.wake(hint.queue_key.as_deref());
            }
            Json(json!({ "event": hint.event })).into_response()
        }
        Err(refused @ buildkite::webhook::Refused::MalformedBody) => {
            refusal(StatusCode::BAD_REQUEST, &refused.to_string())
        }
        Err(refused) => {
            tracing::warn!(error = %refused, "a webhook was not believed");
            refusal(StatusCode::UNAUTHORIZED, &refused.to_string())
        }
    }
}
