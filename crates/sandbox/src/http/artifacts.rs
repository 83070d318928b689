//! Artifacts: announced by the job, sent in forms without a token, found and fetched by others.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Multipart, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::gate::OfJob;
use super::reply::{Failure, Reply, done, id, read};
use crate::engine::{ArtifactState, NewArtifact, Search};
use crate::server::Shared;

/// Of one announcement; agents send thirty at a time.
const MAX_ANNOUNCED: usize = 1_000;

#[derive(Deserialize)]
struct Announce {
    id: Option<Value>,
    artifacts: Vec<File>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    path: String,
    absolute_path: String,
    glob_path: String,
    file_size: u64,
    sha1sum: String,
    sha256sum: String,
    content_type: String,
}

pub(super) async fn announce(
    State(shared): State<Arc<Shared>>,
    OfJob(_): OfJob,
    Path(job): Path<String>,
    body: Bytes,
) -> Reply<Json<Value>> {
    let job = id(&job)?;
    let told: Announce = read(&body)?;
    if told.artifacts.len() > MAX_ANNOUNCED {
        let why = format!("at most {MAX_ANNOUNCED} artifacts are announced together");
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let files = told
        .artifacts
        .into_iter()
        .map(|file| NewArtifact {
            path: file.path,
            absolute_path: file.absolute_path,
            glob_path: file.glob_path,
            file_size: file.file_size,
            sha1sum: file.sha1sum,
            sha256sum: file.sha256sum,
            content_type: file.content_type,
        })
        .collect();
    shared.engine(|engine, now| {
        let batch = engine.announce_artifacts(job, files, now)?;
        Ok(Json(json!({
            "id": told.id,
            "artifact_ids": batch.ids,
            "upload_instructions": {
                "action": {
                    "url": engine.settings().base_url,
                    "method": "POST",
                    "path": format!("/uploads/{}", batch.secret),
                    "file_input": "file",
                },
                "data": {"path": "${artifact:path}"},
            },
        })))
    })
}

/// One file's form: its path first, its bytes last. Whoever knows the secret may send it.
pub(super) async fn store(
    State(shared): State<Arc<Shared>>,
    Path(secret): Path<String>,
    mut form: Multipart,
) -> Reply<Json<Value>> {
    let broken = |error: axum::extract::multipart::MultipartError| {
        Failure::new(error.status(), error.body_text())
    };
    let mut path = None;
    let mut content = None;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await.map_err(broken)?;
        match name.as_str() {
            "path" => path = Some(String::from_utf8_lossy(&bytes).into_owned()),
            "file" => content = Some(bytes.to_vec()),
            _ => {}
        }
    }
    let (Some(path), Some(content)) = (path, content) else {
        let why = "the form needs a field `path` and a field `file`";
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    };
    shared.engine(|engine, _| engine.store_artifact(&secret, &path, content))?;
    Ok(done())
}

#[derive(Deserialize)]
struct Update {
    artifacts: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    id: Uuid,
    state: String,
}

pub(super) async fn update(
    State(shared): State<Arc<Shared>>,
    OfJob(_): OfJob,
    Path(job): Path<String>,
    body: Bytes,
) -> Reply<Json<Value>> {
    id(&job)?;
    let update: Update = read(&body)?;
    shared.engine(|engine, _| {
        for change in update.artifacts {
            let state = match change.state.as_str() {
                "finished" => ArtifactState::Finished,
                "error" => ArtifactState::Error,
                other => {
                    let why = format!("an artifact's state is finished or error, not {other:?}");
                    return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, why));
                }
            };
            engine.set_artifact_state(change.id, state)?;
        }
        Ok(done())
    })
}

#[derive(Deserialize)]
pub(super) struct Find {
    #[serde(default)]
    query: String,
    scope: Option<String>,
    #[serde(default)]
    include_retried_jobs: bool,
    #[serde(default)]
    include_duplicates: bool,
}

pub(super) async fn search(
    State(shared): State<Arc<Shared>>,
    OfJob(_): OfJob,
    Path(build): Path<String>,
    find: Result<Query<Find>, axum::extract::rejection::QueryRejection>,
) -> Reply<Json<Value>> {
    let build = id(&build)?;
    let Query(find) =
        find.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let search = Search {
        query: find.query,
        scope: find.scope.filter(|scope| !scope.is_empty()),
        include_retried_jobs: find.include_retried_jobs,
        include_duplicates: find.include_duplicates,
    };
    shared.engine(|engine, _| {
        let base = &engine.settings().base_url;
        let found: Vec<Value> = engine
            .search_artifacts(build, &search)?
            .into_iter()
            .map(|artifact| {
                json!({
                    "id": artifact.id,
                    "job_id": artifact.job,
                    "path": artifact.path,
                    "absolute_path": artifact.absolute_path,
                    "glob_path": artifact.glob_path,
                    "file_size": artifact.file_size,
                    "sha1sum": artifact.sha1sum,
                    "sha256sum": artifact.sha256sum,
                    "content_type": artifact.content_type,
                    "state": artifact.state,
                    "url": format!("{base}/artifacts/{}", artifact.id),
                })
            })
            .collect();
        Ok(Json(json!(found)))
    })
}

/// An artifact's bytes; its id is the permission.
pub(super) async fn download(
    State(shared): State<Arc<Shared>>,
    Path(artifact): Path<String>,
) -> Reply<Response> {
    let artifact = id(&artifact)?;
    let found = shared.engine(|engine, _| {
        engine.artifact(artifact).and_then(|a| a.content.clone().map(|c| (c, a.path.clone())))
    });
    let (content, path) = found.ok_or_else(|| {
        Failure::new(StatusCode::NOT_FOUND, format!("no artifact {artifact} has been sent"))
    })?;
    // Never shown as a page of this server, whatever a job has put in it.
    let name: String = path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_graphic() && *c != '"')
        .collect();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, content.to_vec()).into_response())
}
