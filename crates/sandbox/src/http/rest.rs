//! The REST API: what is where, who may call it and how often. What the calls change is in the
//! engine's `people` and `records`.

mod agents;
mod annotations;
mod builds;
mod jobs;
mod place;
mod show;
mod token;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use buildkite::wire::ErrorBody;

use super::reply::Failure;
use crate::engine::{ApiToken, Refusal};
use crate::limiter::Quota;
use crate::server::Shared;

/// Where the API is.
pub(super) const PREFIX: &str = "/v2/";
/// The scope that the request journal names.
pub(super) const SCOPE: &str = "rest";

pub(super) fn routes() -> Router<Arc<Shared>> {
    let organization = "/v2/organizations/{organization}";
    let builds = format!("{organization}/pipelines/{{pipeline}}/builds");
    let build = format!("{builds}/{{number}}");
    let agents = format!("{organization}/agents");
    Router::new()
        .route("/v2/access-token", get(token::show).delete(token::revoke))
        .route(&format!("{organization}/builds"), get(builds::list))
        .route(&builds, get(builds::list))
        .route(&build, get(builds::show))
        .route(&format!("{build}/cancel"), put(builds::cancel))
        .route(&format!("{build}/jobs"), get(jobs::list))
        .route(&format!("{build}/annotations"), get(annotations::list).post(annotations::create))
        .route(&format!("{build}/annotations/{{annotation}}"), delete(annotations::remove))
        // A job can be asked for with its build and without.
        .merge(of_job(&format!("{build}/jobs/{{job}}")))
        .merge(of_job(&format!("{organization}/jobs/{{job}}")))
        .route(&agents, get(agents::list))
        .route(&format!("{agents}/{{agent}}"), get(agents::show))
        .route(&format!("{agents}/{{agent}}/stop"), put(agents::stop))
}

fn of_job(job: &str) -> Router<Arc<Shared>> {
    let annotations = format!("{job}/annotations");
    Router::new()
        .route(job, get(jobs::show))
        .route(&format!("{job}/env"), get(jobs::environment))
        .route(&format!("{job}/log"), get(jobs::log))
        .route(&format!("{job}/log.txt"), get(jobs::log_text))
        .route(&format!("{job}/retry"), put(jobs::retry))
        .route(&format!("{job}/reprioritize"), put(jobs::reprioritize))
        .route(&format!("{job}/unblock"), put(jobs::unblock))
        .route(&annotations, get(annotations::list).post(annotations::create))
        .route(&format!("{annotations}/{{annotation}}"), delete(annotations::remove))
}

/// Whose token a request brings.
pub(super) fn identify(shared: &Shared, headers: &HeaderMap) -> Result<ApiToken, Refusal> {
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let missing = || {
        let why = "Authentication required: an `Authorization: Bearer …` header is missing";
        Refusal::Unauthorized(why.to_owned())
    };
    let (scheme, token) = text.and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    shared.look(|engine| engine.api_token(token.trim()).cloned())
}

/// Lets a request on whose token is known, within its limits and its scopes.
pub(super) async fn admit(
    shared: &Shared,
    token: Result<ApiToken, Refusal>,
    route: &str,
    request: Request,
    next: Next,
) -> Response {
    let token = match token {
        Ok(token) => token,
        Err(refusal) => return Failure::from(refusal).into_response(),
    };
    if !shared.rate_limits {
        return within_scopes(shared, token, route, request, next).await;
    }
    let quotas = shared.minutes(|minutes| minutes.count(&token.user, shared.now()));
    let mut response = match quotas.iter().find(|quota| quota.exceeded) {
        Some(exceeded) => too_many(*exceeded),
        None => within_scopes(shared, token, route, request, next).await,
    };
    for (family, quota) in ["ratelimit", "ratelimit-user"].into_iter().zip(quotas) {
        tell(response.headers_mut(), family, quota);
    }
    response
}

async fn within_scopes(
    shared: &Shared,
    token: ApiToken,
    route: &str,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(scope) = scope_of(request.method(), route).filter(|scope| !token.may(scope)) {
        let why = format!("Forbidden: this call needs the scope {scope}, which the token lacks");
        return Failure::new(StatusCode::FORBIDDEN, why).into_response();
    }
    let asked = request.uri().path().strip_prefix("/v2/organizations/");
    let asked = asked.and_then(|rest| rest.split('/').next());
    if asked.is_some_and(|asked| shared.look(|e| e.settings().organization != asked)) {
        return Failure::new(StatusCode::NOT_FOUND, "No organization found").into_response();
    }
    request.extensions_mut().insert(token);
    next.run(request).await
}

/// What the token must be allowed for a call.
fn scope_of(method: &Method, route: &str) -> Option<&'static str> {
    let reads = method.is_safe();
    let last = route.rsplit('/').next().unwrap_or_default();
    Some(match last {
        "access-token" => return None,
        "env" => "read_job_env",
        "log" | "log.txt" => "read_build_logs",
        _ if route.contains("/agents") => {
            if reads {
                "read_agents"
            } else {
                "write_agents"
            }
        }
        _ if reads => "read_builds",
        _ => "write_builds",
    })
}

fn too_many(exceeded: Quota) -> Response {
    let seconds = exceeded.reset_s;
    let message = format!(
        "You have exceeded your API rate limit. Please wait {seconds} seconds before making more requests."
    );
    let body = ErrorBody {
        message,
        scope: Some(exceeded.scope.to_owned()),
        limit: Some(exceeded.limit),
        current: Some(exceeded.current),
        reset: Some(seconds),
    };
    (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response()
}

fn tell(headers: &mut HeaderMap, family: &'static str, quota: Quota) {
    let mut set = |name: &str, value: HeaderValue| {
        let name = header::HeaderName::try_from(format!("{family}-{name}"));
        headers.insert(name.expect("the names are fixed"), value);
    };
    set("scope", HeaderValue::from_static(quota.scope));
    set("limit", HeaderValue::from(quota.limit));
    set("remaining", HeaderValue::from(quota.remaining));
    set("reset", HeaderValue::from(quota.reset_s));
}
