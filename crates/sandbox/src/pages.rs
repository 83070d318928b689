//! Pages to look at builds, jobs and queues in a browser, drawn by the server from the engine as
//! it is. Whatever a job or a stack has said is text to them, never markup. They decide nothing:
//! their buttons are the engine's own calls.

mod annotation;
mod build;
mod form;
mod front;
mod inline;
mod job;
mod layout;
mod queues;
mod steps;
mod terminal;
mod wording;

pub(crate) use annotation::html as annotation_html;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use maud::Markup;
use uuid::Uuid;

use crate::engine::{Answers, BlockedStep, Build, Engine, Refusal};
use crate::server::Shared;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(front_page))
        .route("/queues", get(queues_page))
        .route("/builds/{id}", get(build_page))
        .route("/builds/{id}/cancel", post(cancel_build))
        .route("/builds/{id}/unblock/{step}", post(unblock))
        .route("/{organization}/{pipeline}/builds/{number}", get(numbered_page))
        .route("/jobs/{id}", get(job_page))
        .route("/jobs/{id}/cancel", post(cancel_job))
        .route("/jobs/{id}/retry", post(retry_job))
        .route("/queues/{key}/pause", post(pause_queue))
        .route("/queues/{key}/resume", post(resume_queue))
}

/// Everything comes from the page itself, so a slip in it cannot load or send anything elsewhere.
const POLICY: [(&str, &str); 2] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data: 'self'; form-action 'self'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
];

fn show(
    shared: &Shared,
    draw: impl FnOnce(&Engine, Timestamp) -> Result<Markup, Refusal>,
) -> Response {
    let now = shared.now();
    match shared.look(|engine| draw(engine, now)) {
        Ok(page) => (POLICY, Html(page.into_string())).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::BadRequest(_)
        | Refusal::Unauthorized(_)
        | Refusal::Forbidden(_)
        | Refusal::TooLarge(_)
        | Refusal::Unprocessable(_)
        | Refusal::Locked(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let page = layout::message(&refusal.to_string());
    (status, POLICY, Html(page.into_string())).into_response()
}

fn missing(what: &str) -> Refusal {
    Refusal::NotFound(format!("There is no {what} here."))
}

async fn front_page(State(shared): State<Arc<Shared>>) -> Response {
    show(&shared, |engine, now| Ok(front::page(engine, now)))
}

async fn queues_page(State(shared): State<Arc<Shared>>) -> Response {
    show(&shared, |engine, now| Ok(queues::page(engine, now)))
}

/// By its id, or by a number: then the newest build that has it, whatever its pipeline.
async fn build_page(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    show(&shared, |engine, now| {
        let found = match (id.parse::<Uuid>(), id.parse::<u64>()) {
            (Ok(id), _) => engine.build(id),
            (_, Ok(number)) => engine.builds().iter().rfind(|build| build.number == number),
            (Err(_), Err(_)) => None,
        };
        let build = found.ok_or_else(|| missing(&format!("build {id}")))?;
        Ok(build::page(engine, build, now))
    })
}

/// Under the address that the build's own environment has.
async fn numbered_page(
    State(shared): State<Arc<Shared>>,
    Path((organization, pipeline, number)): Path<(String, String, u64)>,
) -> Response {
    show(&shared, |engine, now| {
        let here = engine.settings().organization == organization;
        let is = |build: &&Build| here && build.pipeline == pipeline && build.number == number;
        let build = engine.builds().iter().find(is);
        let build = build.ok_or_else(|| missing(&format!("build {number} of {pipeline}")))?;
        Ok(build::page(engine, build, now))
    })
}

async fn job_page(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    show(&shared, |engine, now| {
        let job = id.parse().ok().and_then(|id| engine.job(id));
        Ok(job::page(engine, job.ok_or_else(|| missing(&format!("job {id}")))?, now))
    })
}

/// Carries out what a button asks for, and shows where it leads.
fn act(
    shared: &Shared,
    call: impl FnOnce(&mut Engine, Timestamp) -> Result<String, Refusal>,
) -> Response {
    match shared.engine(call) {
        Ok(location) => Redirect::to(&location).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

async fn cancel_build(State(shared): State<Arc<Shared>>, Path(id): Path<Uuid>) -> Response {
    act(&shared, |engine, now| {
        engine.cancel_build(id, now)?;
        Ok(format!("/builds/{id}"))
    })
}

async fn unblock(
    State(shared): State<Arc<Shared>>,
    Path((build, step)): Path<(Uuid, Uuid)>,
    answers: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Response {
    let answers = match answers {
        Ok(Form(pairs)) => pairs.into_iter().collect(),
        // A plain button has nothing to say.
        Err(FormRejection::InvalidFormContentType(_)) => Answers::default(),
        Err(other) => return refused(&Refusal::BadRequest(other.to_string())),
    };
    act(&shared, |engine, now| {
        engine.unblock(build, BlockedStep::Id(step), &answers, now)?;
        Ok(format!("/builds/{build}"))
    })
}

async fn cancel_job(State(shared): State<Arc<Shared>>, Path(id): Path<Uuid>) -> Response {
    act(&shared, |engine, now| {
        engine.cancel_job(id, now)?;
        Ok(format!("/jobs/{id}"))
    })
}

async fn retry_job(State(shared): State<Arc<Shared>>, Path(id): Path<Uuid>) -> Response {
    act(&shared, |engine, now| engine.retry_job(id, now).map(|again| format!("/jobs/{again}")))
}

async fn pause_queue(State(shared): State<Arc<Shared>>, Path(key): Path<String>) -> Response {
    act(&shared, |engine, _| {
        engine.pause_queue(&key, true)?;
        Ok("/queues".to_owned())
    })
}

async fn resume_queue(State(shared): State<Arc<Shared>>, Path(key): Path<String>) -> Response {
    act(&shared, |engine, _| {
        engine.pause_queue(&key, false)?;
        Ok("/queues".to_owned())
    })
}
