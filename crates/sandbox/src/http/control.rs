//! The controls under `/_sandbox`: what a person does at Buildkite, and what a test does to it.
//! `docs/sandbox.md` describes each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::read_out;
use super::reply::{Failure, Reply, done, id, read};
use crate::engine::{
    Answers, Author, BlockedStep, Command, Engine, NewApiToken, NewBuild, NewStep, PullRequest,
    Quirks, SCOPES, StepKind,
};
use crate::faults::{Fault, Faults, OutageKind};
use crate::pipeline;
use crate::server::Shared;

/// Of jobs that one call creates.
const MAX_JOBS: u32 = 100_000;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_sandbox/hello", get(read_out::hello))
        .route("/_sandbox/builds", post(create_build).get(read_out::builds))
        .route("/_sandbox/builds/{id}", get(read_out::build))
        .route("/_sandbox/builds/{id}/cancel", post(cancel_build))
        .route("/_sandbox/builds/{id}/unblock", post(unblock))
        .route("/_sandbox/jobs", post(create_jobs).get(read_out::job_counts))
        .route("/_sandbox/jobs/{id}", get(read_out::job))
        .route("/_sandbox/jobs/{id}/log", get(read_out::log))
        .route("/_sandbox/jobs/{id}/log/raw", get(read_out::raw_log))
        .route("/_sandbox/jobs/{id}/cancel", post(cancel_job))
        .route("/_sandbox/jobs/{id}/retry", post(retry_job))
        .route("/_sandbox/queues", post(create_queue).get(read_out::queues))
        .route("/_sandbox/queues/{key}/pause", post(pause_queue))
        .route("/_sandbox/queues/{key}/resume", post(resume_queue))
        .route("/_sandbox/access-tokens", post(issue_token))
        .route("/_sandbox/agents", get(read_out::agents))
        .route("/_sandbox/stacks", get(read_out::stacks))
        .route("/_sandbox/clock", post(advance_clock).get(read_out::clock))
        .route("/_sandbox/faults", post(add_fault).get(list_faults).delete(clear_faults))
        .route("/_sandbox/quirks", put(set_quirks).get(read_out::quirks))
        .route("/_sandbox/outage", post(begin_outage))
        .route("/_sandbox/requests", get(read_out::requests).delete(clear_requests))
        .route("/_sandbox/requests/counts", get(read_out::request_counts))
        .route("/_sandbox/reset", post(reset))
}

