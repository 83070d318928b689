//! Builds: which there are, one of them, and its cancel.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::place::{Asked, OfBuild, OfPipeline, refuse};
use super::show;
use crate::http::reply::Reply;
use crate::server::Shared;

/// The states that builds are asked for by.
const STATES: [&str; 9] = [
    "creating",
    "scheduled",
    "running",
    "passed",
    "failing",
    "failed",
    "blocked",
    "canceled",
    "canceling",
];

/// The newest first.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    OfPipeline(pipeline): OfPipeline,
    asked: Asked,
) -> Reply<Response> {
    let states: Vec<&str> = asked.all("state[]").chain(asked.all("state")).collect();
    if let Some(unknown) = states.iter().find(|state| !STATES.contains(state)) {
        let why = format!("state {unknown:?} is none of {}", STATES.join(", "));
        return Err(refuse(why));
    }
    let branches: Vec<&str> = asked.all("branch").chain(asked.all("branch[]")).collect();
    shared.look(|engine| {
        let builds = engine.builds().iter().rev().filter(|build| {
            let state = json!(build.state);
            (states.is_empty() || states.iter().any(|wanted| state == *wanted))
                && (branches.is_empty() || branches.contains(&build.branch.as_str()))
                && pipeline.as_ref().is_none_or(|slug| build.pipeline == *slug)
        });
        let shown = builds.map(|build| show::build(engine, build)).collect();
        let organization = show::organization_url(engine);
        let url = match &pipeline {
            Some(pipeline) => format!("{organization}/pipelines/{pipeline}/builds"),
            None => format!("{organization}/builds"),
        };
        asked.page(shown, &url)
    })
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    OfBuild(build): OfBuild,
) -> Json<Value> {
    Json(shared.look(|engine| show::build(engine, &engine.builds()[build])))
}

pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    OfBuild(build): OfBuild,
) -> Reply<Json<Value>> {
    shared.engine(|engine, now| {
        let id = engine.builds()[build].id;
        engine.cancel_as_asked(id, now)?;
        Ok(Json(show::build(engine, &engine.builds()[build])))
    })
}
