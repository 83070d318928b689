//! `GET /token` and the counts of queues, agents and jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use buildkite::wire;
use serde::Deserialize;
use serde_json::json;

use super::gate::OfCluster;
use super::reply::{Failure, Reply};
use crate::server::Shared;

const POLL_DURATION: [(&str, &str); 1] = [("buildkite-agent-metrics-poll-duration", "1")];

pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
) -> Json<wire::TokenIdentity> {
    Json(shared.engine(|engine, _| engine.token_identity(cluster)))
}

/// Counts of all queues that the token may see.
pub(super) async fn all(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
) -> impl IntoResponse {
    shared.engine(|engine, _| {
        let mut agents = wire::AgentCounts::default();
        let mut jobs = wire::JobCounts::default();
        let mut agents_by_queue = BTreeMap::new();
        let mut jobs_by_queue = BTreeMap::new();
        for (index, queue) in engine.queues().iter().enumerate() {
            if queue.cluster != cluster {
                continue;
            }
            let (of_agents, of_jobs) = engine.queue_metrics(index);
            agents.idle += of_agents.idle;
            agents.busy += of_agents.busy;
            agents.total += of_agents.total;
            jobs.scheduled += of_jobs.scheduled;
            jobs.running += of_jobs.running;
            jobs.waiting += of_jobs.waiting;
            jobs.total += of_jobs.total;
            agents_by_queue.insert(queue.key.clone(), of_agents);
            jobs_by_queue.insert(queue.key.clone(), of_jobs);
        }
        let body = json!({
            "agents": {"idle": agents.idle, "busy": agents.busy, "total": agents.total,
                       "queues": agents_by_queue},
            "jobs": {"scheduled": jobs.scheduled, "running": jobs.running,
                     "waiting": jobs.waiting, "total": jobs.total, "queues": jobs_by_queue},
            "organization": {"slug": engine.settings().organization},
            "cluster": {"name": engine.clusters()[cluster].name},
        });
        (POLL_DURATION, Json(body))
    })
}

#[derive(Deserialize)]
pub(super) struct Named {
    name: Option<String>,
}

pub(super) async fn queue(
    State(shared): State<Arc<Shared>>,
    OfCluster(cluster): OfCluster,
    Query(named): Query<Named>,
) -> Reply<impl IntoResponse> {
    let name = named
        .name
        .ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, "the queue's name is missing"))?;
    shared.engine(|engine, _| {
        let queues = engine.queues().iter();
        let index = queues.enumerate().find(|(_, q)| q.cluster == cluster && q.key == name);
        let (index, _) = index.ok_or_else(|| {
            Failure::new(StatusCode::NOT_FOUND, format!("no queue {name:?} in this cluster"))
        })?;
        let (agents, jobs) = engine.queue_metrics(index);
        let organization = wire::Organization { slug: engine.settings().organization.clone() };
        Ok((POLL_DURATION, Json(wire::QueueMetrics { agents, jobs, organization })))
    })
}
