//! Annotations on the page of a build or of a job.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use buildkite::rest::wire;
use serde_json::json;

use super::place::{Asked, OfBoard, refuse};
use super::show;
use crate::engine::{Board, NewAnnotation};
use crate::http::reply::{Failure, Reply, read};
use crate::server::Shared;

const STYLES: [&str; 4] = ["success", "info", "warning", "error"];

/// Those of the page; a build shows those of its jobs, too, where `scope` asks for them.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    OfBoard { board, .. }: OfBoard,
    asked: Asked,
) -> Reply<Response> {
    shared.look(|engine| {
        let (mut boards, url) = match board {
            Board::Build(build) => {
                let build = &engine.builds()[build];
                let jobs = build.jobs().map(Board::Job).collect::<Vec<_>>();
                let boards = match asked.one("scope") {
                    None | Some("build") => vec![board],
                    Some("job") => jobs,
                    Some("all") => [vec![board], jobs].concat(),
                    Some(other) => {
                        return Err(refuse(format!("scope {other:?} is none of build, job, all")));
                    }
                };
                (boards, format!("{}/annotations", show::build_url(engine, build)))
            }
            Board::Job(job) => {
                let organization = show::organization_url(engine);
                (vec![board], format!("{organization}/jobs/{job}/annotations"))
            }
        };
        boards.dedup();
        let of = |board: &Board| {
            let all = engine.annotations(*board).iter();
            all.map(|one| json!(show::annotation(*board, one))).collect::<Vec<_>>()
        };
        asked.page(boards.iter().flat_map(of).collect(), &url)
    })
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    OfBoard { board, .. }: OfBoard,
    body: Bytes,
) -> Reply<(StatusCode, Json<wire::Annotation>)> {
    let told: wire::NewAnnotation = read(&body)?;
    let refuse = |why: &str| Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    if told.body.is_empty() {
        return refuse("Body can't be blank");
    }
    if told.style.as_ref().is_some_and(|style| !STYLES.contains(&style.as_str())) {
        return refuse("Style must be success, info, warning or error");
    }
    if told.priority.is_some_and(|priority| !(1..=10).contains(&priority)) {
        return refuse("Priority must be 1 to 10");
    }
    let new = NewAnnotation {
        context: told.context.filter(|c| !c.is_empty()).unwrap_or_else(|| "default".to_owned()),
        style: told.style,
        body: told.body,
        append: told.append.unwrap_or(false),
        priority: told.priority,
        on_job: matches!(board, Board::Job(_)),
    };
    let made = shared.engine(|engine, now| engine.annotate_on(board, new, now))?;
    Ok((StatusCode::CREATED, Json(show::annotation(board, &made))))
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    OfBoard { board, annotation }: OfBoard,
) -> Reply<StatusCode> {
    let id = annotation.ok_or_else(|| refuse("no annotation is named"))?;
    shared.engine(|engine, _| engine.remove_annotation_by_id(board, id))?;
    Ok(StatusCode::NO_CONTENT)
}
