//! Read-outs under `/_sandbox`: everything that an assertion may want to see, as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::reply::{Failure, Reply, id};
use crate::engine::{Build, Engine, Job};
use crate::server::Shared;

/// By this a client that must not touch anything else knows a sandbox.
pub(super) async fn hello() -> Json<Value> {
    Json(json!({"sandbox": true}))
}

pub(super) async fn builds(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let builds = shared.look(|engine| engine.builds().iter().map(brief).collect::<Vec<_>>());
    Json(json!(builds))
}

fn brief(build: &Build) -> Value {
    json!({
        "id": build.id,
        "number": build.number,
        "pipeline": build.pipeline,
        "branch": build.branch,
        "message": build.message,
        "state": build.state,
        "created_at": build.created_at,
        "started_at": build.started_at,
        "finished_at": build.finished_at,
    })
}

pub(super) async fn build(
    State(shared): State<Arc<Shared>>,
    Path(build): Path<String>,
) -> Reply<Json<Value>> {
    let build = id(&build)?;
    shared.look(|engine| {
        let of = engine
            .build(build)
            .ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, format!("no build {build}")))?;
        let steps: Vec<Value> = of
            .steps
            .iter()
            .map(|step| {
                json!({"id": step.id, "key": step.key, "label": step.label, "state": step.state,
                       "group": step.group.map(|group| of.groups[group].id),
                       "omitted": step.omitted.as_ref().map(ToString::to_string),
                       "jobs": step.jobs})
            })
            .collect();
        let groups = of.groups.iter();
        let groups: Vec<Value> = groups
            .map(|group| json!({"id": group.id, "key": group.key, "label": group.label}))
            .collect();
        let jobs: Vec<Value> =
            of.jobs().filter_map(|job| engine.job(job)).map(|job| of_job(engine, job)).collect();
        let artifacts: Vec<_> = of.artifacts.iter().filter_map(|a| engine.artifact(*a)).collect();
        let mut all = brief(of);
        all["steps"] = json!(steps);
        all["groups"] = json!(groups);
        all["blocked_state"] = json!(of.blocked_state());
        all["jobs"] = json!(jobs);
        all["meta_data"] = json!(of.meta_data);
        all["annotations"] = json!(of.annotations);
        all["artifacts"] = json!(artifacts);
        Ok(Json(all))
    })
}

fn of_job(engine: &Engine, job: &Job) -> Value {
    json!({
        "id": job.id,
        "build": engine.builds()[job.build].id,
        "step_key": job.step_key,
        "label": job.label,
        "command": job.command.command,
        "queue": engine.queues()[job.queue].key,
        "agent_query_rules": job.rules,
        "priority": job.command.priority,
        "matrix": job.command.matrix,
        "state": job.state,
        "exit_status": job.outcome.exit_status,
        "signal": job.outcome.signal,
        "signal_reason": job.outcome.signal_reason,
        "soft_failed": job.soft_failed,
        "detail": job.detail,
        "reservation": job.reservation,
        "agent": job.agent.and_then(|agent| engine.agent(agent)),
        "created_at": job.created_at,
        "scheduled_at": job.scheduled_at,
        "runnable_at": job.runnable_at,
        "accepted_at": job.accepted_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "retry_count": job.retry_count,
        "retried_in": job.retried_in,
        "retry_of": job.retry_of,
        "events": job.events,
        "notifications": job.notifications,
        "repeated_notifications": job.repeated_notifications,
        "annotations": job.annotations,
        "chunks": job.log.sequences().collect::<Vec<_>>(),
        "chunks_failed_count": job.chunks_failed_count,
    })
}

pub(super) async fn job(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<String>,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    shared.look(|engine| Ok(Json(of_job(engine, known(engine, job)?))))
}

fn known(engine: &Engine, job: uuid::Uuid) -> Reply<&Job> {
    engine.job(job).ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, format!("no job {job}")))
}

/// How many jobs are in each state.
pub(super) async fn job_counts(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let counts = shared.look(|engine| {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for job in engine.jobs() {
            *counts.entry(job.state.name()).or_default() += 1;
        }
        counts
    });
    Json(json!(counts))
}

/// The log by offset, without time marks.
pub(super) async fn log(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<String>,
) -> Reply<impl IntoResponse> {
    let job = id(&job)?;
    let text = shared.look(|engine| known(engine, job).map(|job| job.log.text()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}

/// The log's bytes as they were sent, by sequence.
pub(super) async fn raw_log(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<String>,
) -> Reply<impl IntoResponse> {
    let job = id(&job)?;
    let bytes = shared.look(|engine| known(engine, job).map(|job| job.log.raw()))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes))
}

pub(super) async fn queues(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let queues = shared.look(|engine| {
        let all = engine.queues().iter().enumerate();
        all.map(|(index, queue)| {
            let (agents, jobs) = engine.queue_metrics(index);
            json!({
                "id": queue.id,
                "key": queue.key,
                "cluster": engine.clusters()[queue.cluster].name,
                "paused": queue.paused,
                "agents": agents,
                "jobs": jobs,
            })
        })
        .collect::<Vec<_>>()
    });
    Json(json!(queues))
}

pub(super) async fn agents(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.look(|engine| json!(engine.agents().collect::<Vec<_>>())))
}

pub(super) async fn stacks(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let stacks = shared.look(|engine| {
        let stacks = engine.stacks().map(|stack| {
            json!({
                "id": stack.id,
                "key": stack.key,
                "type": stack.kind,
                "queue": engine.queues()[stack.queue].key,
                "metadata": stack.metadata,
                "last_connected_on": stack.last_connected_on,
            })
        });
        stacks.collect::<Vec<_>>()
    });
    Json(json!(stacks))
}

pub(super) async fn clock(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({"now": shared.now()}))
}

pub(super) async fn quirks(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.look(|engine| json!(engine.quirks)))
}

pub(super) async fn requests(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.journal(|journal| json!(journal.entries().collect::<Vec<_>>())))
}

pub(super) async fn request_counts(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.journal(|journal| {
        let mut by_scope: BTreeMap<&str, u64> = BTreeMap::new();
        let mut by_token: BTreeMap<&str, u64> = BTreeMap::new();
        for request in journal.entries() {
            *by_token.entry(request.token).or_default() += 1;
            if let Some(scope) = request.scope {
                *by_scope.entry(scope).or_default() += 1;
            }
        }
        json!({"requests": journal.counts(), "by_scope": by_scope, "by_token": by_token})
    }))
}
