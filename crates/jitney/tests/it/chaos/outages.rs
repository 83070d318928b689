//! Buildkite or the machines' service is out of reach in the middle of 200 jobs: soon after it is
//! back every job has its machine, and none has run twice. `JITNEY_OUTAGE_SECONDS` says how long
//! the outages are; the test prints how long it then took.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sandbox::engine::EventKind;
use sandbox::machines::Faults;
use sandbox::{Fault, OutageKind};
use uuid::Uuid;

use super::parts::var;
use super::world::{World, each_ran_once};

/// By promise, from the outage's end to the last create.
const SOON: SignedDuration = SignedDuration::from_secs(10);
/// Long enough that every pause after a failure has reached its longest.
const USUAL: u64 = 8;

fn length() -> Duration {
    let told = var("JITNEY_OUTAGE_SECONDS").map(|text| text.parse().expect("seconds"));
    Duration::from_secs(told.unwrap_or(USUAL))
}

async fn world() -> World {
    let world = World::new().await;
    world.sandbox.add_fault(Fault {
        route: "/v3/*".to_owned(),
        delay_before_ms: 25,
        delay_after_ms: 25,
        ..Fault::default()
    });
    world
}

/// Half of the jobs are there before the outage and on their way when it begins; the others come
/// while it lasts.
async fn half(world: &World) -> Vec<Uuid> {
    let jobs = world.jobs(100, 1.0);
    world.reached(&jobs, 20, EventKind::Accepted).await;
    jobs
}

async fn check(what: &str, world: &World, jobs: &[Uuid], over: Timestamp) {
    each_ran_once(&world.ended(jobs).await);
    let made = world.made().await;
    assert_eq!(made.len(), jobs.len(), "each job had a machine");
    let last = made.values().filter_map(|made| made.last()).map(|noted| noted.at).max().unwrap();
    let first = made.values().flatten().map(|noted| noted.at).filter(|at| *at > over).min();
    let took = last.duration_since(over);
    let machines: usize = made.values().map(Vec::len).sum();
    eprintln!(
        "outage of {what}, {} s: first create {:.2} s and last {:.2} s after its end, {machines} \
         machines for {} jobs",
        length().as_secs(),
        first.map_or(f64::NAN, |first| first.duration_since(over).as_secs_f64()),
        took.as_secs_f64(),
        jobs.len()
    );
    assert!(took <= SOON, "the last create was sent {took:#} after the end of the outage");
}

async fn buildkite_is_out(kind: OutageKind) {
    let world = world().await;
    let program = world.start().await;
    let mut jobs = half(&world).await;
    let over = world.sandbox.now() + length();
    world.sandbox.begin_outage(kind, length());
    jobs.extend(world.jobs(100, 1.0));
    check(&format!("Buildkite ({kind:?})"), &world, &jobs, over).await;
    program.at_rest().await;
    world.no_machine_is_left().await;
    program.stop().await;
}

async fn machines_are_out(status: Option<u16>) {
    let world = world().await;
    world.set_faults(&Faults { create_delay_ms: 20, ..Faults::default() }).await;
    let program = world.start().await;
    let mut jobs = half(&world).await;
    let outage_ms = u64::try_from(length().as_millis()).unwrap();
    let outage = Faults { outage_ms, outage_status: status, ..Faults::default() };
    world.set_faults(&outage).await;
    let over = world.sandbox.now() + length();
    jobs.extend(world.jobs(100, 1.0));
    let why = program.until("the outage is told", |seen| {
        seen.backends.iter().find_map(|backend| backend.failing.clone())
    });
    assert!(!why.await.is_empty());
    check(&format!("the machines' service ({status:?})"), &world, &jobs, over).await;
    program.at_rest().await;
    world.no_machine_is_left().await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_buildkite_in_three_ways() {
    tokio::join!(
        buildkite_is_out(OutageKind::Drop),
        buildkite_is_out(OutageKind::Refuse),
        buildkite_is_out(OutageKind::Hang),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_machines_service_in_two_ways() {
    tokio::join!(machines_are_out(None), machines_are_out(Some(503)));
}
