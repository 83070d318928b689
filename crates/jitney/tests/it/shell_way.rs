//! The way of a job through the whole program: listed, reserved, made, run, removed.

use std::time::Duration;

use jitney::api::Explained;
use sandbox::engine::State;

use crate::shell_support::World;

#[tokio::test(flavor = "multi_thread")]
async fn one_job_gets_one_machine_and_nothing_is_left() {
    let world = World::new().await;
    let program = world.start().await;
    let jobs = world.build("steps: [{ command: x, env: { PLAY_SECONDS: \"1.5\" } }]");
    let ended = world.ended(&jobs).await;
    assert_eq!(ended[0].state, State::Finished);
    assert!(ended[0].outcome.is_success());
    program.at_rest().await;

    let counters = world.counters().await;
    assert_eq!((counters.made, counters.deleted, counters.alive), (1, 1, 0), "{counters:?}");
    let Some(Explained::Closed(closed)) = program.explain(jobs[0]).await else {
        panic!("the job is in the history")
    };
    assert_eq!((closed.outcome.as_str(), closed.attempts), ("finished", 1));
    let phases = closed.phases;
    let order = [
        phases.seen,
        phases.reserved,
        phases.asked,
        phases.created,
        phases.connected,
        phases.acquired,
        phases.gone,
    ];
    assert!(order.iter().all(Option::is_some), "{phases:?}");
    let told: Vec<_> = ended[0].notifications.iter().map(|told| told.detail.as_str()).collect();
    assert!(told.iter().any(|told| told.contains("there")), "{told:?}");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_jobs_each_run_once_on_a_machine_of_their_own() {
    let world = World::new().await;
    let program = world.start().await;
    let jobs = world.jobs(100);
    let ended = world.ended(&jobs).await;
    assert!(ended.iter().all(|job| job.state == State::Finished && job.outcome.is_success()));
    program.at_rest().await;
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.deleted, counters.alive), (100, 100, 0), "{counters:?}");
    assert_eq!(program.history().await.len(), 100);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_machines_running_and_the_next_one_takes_them_over() {
    let world = World::new().await;
    let program = world.start().await;
    let jobs = world.build("steps: [{ command: x, parallelism: 5, env: { PLAY_SECONDS: \"3\" } }]");
    world
        .until("all run", |engine| {
            let running =
                |id: &uuid::Uuid| engine.job(*id).is_some_and(|job| job.state == State::Running);
            jobs.iter().all(running).then_some(())
        })
        .await;
    let began = tokio::time::Instant::now();
    program.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(world.counters().await.alive, 5);

    let program = world.start().await;
    world.ended(&jobs).await;
    program.at_rest().await;
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.alive), (5, 0), "{counters:?}");
    program.stop().await;
}
