//! The controls and read-outs of the cloud, under `/_cloud`. They take no token, so they are for
//! loopback only; none is of a kind that a browser would send for another site's page unasked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::compute::{
    Capacity, Compute, Constraint, Grants, Image, Instance, Knobs, NewDisk, Rates, Timing,
};
use super::discovery::DISCOVERY;
use super::server::Shared;
use crate::faults::{Fault, Faults};

/// The furthest that one call moves the clock.
const FURTHEST_S: u64 = 366 * 24 * 3_600;

type Taken<T> = Result<Json<T>, JsonRejection>;
type Here = State<Arc<Shared>>;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_cloud/discovery", get(discovery))
        .route("/_cloud/knobs", get(knobs).put(set_knobs))
        .route("/_cloud/timing", get(timing).put(set_timing))
        .route("/_cloud/capacity", get(capacity).put(set_capacity))
        .route("/_cloud/quotas", get(quotas).put(set_quotas))
        .route("/_cloud/rates", get(rates).put(set_rates))
        .route("/_cloud/constraints", get(constraints).put(set_constraints))
        .route("/_cloud/permissions", get(permissions).put(set_permissions))
        .route("/_cloud/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_cloud/clock", get(clock).post(move_clock))
        .route("/_cloud/images", post(add_image))
        .route("/_cloud/disks", get(disks).post(leave_disk))
        .route("/_cloud/instances", get(instances))
        .route("/_cloud/instances/{zone}/{name}/preempt", put(preempt))
        .route("/_cloud/instances/{zone}/{name}/vanish", put(vanish))
        .route("/_cloud/instances/{zone}/{name}/power-off", put(power_off))
        .route("/_cloud/instances/{zone}/{name}/identity", get(identity))
        .route("/_cloud/instances/{zone}/{name}/serial", get(serial))
        .route("/_cloud/credentials/{kind}", get(credentials))
        .route("/_cloud/keys/rotate", put(rotate))
        .route("/_cloud/log", get(log).delete(clear_log))
        .route("/_cloud/counters", get(counters))
        .route("/_cloud/requests", get(requests).delete(clear_requests))
        .route("/_cloud/requests/counts", get(counts))
}

fn refused(words: impl Into<String>) -> Response {
    let body = json!({"message": words.into()});
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

fn absent(what: &str) -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"message": format!("there is no {what}")}))).into_response()
}

/// Reads a part of the state.
fn show<T: Serialize>(shared: &Arc<Shared>, look: impl FnOnce(&Compute) -> T) -> Response {
    Json(shared.compute(|compute, _| look(compute))).into_response()
}

/// Replaces a part of the state by what was sent.
fn take<T>(shared: &Arc<Shared>, sent: Taken<T>, set: impl FnOnce(&mut Compute, T)) -> Response {
    match sent {
        Ok(Json(sent)) => {
            shared.compute(|compute, _| set(compute, sent));
            StatusCode::NO_CONTENT.into_response()
        }
        Err(why) => refused(why.body_text()),
    }
}

async fn discovery() -> Response {
    let methods: Vec<&str> = DISCOVERY.method_ids().collect();
    Json(json!({"revisions": DISCOVERY.revisions(), "methods": methods})).into_response()
}

async fn knobs(State(shared): Here) -> Response {
    show(&shared, |compute| compute.knobs().clone())
}

async fn set_knobs(State(shared): Here, sent: Taken<Knobs>) -> Response {
    let now = shared.now();
    take(&shared, sent, |compute, knobs| compute.set_knobs(knobs, now))
}

async fn timing(State(shared): Here) -> Response {
    show(&shared, |compute| compute.timing.clone())
}

async fn set_timing(State(shared): Here, sent: Taken<Timing>) -> Response {
    take(&shared, sent, |compute, timing| compute.timing = timing)
}

async fn capacity(State(shared): Here) -> Response {
    show(&shared, |compute| compute.capacity.clone())
}

async fn set_capacity(State(shared): Here, sent: Taken<Vec<Capacity>>) -> Response {
    take(&shared, sent, |compute, capacity| compute.capacity = capacity)
}

async fn quotas(State(shared): Here) -> Response {
    show(&shared, |compute| compute.quotas().clone())
}

type Quotas = BTreeMap<String, BTreeMap<String, f64>>;

async fn set_quotas(State(shared): Here, sent: Taken<Quotas>) -> Response {
    take(&shared, sent, Compute::set_quotas)
}

async fn rates(State(shared): Here) -> Response {
    show(&shared, |compute| compute.rates.clone())
}

async fn set_rates(State(shared): Here, sent: Taken<Rates>) -> Response {
    take(&shared, sent, |compute, rates| compute.rates = rates)
}

async fn constraints(State(shared): Here) -> Response {
    show(&shared, |compute| compute.constraints.clone())
}

async fn set_constraints(State(shared): Here, sent: Taken<BTreeSet<Constraint>>) -> Response {
    take(&shared, sent, |compute, constraints| compute.constraints = constraints)
}

async fn permissions(State(shared): Here) -> Response {
    show(&shared, |compute| compute.grants.clone())
}

async fn set_permissions(State(shared): Here, sent: Taken<Grants>) -> Response {
    take(&shared, sent, |compute, grants| compute.grants = grants)
}

async fn faults(State(shared): Here) -> Response {
    Json(shared.faults(|faults| faults.list().to_vec())).into_response()
}

async fn add_fault(State(shared): Here, sent: Taken<Fault>) -> Response {
    match sent {
        Ok(Json(fault)) => {
            shared.faults(|faults| faults.add(fault));
            StatusCode::NO_CONTENT.into_response()
        }
        Err(why) => refused(why.body_text()),
    }
}

