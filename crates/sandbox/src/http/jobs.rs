//! The calls about one job by its agent: acquire, start, log, finish, and more steps.

use std::io::Read;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::GzDecoder;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::gate::{OfJob, OfSession};
use super::reply::{Failure, Reply, done, id, read};
use crate::engine::{AgentFinish, Credential, Engine, Outcome};
use crate::pipeline;
use crate::server::Shared;

/// The agent that speaks for this job. Another job's token is refused, and so is another agent's.
fn owner(engine: &Engine, credential: &Credential, job: Uuid) -> Reply<Uuid> {
    let of = engine
        .job(job)
        .ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, format!("no job {job}")))?;
    let mine = match credential {
        Credential::Job { job: own } => *own == job,
        Credential::Session { agent } => of.agent == Some(*agent),
        Credential::Cluster { .. } | Credential::Acquisition { .. } => false,
    };
    of.agent
        .filter(|_| mine)
        .ok_or_else(|| Failure::new(StatusCode::FORBIDDEN, "this token is not for this job"))
}

pub(super) async fn acquire(
    State(shared): State<Arc<Shared>>,
    OfSession(agent): OfSession,
    Path(job): Path<String>,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    shared.engine(|engine, now| {
        let acquired = engine.acquire(job, agent, now)?;
        let settings = engine.settings();
        let of = engine.job(job);
        let runnable_at = of.and_then(|job| job.runnable_at);
        let mut answer = json!({
            "id": acquired.job,
            "state": "accepted",
            "token": acquired.token.expose_secret(),
            "chunks_max_size_bytes": settings.chunks_max_size_bytes,
            "chunks_interval_seconds": 1,
            "log_max_size_bytes": settings.log_limit_bytes,
            "runnable_at": runnable_at,
            "step": {},
            "env": acquired.env,
        });
        if let Some(matrix) = of.and_then(|job| job.command.matrix.as_ref()) {
            answer["matrix_permutation"] = json!(matrix);
        }
        Ok(Json(answer))
    })
}

pub(super) async fn state(
    State(shared): State<Arc<Shared>>,
    OfJob(credential): OfJob,
    Path(job): Path<String>,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    shared.engine(|engine, _| {
        owner(engine, &credential, job)?;
        let state = engine.job(job).map(|job| job.state);
        Ok(Json(json!({"id": job, "state": state})))
    })
}

pub(super) async fn start(
    State(shared): State<Arc<Shared>>,
    OfJob(credential): OfJob,
    Path(job): Path<String>,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    shared.engine(|engine, now| {
        let agent = owner(engine, &credential, job)?;
        engine.start(job, agent, now)?;
        Ok(done())
    })
}

#[derive(Deserialize)]
pub(super) struct ChunkPlace {
    sequence: u64,
    #[serde(default)]
    offset: u64,
}

pub(super) async fn chunk(
    State(shared): State<Arc<Shared>>,
    OfJob(credential): OfJob,
    Path(job): Path<String>,
    place: Result<Query<ChunkPlace>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    let Query(place) =
        place.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let limit = shared.engine(|engine, _| {
        owner(engine, &credential, job).map(|_| engine.settings().chunks_max_size_bytes)
    })?;
    let content = unpack(&headers, &body, u64::from(limit))?;
    shared.engine(|engine, now| {
        engine.put_chunk(job, place.sequence, place.offset, content, now)?;
        Ok(done())
    })
}

/// The chunk's own bytes, at most `limit` of them, however small they were packed.
fn unpack(headers: &HeaderMap, body: &[u8], limit: u64) -> Reply<Vec<u8>> {
    let mut content = Vec::new();
    let packed = headers.get(header::CONTENT_ENCODING).is_some_and(|how| how == "gzip");
    let read = if packed {
        GzDecoder::new(body).take(limit + 1).read_to_end(&mut content)
    } else {
        body.take(limit + 1).read_to_end(&mut content)
    };
    if let Err(error) = read {
        let why = format!("the chunk is not gzip: {error}");
        return Err(Failure::new(StatusCode::BAD_REQUEST, why));
    }
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > limit {
        let why = format!("the chunk is larger than {limit} bytes");
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    Ok(content)
}

#[derive(Deserialize)]
struct Finish {
    exit_status: String,
    #[serde(default)]
    signal: Option<String>,
    #[serde(default)]
    signal_reason: Option<String>,
    #[serde(default)]
    chunks_failed_count: u64,
}

pub(super) async fn finish(
    State(shared): State<Arc<Shared>>,
    OfJob(credential): OfJob,
    Path(job): Path<String>,
    body: Bytes,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    let told: Finish = read(&body)?;
    let exit_status = told.exit_status.parse().map_err(|_| {
        let why = format!("exit_status {:?} is not a number", told.exit_status);
        Failure::new(StatusCode::UNPROCESSABLE_ENTITY, why)
    })?;
    let present = |text: Option<String>| text.filter(|text| !text.is_empty());
    let finish = AgentFinish {
        outcome: Outcome {
            exit_status: Some(exit_status),
            signal: present(told.signal),
            signal_reason: present(told.signal_reason),
        },
        chunks_failed_count: told.chunks_failed_count,
    };
    shared.engine(|engine, now| {
        owner(engine, &credential, job)?;
        engine.finish(job, finish, now)?;
        Ok(done())
    })
}

/// Times of the log's headers, which old agents send beside the log; nobody reads them here.
pub(super) async fn header_times(OfJob(_): OfJob) -> Json<Value> {
    done()
}

#[derive(Deserialize)]
pub(super) struct SecretKey {
    #[serde(default)]
    key: String,
}

/// There are no secrets, so each is one that is not there; never a value that is made up.
pub(super) async fn secret(
    State(shared): State<Arc<Shared>>,
    OfJob(credential): OfJob,
    Path(job): Path<String>,
    Query(asked): Query<SecretKey>,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    shared.look(|engine| owner(engine, &credential, job))?;
    let why = format!("no secret {:?}: the sandbox has none", asked.key);
    Err(Failure::new(StatusCode::NOT_FOUND, why))
}

#[derive(Deserialize)]
struct Upload {
    uuid: Uuid,
    pipeline: Value,
    #[serde(default)]
    replace: bool,
}

pub(super) async fn upload_pipeline(
    State(shared): State<Arc<Shared>>,
    OfJob(credential): OfJob,
    Path(job): Path<String>,
    body: Bytes,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    let upload: Upload = read(&body)?;
    let refuse = |why: String| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    if upload.replace {
        return Err(refuse("--replace is not played by the sandbox".to_owned()));
    }
    let steps = pipeline::from_json(&upload.pipeline).map_err(|error| refuse(error.to_string()))?;
    shared.engine(|engine, now| {
        owner(engine, &credential, job)?;
        engine.upload_steps(job, upload.uuid, steps, now)?;
        Ok(done())
    })
}
