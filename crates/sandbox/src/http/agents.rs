//! The calls of an agent's session: registration, connection, heartbeats and pings.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::gate::{OfSession, Registrant};
use super::reply::{Reply, done, read};
use crate::engine::NewAgent;
use crate::server::Shared;

#[derive(Deserialize)]
#[serde(default)]
struct Register {
    name: String,
    version: String,
    hostname: String,
    meta_data: Option<Vec<String>>,
    ignore_in_dispatches: bool,
}

impl Default for Register {
    fn default() -> Self {
        let empty = String::new;
        Self {
            name: empty(),
            version: empty(),
            hostname: empty(),
            meta_data: None,
            ignore_in_dispatches: false,
        }
    }
}

pub(super) async fn register(
    State(shared): State<Arc<Shared>>,
    Registrant(credential): Registrant,
    body: Bytes,
) -> Reply<Json<Value>> {
    let new: Register = read(&body)?;
    let meta_data = new.meta_data.unwrap_or_default();
    shared.engine(|engine, now| {
        let new = NewAgent {
            name: new.name,
            version: new.version,
            hostname: new.hostname,
            meta_data: meta_data.clone(),
            ignores_offers: new.ignore_in_dispatches,
        };
        let agent = engine.register_agent(&credential, new, now)?;
        let settings = engine.settings();
        Ok(Json(json!({
            "id": agent.id,
            "name": agent.name,
            "access_token": agent.session_token.expose_secret(),
            "endpoint": format!("{}/v3", settings.base_url),
            "ping_interval": settings.ping_interval_s,
            "job_status_interval": settings.job_status_interval_s,
            "heartbeat_interval": settings.heartbeat_interval_s,
            "meta_data": meta_data,
        })))
    })
}

pub(super) async fn connect(
    State(shared): State<Arc<Shared>>,
    OfSession(agent): OfSession,
) -> Reply<Json<Value>> {
    shared.engine(|engine, now| engine.connect(agent, now))?;
    Ok(done())
}

pub(super) async fn disconnect(
    State(shared): State<Arc<Shared>>,
    OfSession(agent): OfSession,
) -> Reply<Json<Value>> {
    shared.engine(|engine, now| engine.disconnect(agent, now))?;
    Ok(done())
}

pub(super) async fn heartbeat(
    State(shared): State<Arc<Shared>>,
    OfSession(agent): OfSession,
    body: Bytes,
) -> Reply<Json<Value>> {
    let mut beat: serde_json::Map<String, Value> = read(&body)?;
    let now = shared.engine(|engine, now| engine.heartbeat(agent, now).map(|()| now))?;
    beat.insert("received_at".to_owned(), json!(now));
    Ok(Json(Value::Object(beat)))
}

/// Agents that acquire their job are never offered another one. All may be told to leave.
pub(super) async fn ping(
    State(shared): State<Arc<Shared>>,
    OfSession(agent): OfSession,
) -> Json<Value> {
    shared.engine(|engine, now| {
        let leave = engine.agent(agent).is_some_and(|agent| agent.stop_asked);
        let mut answer = json!({"action": if leave { "disconnect" } else { "" }, "message": ""});
        if let Some(job) = engine.offer(agent, now) {
            answer["job"] = json!({"id": job, "state": "assigned"});
        }
        Json(answer)
    })
}