async fn clear_faults(State(shared): Here) -> Response {
    shared.faults(Faults::clear);
    StatusCode::NO_CONTENT.into_response()
}

async fn clock(State(shared): Here) -> Response {
    Json(json!({"now": shared.now()})).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ahead {
    advance_s: u64,
}

async fn move_clock(State(shared): Here, sent: Taken<Ahead>) -> Response {
    match sent {
        Ok(Json(Ahead { advance_s })) if advance_s <= FURTHEST_S => {
            shared.advance_clock(Duration::from_secs(advance_s));
            Json(json!({"now": shared.now()})).into_response()
        }
        Ok(_) => refused("the clock moves by a year at the most"),
        Err(why) => refused(why.body_text()),
    }
}

async fn add_image(State(shared): Here, sent: Taken<Image>) -> Response {
    take(&shared, sent, Compute::add_image)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    zone: String,
    name: String,
    #[serde(default = "balanced")]
    disk_type: String,
    #[serde(default = "ten")]
    size_gb: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn balanced() -> String {
    "pd-balanced".to_owned()
}

fn ten() -> u64 {
    10
}

async fn leave_disk(State(shared): Here, sent: Taken<Left>) -> Response {
    let now = shared.now();
    take(&shared, sent, |compute, left| {
        let Left { zone, name, disk_type, size_gb, labels } = left;
        let image = String::new();
        compute.leave_disk(&zone, NewDisk { name, disk_type, size_gb, labels, image }, now);
    })
}

async fn disks(State(shared): Here) -> Response {
    show(&shared, |compute| {
        let one = |disk: &super::compute::Disk| {
            json!({
                "zone": disk.zone, "name": disk.name, "type": disk.disk_type, "size_gb": disk.size_gb,
                "labels": disk.labels, "user": disk.user, "used_by": disk.used_by,
            })
        };
        compute.disks().map(one).collect::<Vec<_>>()
    })
}

fn machine(instance: &Instance) -> Value {
    json!({
        "zone": instance.zone, "name": instance.name, "id": instance.id.to_string(),
        "status": instance.status.shown(), "machine_type": instance.machine_type.name,
        "spot": instance.spot, "preempted": instance.preempted, "labels": instance.labels(),
        "created_at": instance.created_at, "started_at": instance.started_at,
        "stopped_at": instance.stopped_at, "terminates_at": instance.terminates_at,
    })
}

async fn instances(State(shared): Here) -> Response {
    show(&shared, |compute| compute.instances().map(machine).collect::<Vec<_>>())
}

type Place = Path<(String, String)>;

async fn preempt(State(shared): Here, Path((zone, name)): Place) -> Response {
    match shared.compute(|compute, now| compute.preempt(&zone, &name, now)) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(words) => refused(words),
    }
}

async fn vanish(State(shared): Here, Path((zone, name)): Place) -> Response {
    if shared.compute(|compute, now| compute.vanish(&zone, &name, now)) {
        return StatusCode::NO_CONTENT.into_response();
    }
    absent(&format!("machine {name} in {zone}"))
}

fn id_of(shared: &Arc<Shared>, zone: &str, name: &str) -> Option<u64> {
    shared.look(|compute| compute.instance(zone, name).map(|it| it.id))
}

async fn power_off(State(shared): Here, Path((zone, name)): Place) -> Response {
    let Some(id) = id_of(&shared, &zone, &name) else {
        return absent(&format!("machine {name} in {zone}"));
    };
    shared.compute(|compute, now| compute.power_off(id, now));
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Deserialize)]
struct Audience {
    audience: String,
}

async fn identity(
    State(shared): Here,
    Path((zone, name)): Place,
    Query(Audience { audience }): Query<Audience>,
) -> Response {
    let token =
        id_of(&shared, &zone, &name).and_then(|id| shared.identity_token(id, &audience, true));
    match token {
        Some(token) => Json(json!({"token": token})).into_response(),
        None => absent(&format!("machine {name} in {zone} with a service account")),
    }
}

async fn serial(State(shared): Here, Path((zone, name)): Place) -> Response {
    let output = shared.look(|compute| compute.instance(&zone, &name).map(Instance::serial_output));
    output.map_or_else(|| absent(&format!("machine {name} in {zone}")), IntoResponse::into_response)
}

async fn credentials(State(shared): Here, Path(kind): Path<String>) -> Response {
    match shared.credentials(&kind) {
        Some(credentials) => Json(credentials).into_response(),
        None => absent(&format!("kind of credentials {kind}: service_account or authorized_user")),
    }
}

async fn rotate(State(shared): Here) -> Response {
    shared.keys.rotate();
    StatusCode::NO_CONTENT.into_response()
}

async fn log(State(shared): Here) -> Response {
    show(&shared, |compute| compute.log().to_vec())
}

async fn clear_log(State(shared): Here) -> Response {
    shared.compute(|compute, _| compute.clear_log());
    StatusCode::NO_CONTENT.into_response()
}

async fn counters(State(shared): Here) -> Response {
    show(&shared, Compute::counters)
}

async fn requests(State(shared): Here) -> Response {
    let entries: Vec<_> = shared.journal(|journal| journal.entries().cloned().collect());
    Json(entries).into_response()
}

async fn counts(State(shared): Here) -> Response {
    Json(shared.journal(|journal| journal.counts().clone())).into_response()
}

async fn clear_requests(State(shared): Here) -> Response {
    shared.journal(crate::journal::Journal::clear);
    StatusCode::NO_CONTENT.into_response()
}
