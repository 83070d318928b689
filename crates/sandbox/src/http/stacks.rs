//! The Stacks API's calls, with their shapes from the shared wire types.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use buildkite::wire;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::gate::OfCluster;
use super::reply::{Failure, Reply, done, id, read};
use crate::engine::PageRequest;
use crate::server::Shared;

/// Of a page, where the client does not say.
const DEFAULT_PAGE: usize = 100;

pub(super) async fn register(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
    body: Bytes,
) -> Reply<(StatusCode, Json<wire::Stack>)> {
    let new: wire::RegisterStack = read(&body)?;
    let (stack, is_new) = shared.engine(|engine, now| engine.register_stack(cluster, new, now))?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(stack)))
}

pub(super) async fn deregister(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
    Path(key): Path<String>,
) -> Reply<StatusCode> {
    shared.engine(|engine, _| engine.deregister_stack(cluster, &key))?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct List {
    queue_key: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
    Path(key): Path<String>,
    list: Result<Query<List>, QueryRejection>,
) -> Reply<Json<wire::ScheduledJobs>> {
    let refuse = |why: String| Failure::new(StatusCode::BAD_REQUEST, why);
    let Query(list) = list.map_err(|error| refuse(error.to_string()))?;
    let queue_key = list.queue_key.ok_or_else(|| refuse("queue_key is missing".to_owned()))?;
    let after = list.after.filter(|cursor| !cursor.is_empty());
    let after = after
        .map(|cursor| {
            from_cursor(&cursor).ok_or_else(|| refuse(format!("cursor {cursor:?} is not ours")))
        })
        .transpose()?;
    let request = PageRequest { queue_key, limit: list.limit.unwrap_or(DEFAULT_PAGE), after };
    let page = shared.engine(|engine, now| engine.list_scheduled(cluster, &key, &request, now))?;
    Ok(Json(wire::ScheduledJobs {
        jobs: page.jobs,
        page_info: wire::PageInfo {
            has_next_page: page.end.is_some(),
            end_cursor: page.end.map(to_cursor),
        },
        cluster_queue: page.queue,
    }))
}

fn to_cursor((at, sequence): (Timestamp, u64)) -> String {
    format!("{}-{sequence}", at.as_nanosecond())
}

fn from_cursor(cursor: &str) -> Option<(Timestamp, u64)> {
    let (at, sequence) = cursor.split_once('-')?;
    let at = Timestamp::from_nanosecond(at.parse().ok()?).ok()?;
    Some((at, sequence.parse().ok()?))
}

pub(super) async fn batch_reserve(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
    Path(key): Path<String>,
    body: Bytes,
) -> Reply<Json<wire::BatchReserved>> {
    let request: wire::BatchReserve = read(&body)?;
    let reply = shared.engine(|engine, now| engine.batch_reserve(cluster, &key, &request, now))?;
    Ok(Json(reply))
}

pub(super) async fn show_job(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
    Path((key, job)): Path<(String, String)>,
) -> Reply<Json<wire::JobDetail>> {
    let job = id(&job)?;
    Ok(Json(shared.engine(|engine, _| engine.show_job(cluster, &key, job))?))
}

pub(super) async fn get_states(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
    Path(key): Path<String>,
    body: Bytes,
) -> Reply<Json<wire::JobStates>> {
    let request: wire::GetStates = read(&body)?;
    Ok(Json(shared.engine(|engine, _| engine.job_states(cluster, &key, &request.job_uuids))?))
}

pub(super) async fn finish(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
    Path((key, job)): Path<(String, String)>,
    body: Bytes,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    let request: wire::FinishJob = read(&body)?;
    shared.engine(|engine, now| engine.stack_finish(cluster, &key, job, request, now))?;
    Ok(done())
}

pub(super) async fn notify(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
    Path(key): Path<String>,
    body: Bytes,
) -> Reply<Json<wire::NotificationErrors>> {
    let request: wire::Notifications = read(&body)?;
    Ok(Json(shared.engine(|engine, now| engine.notify(cluster, &key, request, now))?))
}

pub(super) async fn issue_tokens(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
    Path(key): Path<String>,
    body: Bytes,
) -> Reply<(StatusCode, Json<wire::IssuedTokens>)> {
    let request: wire::IssueTokens = read(&body)?;
    let reply = shared.engine(|engine, now| engine.issue_tokens(cluster, &key, &request, now))?;
    Ok((StatusCode::CREATED, Json(reply)))
}
