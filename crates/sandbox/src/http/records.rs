//! Meta-data and annotations, as the agent's commands inside a job ask for them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::gate::OfJob;
use super::reply::{Failure, Reply, done, id, read};
use crate::engine::{Engine, NewAnnotation};
use crate::server::Shared;

pub(super) async fn data_of_job(
    State(shared): State<Arc<Shared>>,
    OfJob(_): OfJob,
    Path((job, call)): Path<(String, String)>,
    body: Bytes,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    shared.engine(|engine, _| {
        let build = engine.build_of_job(job)?;
        data(engine, build, &call, &body)
    })
}

pub(super) async fn data_of_build(
    State(shared): State<Arc<Shared>>,
    OfJob(_): OfJob,
    Path((build, call)): Path<(String, String)>,
    body: Bytes,
) -> Reply<Json<Value>> {
    let build = id(&build)?;
    shared.engine(|engine, _| {
        let build = engine.build_index(build)?;
        data(engine, build, &call, &body)
    })
}

#[derive(Deserialize)]
struct Item {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Items {
    items: Vec<Item>,
}

fn data(engine: &mut Engine, build: usize, call: &str, body: &[u8]) -> Reply<Json<Value>> {
    match call {
        "set" => {
            let item: Item = read(body)?;
            engine.set_meta_data(build, &item.key, item.value)?;
            Ok(done())
        }
        "set-batch" => {
            for item in read::<Items>(body)?.items {
                engine.set_meta_data(build, &item.key, item.value)?;
            }
            Ok(done())
        }
        "get" => {
            let item: Item = read(body)?;
            let value = engine.builds()[build].meta_data.get(&item.key).ok_or_else(|| {
                Failure::new(StatusCode::NOT_FOUND, format!("no meta-data {:?}", item.key))
            })?;
            Ok(Json(json!({"key": item.key, "value": value})))
        }
        "exists" => {
            let item: Item = read(body)?;
            let exists = engine.builds()[build].meta_data.contains_key(&item.key);
            Ok(Json(json!({"exists": exists})))
        }
        "keys" => {
            let keys: Vec<&String> = engine.builds()[build].meta_data.keys().collect();
            Ok(Json(json!(keys)))
        }
        other => Err(Failure::new(StatusCode::NOT_FOUND, format!("nothing is at data/{other}"))),
    }
}

#[derive(Deserialize)]
struct Annotate {
    #[serde(default)]
    body: String,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    style: Option<String>,
    #[serde(default)]
    append: bool,
    #[serde(default)]
    priority: Option<u32>,
    #[serde(default)]
    scope: Option<String>,
}

fn on_job(scope: Option<&str>) -> Reply<bool> {
    match scope {
        None | Some("" | "build") => Ok(false),
        Some("job") => Ok(true),
        Some(other) => Err(Failure::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("scope {other:?} must be build or job"),
        )),
    }
}

pub(super) async fn annotate(
    State(shared): State<Arc<Shared>>,
    OfJob(_): OfJob,
    Path(job): Path<String>,
    body: Bytes,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    let told: Annotate = read(&body)?;
    let present = |text: Option<String>| text.filter(|text| !text.is_empty());
    let new = NewAnnotation {
        context: present(told.context).unwrap_or_else(|| "default".to_owned()),
        style: present(told.style),
        body: told.body,
        append: told.append,
        priority: told.priority.filter(|priority| *priority > 0),
        on_job: on_job(told.scope.as_deref())?,
    };
    shared.engine(|engine, now| engine.annotate(job, new, now))?;
    Ok(done())
}

#[derive(Deserialize)]
pub(super) struct Scope {
    scope: Option<String>,
}

pub(super) async fn remove_annotation(
    State(shared): State<Arc<Shared>>,
    OfJob(_): OfJob,
    Path((job, context)): Path<(String, String)>,
    Query(scope): Query<Scope>,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    let on_job = on_job(scope.scope.as_deref())?;
    shared.engine(|engine, _| engine.remove_annotation(job, &context, on_job))?;
    Ok(done())
}
