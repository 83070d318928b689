//! Our clock and Buildkite's are an hour apart. Leases and tokens are reckoned by our own, from
//! when they were asked for, so that everything goes on; and no notification is lost over its time.

use std::time::Duration;

use jitney::clock::Clock;
use sandbox::engine::EventKind;
use sandbox::machines::Faults;

use super::world::{World, each_ran_once};
use crate::shell_support;

const HOUR: Duration = Duration::from_secs(3600);

async fn buildkites_clock_is_an_hour_ahead_of_ours() {
    let world = World::new().await;
    world.sandbox.advance(HOUR);
    let program = world.start().await;
    program.process.err.says("our clock and Buildkite's differ").await;
    let jobs = world.jobs(30, 0.2);
    let ended = world.ended(&jobs).await;
    each_ran_once(&ended);
    assert!(ended.iter().all(|job| !job.notifications.is_empty()), "a word was lost");
    program.at_rest().await;
    world.no_machine_is_left().await;
    assert_eq!(world.counters().await.made, 30);
    program.stop().await;
}

async fn our_clock_is_an_hour_ahead_of_everybody_elses() {
    let mut world = shell_support::World::new().await;
    world.clock = Clock::starting_at(world.clock.now().plus(HOUR));
    let program = world.start().await;
    let jobs = world.jobs(30);
    each_ran_once(&world.ended(&jobs).await);
    program.at_rest().await;
    program.stop().await;
    // Words are sent until they are taken, also after the job has ended.
    let told = |id: &uuid::Uuid| {
        world.sandbox.engine(|engine, _| !engine.job(*id).unwrap().notifications.is_empty())
    };
    assert!(jobs.iter().all(told), "a word was lost");
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.deleted, counters.alive), (30, 30, 0));
}

async fn our_clock_is_an_hour_behind_everybody_elses() {
    let mut world = shell_support::World::new().await;
    world.clock = Clock::starting_at(world.clock.now().minus(HOUR));
    let program = world.start().await;
    let jobs = world.jobs(30);
    each_ran_once(&world.ended(&jobs).await);
    program.at_rest().await;
    program.stop().await;
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.deleted, counters.alive), (30, 30, 0));
}

/// Jobs are claimed and have no machine when the program is killed; the next one starts with a
/// clock that was set meanwhile, so that leases in the journal end too late or too early.
async fn our_clock_is_set_between_two_starts(ahead_first: bool) {
    let mut world = shell_support::World::new().await;
    let right = world.clock;
    let wrong = Clock::starting_at(right.now().plus(HOUR));
    let (first, then) = if ahead_first { (wrong, right) } else { (right, wrong) };
    world.clock = first;
    let program = world.start().await;
    program.until("it is ready", |seen| seen.missing.is_empty().then_some(())).await;
    world.set_faults(&Faults { outage_ms: 3_600_000, ..Faults::default() }).await;
    let jobs = world.jobs(20);
    program.until("all are claimed", |seen| (seen.jobs.len() == 20).then_some(())).await;
    program.crash().await;
    world.clock = then;
    let program = world.start().await;
    world.set_faults(&Faults::default()).await;
    each_ran_once(&world.ended(&jobs).await);
    program.at_rest().await;
    program.stop().await;
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.deleted, counters.alive), (20, 20, 0), "{ahead_first}");
}

/// Buildkite's time passes and ours does not: what we believe to be ours has lapsed long ago.
async fn leases_lapse_without_our_noticing() {
    let world = World::new().await;
    let program = world.start().await;
    program.ready().await;
    world.set_faults(&Faults { outage_ms: 3_600_000, ..Faults::default() }).await;
    let jobs = world.jobs(20, 0.0);
    world.reached(&jobs, 20, EventKind::Reserved).await;
    world.sandbox.advance(HOUR);
    world.reached(&jobs, 20, EventKind::ReservedExpired).await;
    world.set_faults(&Faults::default()).await;
    each_ran_once(&world.ended(&jobs).await);
    program.at_rest().await;
    world.no_machine_is_left().await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_apart_either_way() {
    tokio::join!(
        buildkites_clock_is_an_hour_ahead_of_ours(),
        our_clock_is_an_hour_ahead_of_everybody_elses(),
        our_clock_is_an_hour_behind_everybody_elses(),
        our_clock_is_set_between_two_starts(true),
        our_clock_is_set_between_two_starts(false),
        leases_lapse_without_our_noticing(),
    );
}