fn refuse(why: impl ToString) -> Failure {
    Failure::new(StatusCode::UNPROCESSABLE_ENTITY, why.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    #[serde(default = "demo")]
    pipeline: String,
    #[serde(default)]
    branch: String,
    #[serde(default)]
    commit: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    cluster: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// As Buildkite's own REST API names them.
    #[serde(default)]
    pull_request_id: Option<u64>,
    #[serde(default)]
    pull_request_repository: String,
    #[serde(default)]
    author: Option<Author>,
    /// A pipeline file's text.
    #[serde(default)]
    yaml: Option<String>,
    /// The same as JSON.
    #[serde(default)]
    steps: Option<Value>,
}

fn demo() -> String {
    "demo".to_owned()
}

async fn create_build(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Reply<(StatusCode, Json<Value>)> {
    let told: Build = read(&body)?;
    let steps = match (&told.yaml, told.steps) {
        (Some(yaml), None) => pipeline::from_yaml(yaml).map_err(refuse)?,
        (None, Some(steps)) => pipeline::from_json(&json!({"steps": steps})).map_err(refuse)?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(refuse("a build needs either `yaml` or `steps`"));
        }
    };
    let new = NewBuild {
        pipeline: told.pipeline,
        branch: told.branch,
        commit: told.commit,
        message: told.message,
        cluster: told.cluster,
        env: told.env,
        pull_request: told
            .pull_request_id
            .map(|id| PullRequest { id, repository: told.pull_request_repository }),
        author: told.author,
        steps,
    };
    shared.engine(|engine, now| {
        let build = engine.create_build(new, now)?;
        Ok((StatusCode::CREATED, Json(created(engine, build))))
    })
}

fn created(engine: &Engine, build: Uuid) -> Value {
    let of = engine.build(build).expect("it was created under the same lock");
    json!({"id": build, "number": of.number, "jobs": of.jobs().collect::<Vec<_>>()})
}

/// Many plain jobs in one build, for load.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jobs {
    #[serde(default = "one")]
    count: u32,
    #[serde(default = "demo")]
    pipeline: String,
    #[serde(default = "nothing")]
    command: String,
    #[serde(default)]
    agents: BTreeMap<String, String>,
    #[serde(default)]
    priority: i64,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

fn nothing() -> String {
    "true".to_owned()
}

async fn create_jobs(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Reply<(StatusCode, Json<Value>)> {
    let told: Jobs = read(&body)?;
    if told.count == 0 || told.count > MAX_JOBS {
        return Err(refuse(format!("count is {}: it must be 1 to {MAX_JOBS}", told.count)));
    }
    let command = Command {
        command: told.command,
        env: told.env,
        agents: told.agents.into_iter().collect(),
        priority: told.priority,
        ..Command::default()
    };
    let step = NewStep { kind: StepKind::Command(Box::new(command)), ..NewStep::wait() };
    let steps = (0..told.count).map(|_| step.clone()).collect();
    let new = NewBuild { pipeline: told.pipeline, steps, ..NewBuild::default() };
    shared.engine(|engine, now| {
        let build = engine.create_build(new, now)?;
        Ok((StatusCode::CREATED, Json(created(engine, build))))
    })
}

async fn cancel_build(
    State(shared): State<Arc<Shared>>,
    Path(build): Path<String>,
) -> Reply<Json<Value>> {
    let build = id(&build)?;
    shared.engine(|engine, now| engine.cancel_build(build, now))?;
    Ok(done())
}

async fn cancel_job(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<String>,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    shared.engine(|engine, now| engine.cancel_job(job, now))?;
    Ok(done())
}

async fn retry_job(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<String>,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    let again = shared.engine(|engine, now| engine.retry_job(job, now))?;
    Ok(Json(json!({"id": again})))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Unblock {
    step: Option<String>,
    fields: Answers,
}

async fn unblock(
    State(shared): State<Arc<Shared>>,
    Path(build): Path<String>,
    body: Bytes,
) -> Reply<Json<Value>> {
    let build = id(&build)?;
    let told: Unblock = if body.is_empty() { Unblock::default() } else { read(&body)? };
    let which = told.step.as_deref().map_or(BlockedStep::First, BlockedStep::Key);
    shared.engine(|engine, now| engine.unblock(build, which, &told.fields, now))?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewQueue {
    key: String,
    #[serde(default)]
    cluster: Option<String>,
}

async fn create_queue(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Reply<(StatusCode, Json<Value>)> {
    let told: NewQueue = read(&body)?;
    if told.key.is_empty() {
        return Err(refuse("a queue's key must not be empty"));
    }
    shared.engine(|engine, now| {
        let cluster = engine.cluster_named(told.cluster.as_deref())?;
        let queue = engine.add_queue(cluster, &told.key, now);
        Ok((StatusCode::CREATED, Json(json!({"id": engine.queues()[queue].id, "key": told.key}))))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    /// One is made up where it is left out.
    #[serde(default)]
    token: String,
    #[serde(default)]
    description: String,
    #[serde(default = "somebody")]
    user: String,
    /// All where it is left out.
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

fn somebody() -> String {
    "sandbox".to_owned()
}

async fn issue_token(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Reply<(StatusCode, Json<Value>)> {
    let told: NewToken = read(&body)?;
    let new = NewApiToken {
        token: told.token,
        description: told.description,
        user: told.user,
        scopes: told.scopes.unwrap_or_else(|| SCOPES.map(str::to_owned).into()),
    };
    let token = shared.engine(|engine, now| engine.issue_api_token(new, now))?;
    Ok((StatusCode::CREATED, Json(json!({"token": token}))))
}

async fn pause_queue(
    State(shared): State<Arc<Shared>>,
    Path(key): Path<String>,
) -> Reply<Json<Value>> {
    shared.engine(|engine, _| engine.pause_queue(&key, true))?;
    Ok(done())
}

async fn resume_queue(
    State(shared): State<Arc<Shared>>,
    Path(key): Path<String>,
) -> Reply<Json<Value>> {
    shared.engine(|engine, _| engine.pause_queue(&key, false))?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_s: f64,
}

async fn advance_clock(State(shared): State<Arc<Shared>>, body: Bytes) -> Reply<Json<Value>> {
    let told: Advance = read(&body)?;
    let by = Duration::try_from_secs_f64(told.advance_s)
        .ok()
        .filter(|by| by.as_secs() <= 366 * 24 * 3600)
        .ok_or_else(|| refuse("advance_s must be 0 or more, and at most a year"))?;
    shared.advance_clock(by);
    Ok(Json(json!({"now": shared.now()})))
}

async fn add_fault(State(shared): State<Arc<Shared>>, body: Bytes) -> Reply<Json<Value>> {
    let fault: Fault = read(&body)?;
    if fault.status.is_some_and(|status| !(200..=599).contains(&status)) {
        return Err(refuse("status must be 200 to 599"));
    }
    if fault.route.is_empty() {
        return Err(refuse("route is missing: give one as /_sandbox/requests shows them"));
    }
    shared.faults(|faults| faults.add(fault));
    Ok(done())
}

async fn list_faults(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.faults(|faults| json!(faults.list())))
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.faults(Faults::clear);
    done()
}

async fn set_quirks(State(shared): State<Arc<Shared>>, body: Bytes) -> Reply<Json<Value>> {
    let quirks: Quirks = read(&body)?;
    shared.engine(|engine, _| engine.quirks = quirks);
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    kind: OutageKind,
    seconds: f64,
}

async fn begin_outage(State(shared): State<Arc<Shared>>, body: Bytes) -> Reply<Json<Value>> {
    let told: Outage = read(&body)?;
    let length = Duration::try_from_secs_f64(told.seconds)
        .ok()
        .filter(|length| length.as_secs() <= 24 * 3600)
        .ok_or_else(|| refuse("seconds must be 0 or more, and at most a day"))?;
    let until = shared.now() + length;
    shared.faults(|faults| faults.begin_outage(told.kind, until));
    Ok(Json(json!({"until": until})))
}

async fn clear_requests(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.journal(crate::journal::Journal::clear);
    done()
}

async fn reset(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.reset();
    done()
}
