//! Jobs: those of a build, one of them, and what may be done to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use buildkite::rest::wire::Job;
use serde::Deserialize;
use serde_json::{Value, json};

use super::place::{Asked, JobOrStep, OfBuild, OfJob, escaped, refuse};
use super::show;
use crate::engine::{Answers, Engine};
use crate::http::reply::{Reply, read};
use crate::server::Shared;

/// The states that jobs are asked for by.
const STATES: [&str; 21] = [
    "pending",
    "waiting",
    "waiting_failed",
    "blocked",
    "blocked_failed",
    "unblocked",
    "unblocked_failed",
    "scheduled",
    "assigned",
    "accepted",
    "running",
    "passed",
    "failed",
    "timed_out",
    "timing_out",
    "canceled",
    "canceling",
    "skipped",
    "broken",
    "expired",
    "limited",
];

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    OfBuild(build): OfBuild,
    asked: Asked,
) -> Reply<Json<Value>> {
    let states: Vec<&str> = asked.all("state[]").chain(asked.all("state")).collect();
    if let Some(unknown) = states.iter().find(|state| !STATES.contains(state)) {
        return Err(refuse(format!("state {unknown:?} is none of {}", STATES.join(", "))));
    }
    if asked.one("before").is_some() {
        return Err(refuse("before is not played by the sandbox: read on with after"));
    }
    let size = asked.per_page()?;
    let with_retried = asked.one("include_retried_jobs") != Some("false");
    let (mut jobs, url) = shared.look(|engine| {
        let build = &engine.builds()[build];
        (show::jobs(engine, build), format!("{}/jobs", show::build_url(engine, build)))
    });
    if let Some(after) = asked.one("after") {
        let at = jobs.iter().position(|job| job["id"] == after);
        let at = at.ok_or_else(|| refuse("after is no cursor of this list"))?;
        jobs.drain(..=at);
    }
    jobs.retain(|job| {
        (states.is_empty() || states.iter().any(|state| job["state"] == *state))
            && (with_retried || job["retried"] != true)
    });
    let more = jobs.len() > size;
    jobs.truncate(size);
    let filters: String = states.iter().map(|state| format!("&state[]={state}")).collect();
    let filters = if with_retried { filters } else { filters + "&include_retried_jobs=false" };
    let last = jobs.last().and_then(|job| job["id"].as_str()).unwrap_or_default();
    let next = format!("{url}?after={}&per_page={size}{filters}", escaped(last));
    let links = json!({
        "self": format!("{url}?per_page={size}{filters}"),
        "next": more.then_some(next),
    });
    Ok(Json(json!({"items": jobs, "links": links})))
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    JobOrStep(id): JobOrStep,
) -> Json<Value> {
    Json(shared.look(|engine| match engine.held_step(id) {
        Some((build, step)) => {
            let build = &engine.builds()[build];
            show::step(engine, build, &build.steps[step])
        }
        None => json!(shown(engine, id)),
    }))
}

/// A job that the path has found.
fn shown(engine: &Engine, id: uuid::Uuid) -> Job {
    show::job(engine, engine.job(id).expect("a job that was found is never removed"))
}

pub(super) async fn environment(
    State(shared): State<Arc<Shared>>,
    OfJob(job): OfJob,
) -> Json<Value> {
    let env: BTreeMap<String, String> = shared.look(|engine| engine.environment_of(job));
    Json(json!({"env": env}))
}

/// As JSON, or as text where that is asked for.
pub(super) async fn log(state: State<Arc<Shared>>, job: OfJob, headers: HeaderMap) -> Response {
    let wanted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if wanted.is_some_and(|wanted| wanted.starts_with("text/plain")) {
        return log_text(state, job).await.into_response();
    }
    let (State(shared), OfJob(job)) = (state, job);
    let (content, job) = shared.look(|engine| (log_of(engine, job), shown(engine, job)));
    let size = content.len();
    let body = json!({"url": job.log_url, "content": content, "size": size, "header_times": []});
    Json(body).into_response()
}

pub(super) async fn log_text(
    State(shared): State<Arc<Shared>>,
    OfJob(job): OfJob,
) -> impl IntoResponse {
    let text = shared.look(|engine| log_of(engine, job));
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text)
}

fn log_of(engine: &Engine, job: uuid::Uuid) -> String {
    engine.job(job).map_or_else(String::new, |job| job.log.text())
}

pub(super) async fn retry(
    State(shared): State<Arc<Shared>>,
    JobOrStep(job): JobOrStep,
) -> Reply<Json<Job>> {
    shared.engine(|engine, now| {
        let again = engine.retry_as_asked(job, now)?;
        Ok(Json(shown(engine, again)))
    })
}

#[derive(Deserialize)]
struct Reprioritize {
    priority: Value,
}

pub(super) async fn reprioritize(
    State(shared): State<Arc<Shared>>,
    OfJob(job): OfJob,
    body: Bytes,
) -> Reply<Json<Job>> {
    let told: Reprioritize = read(&body)?;
    let priority = told.priority.as_i64().ok_or_else(|| refuse("Priority must be an integer"))?;
    shared.engine(|engine, now| {
        engine.reprioritize(job, priority, now)?;
        Ok(Json(shown(engine, job)))
    })
}

#[derive(Default, Deserialize)]
struct Unblock {
    #[serde(default)]
    fields: Answers,
}

pub(super) async fn unblock(
    State(shared): State<Arc<Shared>>,
    JobOrStep(id): JobOrStep,
    body: Bytes,
) -> Reply<Json<Value>> {
    let told: Unblock = if body.is_empty() { Unblock::default() } else { read(&body)? };
    shared.engine(|engine, now| engine.unblock_step(id, &told.fields, now))?;
    Ok(show(State(shared), JobOrStep(id)).await)
}
