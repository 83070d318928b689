//! The service's HTTP: the three calls, and the controls. What a call means is in the fleet.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use backends::Class;
use backends::http::wire::{CreateRequest, Failure, ListQuery};
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;
use tokio::time::{Instant, sleep, timeout_at};

use super::faults::Faults;
use super::fleet::{Entry, Made};
use super::life::Life;

use super::{Counters, Shared};
use crate::http::wire::Cut;

/// The longest that a listing is held.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After a change, how long a held listing waits for more: one listing tells of a whole burst.
const SETTLE: Duration = Duration::from_millis(25);

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/machines", get(list))
        .route("/machines/{name}", put(create).delete(delete))
        .route("/_machines/faults", get(faults).put(set_faults))
        .route("/_machines/counters", get(counters))
        .route("/_machines/log", get(log).delete(clear_log))
        .route("/_machines/kill/{name}", put(kill))
        .with_state(shared)
}

fn fail(class: Class, message: impl Into<String>) -> Response {
    answer(Failure { class, message: message.into(), retry_after_s: None })
}

fn answer(failure: Failure) -> Response {
    let status = match failure.class {
        Class::Capacity | Class::Quota => StatusCode::CONFLICT,
        Class::Rate => StatusCode::TOO_MANY_REQUESTS,
        Class::Ambiguous => StatusCode::SERVICE_UNAVAILABLE,
        Class::Rejected => StatusCode::UNPROCESSABLE_ENTITY,
        Class::Denied => StatusCode::FORBIDDEN,
    };
    (status, Json(failure)).into_response()
}

impl Shared {
    /// What keeps one of the three calls out: an outage, or its token.
    fn refusal(&self, headers: &HeaderMap, cut: &Cut) -> Option<Response> {
        if let Some(status) = self.fleet.outage((self.now)()) {
            let Some(status) = status else {
                cut.cut();
                return Some(StatusCode::SERVICE_UNAVAILABLE.into_response());
            };
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            return Some((status, "an outage on demand").into_response());
        }
        let wanted = self.token.as_ref()?;
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or_default();
        if bool::from(given.as_bytes().ct_eq(wanted.expose_secret().as_bytes())) {
            None
        } else {
            Some(fail(Class::Denied, "the token is missing or wrong (Authorization: Bearer …)"))
        }
    }

    async fn pause(&self, millis: u64) {
        if millis > 0 {
            sleep(Duration::from_millis(millis)).await;
        }
    }
}

async fn list(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    headers: HeaderMap,
    Query(query): Query<ListQuery>,
) -> Response {
    if let Some(response) = shared.refusal(&headers, &cut) {
        return response;
    }
    shared.pause(shared.fleet.faults().list_delay_ms).await;
    if let Some(after) = &query.after {
        let wait = Duration::from_secs(query.wait.unwrap_or(0)).min(LONGEST_WAIT);
        another_version(&shared, after, wait).await;
        // An outage may have begun meanwhile.
        if let Some(response) = shared.refusal(&headers, &cut) {
            return response;
        }
    }
    Json(shared.fleet.list(&query.mark, (shared.now)())).into_response()
}

async fn another_version(shared: &Shared, after: &str, wait: Duration) {
    let until = Instant::now() + wait;
    let mut changes = shared.fleet.changes();
    let changed = async {
        while shared.fleet.version((shared.now)()) == after {
            if changes.changed().await.is_err() {
                return;
            }
        }
        sleep(SETTLE).await;
    };
    // That the time is up is an answer too: the same listing again.
    let _ = timeout_at(until, changed).await;
}

async fn create(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    headers: HeaderMap,
    Path(name): Path<String>,
    request: Result<Json<CreateRequest>, JsonRejection>,
) -> Response {
    let at = (shared.now)();
    if let Some(response) = shared.refusal(&headers, &cut) {
        return response;
    }
    let request = match request {
        Ok(Json(request)) => request,
        Err(why) => return fail(Class::Rejected, format!("the body is no order: {why}")),
    };
    if !is_name(&name) {
        let words = format!("`{name}` is no name: a letter, then letters, digits and dashes");
        return fail(Class::Rejected, words);
    }
    shared.pause(shared.fleet.faults().create_delay_ms).await;
    let answered = shared.fleet.create(&name, &request, at, (shared.now)());
    let response = match answered.what {
        Made::There => StatusCode::OK.into_response(),
        Made::Refused(failure) => answer(failure),
        Made::New { fate, reins, boot_delay_ms } => {
            let life = Life::new(name, request, fate, boot_delay_ms, reins);
            shared.lives.spawn(life.live(shared.clone()));
            StatusCode::CREATED.into_response()
        }
    };
    if answered.lost {
        cut.cut();
    }
    response
}

/// RFC 1035.
fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

async fn delete(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response {
    let at = (shared.now)();
    if let Some(response) = shared.refusal(&headers, &cut) {
        return response;
    }
    shared.pause(shared.fleet.faults().delete_delay_ms).await;
    let answered = shared.fleet.delete(&name, at, (shared.now)());
    if answered.lost {
        cut.cut();
    }
    if answered.what {
        StatusCode::NO_CONTENT.into_response()
    } else {
        fail(Class::Ambiguous, "a delete that fails on demand")
    }
}

async fn faults(State(shared): State<Arc<Shared>>) -> Json<Faults> {
    Json(shared.fleet.faults())
}

async fn set_faults(
    State(shared): State<Arc<Shared>>,
    faults: Result<Json<Faults>, JsonRejection>,
) -> Response {
    match faults {
        Ok(Json(faults)) => {
            shared.fleet.set_faults(faults, (shared.now)());
            StatusCode::NO_CONTENT.into_response()
        }
        Err(why) => fail(Class::Rejected, why.body_text()),
    }
}

async fn counters(State(shared): State<Arc<Shared>>) -> Json<Counters> {
    Json(shared.fleet.counters())
}

async fn log(State(shared): State<Arc<Shared>>) -> Json<Vec<Entry>> {
    Json(shared.fleet.log())
}

async fn clear_log(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.fleet.clear_log();
    StatusCode::NO_CONTENT
}

async fn kill(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    if shared.fleet.kill(&name) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        (StatusCode::NOT_FOUND, format!("there is no machine `{name}`")).into_response()
    }
}
