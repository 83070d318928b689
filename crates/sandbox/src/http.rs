//! The HTTP of the sandbox: routes, and how a request reaches the engine.
//! It makes no decisions about jobs.

mod agents;
mod artifacts;
mod control;
mod gate;
mod jobs;
mod metrics;
mod read_out;
mod records;
mod reply;
mod rest;
mod stacks;
pub(crate) mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::{delete, get, post, put};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::pages;
use crate::server::Shared;
use reply::Failure;
use wire::{Cut, CuttableListener};

/// Of one request; an artifact is the largest thing that comes.
const MAX_BODY_BYTES: usize = 256 << 20;

/// Serves until the token is cancelled.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let service = router(shared).into_make_service_with_connect_info::<Cut>();
    let serving = axum::serve(CuttableListener(listener), service)
        .with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(%error, "the sandbox stopped serving");
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .merge(agent_routes())
        .merge(job_routes())
        .merge(stack_routes())
        .merge(rest::routes())
        .merge(control::routes())
        .merge(pages::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), gate::pass))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(shared)
}

fn agent_routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v3/register", post(agents::register))
        .route("/v3/connect", post(agents::connect))
        .route("/v3/disconnect", post(agents::disconnect))
        .route("/v3/heartbeat", post(agents::heartbeat))
        .route("/v3/ping", get(agents::ping))
        .route("/v3/token", get(metrics::token))
        .route("/v3/metrics", get(metrics::all))
        .route("/v3/metrics/queue", get(metrics::queue))
}

fn job_routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v3/jobs/{id}", get(jobs::state))
        .route("/v3/jobs/{id}/acquire", put(jobs::acquire))
        // An agent that was offered a job takes it so.
        .route("/v3/jobs/{id}/accept", put(jobs::acquire))
        .route("/v3/jobs/{id}/start", put(jobs::start))
        .route("/v3/jobs/{id}/chunks", post(jobs::chunk))
        .route("/v3/jobs/{id}/finish", put(jobs::finish))
        .route("/v3/jobs/{id}/header_times", post(jobs::header_times))
        .route("/v3/jobs/{id}/pipelines", post(jobs::upload_pipeline))
        .route("/v3/jobs/{id}/secrets", get(jobs::secret))
        .route("/v3/jobs/{id}/data/{call}", post(records::data_of_job))
        .route("/v3/builds/{id}/data/{call}", post(records::data_of_build))
        .route("/v3/jobs/{id}/annotations", post(records::annotate))
        .route("/v3/jobs/{id}/annotations/{context}", delete(records::remove_annotation))
        .route("/v3/jobs/{id}/artifacts", post(artifacts::announce).put(artifacts::update))
        .route("/v3/builds/{id}/artifacts/search", get(artifacts::search))
        .route("/uploads/{secret}", post(artifacts::store))
        .route("/artifacts/{id}", get(artifacts::download))
}

fn stack_routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v3/stacks/register", post(stacks::register))
        .route("/v3/stacks/{key}/deregister", post(stacks::deregister))
        .route("/v3/stacks/{key}/scheduled-jobs", get(stacks::list))
        .route("/v3/stacks/{key}/scheduled-jobs/batch-reserve", put(stacks::batch_reserve))
        .route("/v3/stacks/{key}/jobs/get-states", post(stacks::get_states))
        .route("/v3/stacks/{key}/jobs/{id}", get(stacks::show_job))
        .route("/v3/stacks/{key}/jobs/{id}/finish", post(stacks::finish))
        .route("/v3/stacks/{key}/notifications", post(stacks::notify))
        .route("/v3/stacks/{key}/job-acquisition-tokens", post(stacks::issue_tokens))
}

async fn unknown(uri: Uri) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, format!("nothing is at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let why = format!("{} does not take {method}", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, why)
}
