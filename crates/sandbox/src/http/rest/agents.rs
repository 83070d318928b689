//! Agents: those that are connected, one of them, and its stop.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use buildkite::rest::wire;
use serde::Deserialize;
use serde_json::json;

use super::place::{Asked, OfAgent};
use super::show;
use crate::engine::Connection;
use crate::http::reply::{Failure, Reply, read};
use crate::server::Shared;

/// The connected ones, in the order of their registration.
pub(super) async fn list(State(shared): State<Arc<Shared>>, asked: Asked) -> Reply<Response> {
    shared.look(|engine| {
        let is = |name: &str, value: &str| asked.one(name).is_none_or(|wanted| wanted == value);
        let mut found: Vec<_> = engine
            .agents()
            .filter(|agent| agent.connection == Connection::Connected)
            .filter(|a| {
                is("name", &a.name) && is("hostname", &a.hostname) && is("version", &a.version)
            })
            .collect();
        found.sort_by_key(|agent| (agent.registered_at, agent.id));
        let shown = found.into_iter().map(|agent| json!(show::agent(agent))).collect();
        asked.page(shown, &format!("{}/agents", show::organization_url(engine)))
    })
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    OfAgent(agent): OfAgent,
) -> Reply<Json<wire::Agent>> {
    let missing = || Failure::new(StatusCode::NOT_FOUND, "No agent found");
    shared.look(|engine| engine.agent(agent).map(show::agent).map(Json).ok_or_else(missing))
}

#[derive(Deserialize)]
struct Stop {
    #[serde(default = "yes")]
    force: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn stop(
    State(shared): State<Arc<Shared>>,
    OfAgent(agent): OfAgent,
    body: Bytes,
) -> Reply<StatusCode> {
    let told: Stop = if body.is_empty() { Stop { force: true } } else { read(&body)? };
    shared.engine(|engine, now| engine.stop_agent(agent, told.force, now))?;
    Ok(StatusCode::NO_CONTENT)
}
