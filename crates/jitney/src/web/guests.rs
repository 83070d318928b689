//! Where virtual machines come in: for their tokens, with their reports, and for the guest's own
//! program. Who they are and what they are told is their backend's to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{self, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use backends::gce::{Answer, Door, Reply};
use planner::{BackendName, JobId};
use serde::Deserialize;

use super::{Web, refusal};
use crate::input::Query;

/// The doors of all backends that have one.
pub(crate) type Doors = Arc<BTreeMap<BackendName, Arc<Door>>>;

pub(super) async fn token(
    State(web): State<Web>,
    Path(backend): Path<String>,
    body: Bytes,
) -> Response {
    let Some(door) = web.doors.get(&BackendName::new(&backend)) else { return nobody(&backend) };
    match door.token(&body).await {
        Reply::Answer(answer) => shown(answer),
        Reply::NoToken { job, attempt } => {
            match web.ask(|reply| Query::Token(JobId(job), attempt, reply)).await {
                Ok(Some(token)) => shown(Answer::token(&token)),
                Ok(None) => {
                    refusal(StatusCode::SERVICE_UNAVAILABLE, "there is no token for it yet")
                }
                Err(response) => response,
            }
        }
    }
}

pub(super) async fn report(
    State(web): State<Web>,
    Path(backend): Path<String>,
    body: Bytes,
) -> Response {
    match web.doors.get(&BackendName::new(&backend)) {
        Some(door) => shown(door.report(&body).await),
        None => nobody(&backend),
    }
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    /// `amd64` or `arm64`.
    arch: String,
}

/// The guest lies beside the program: `jitney-guest-arm64`, or without the processor's name where
/// it is of our own.
pub(super) async fn program(
    State(web): State<Web>,
    Path(backend): Path<String>,
    extract::Query(wanted): extract::Query<Wanted>,
) -> Response {
    if !web.doors.contains_key(&BackendName::new(&backend)) {
        return nobody(&backend);
    }
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let known = matches!(wanted.arch.as_str(), "amd64" | "arm64");
    let mut names = vec![format!("jitney-guest-{}", wanted.arch)];
    if wanted.arch == own {
        names.push("jitney-guest".to_owned());
    }
    let folder = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
    if let (Some(folder), true) = (folder, known) {
        for name in names {
            if let Ok(program) = tokio::fs::read(folder.join(name)).await {
                let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
                return (kind, Body::from(program)).into_response();
            }
        }
    }
    refusal(
        StatusCode::NOT_FOUND,
        "there is no guest for these processors beside the program; put jitney-guest-ARCH there, or into the machines' image",
    )
}

fn nobody(backend: &str) -> Response {
    refusal(StatusCode::NOT_FOUND, &format!("no machine of the backend {backend} comes in here"))
}

fn shown(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, kind, answer.body).into_response()
}
