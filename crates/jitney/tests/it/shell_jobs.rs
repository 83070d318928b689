//! Jobs with which something is the matter: foreign, wrong, cancelled, paused, unlucky.

use std::time::Duration;

use jitney::api::{Explained, JobPhase};
use planner::Reason;
use sandbox::engine::{NewStep, State};
use sandbox::machines::Faults;
use tokio::time::Instant;

use crate::shell_support::World;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_foreign_jobs_at_the_head_hide_nothing() {
    let world = World::new().await;
    let foreign = "steps: [{ command: x, parallelism: 2500, agents: { os: windows } }]";
    world.build(foreign);
    let ours = world.jobs(1);
    let program = world.start().await;
    assert_eq!(world.ended(&ours).await[0].state, State::Finished);
    let snapshot = program.status().await;
    assert_eq!(snapshot.queues[0].foreign, 2500);
    assert_eq!(world.counters().await.made, 1);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_near_miss_is_left_alone_and_named() {
    let world = World::new().await;
    let jobs = world.build("steps: [{ command: x, agents: { memroy: 4G } }]");
    let program = world.start().await;
    let waiting = program.until("it waits", |snapshot| snapshot.waiting.first().cloned()).await;
    assert!(matches!(waiting.reason, Reason::Foreign { .. }), "{waiting:?}");
    assert!(waiting.text.contains("memroy") && waiting.text.contains("memory"), "{waiting:?}");
    let engine_state = world.sandbox.engine(|engine, _| engine.job(jobs[0]).unwrap().state);
    assert_eq!(engine_state, State::Scheduled);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_parse_fails_the_job_with_the_remedy() {
    let world = World::new().await;
    let program = world.start().await;
    program.until("it is ready", |snapshot| snapshot.missing.is_empty().then_some(())).await;
    let began = Instant::now();
    let jobs = world.build("steps: [{ command: x, agents: { memory: \"64GB!\" } }]");
    let ended = world.ended(&jobs).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let detail = ended[0].detail.clone().unwrap_or_default();
    assert!(detail.contains("64GB!") && detail.contains("64G"), "{detail}");
    assert_eq!(world.counters().await.made, 0);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shape_that_nothing_offers_fails_the_job_and_says_what_there_is() {
    let mut world = World::new().await;
    let url = format!("http://{}", world.machines.address());
    world.backends =
        format!("there: {{ http: {{ url: \"{url}\", capacity: {{ cpu: 8, memory: 32G }} }} }}");
    let program = world.start().await;
    let jobs = world.build("steps: [{ command: x, agents: { cpu: 64 } }]");
    let detail = world.ended(&jobs).await[0].detail.clone().unwrap_or_default();
    assert!(detail.contains("64") && detail.contains("there"), "{detail}");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_while_its_machine_comes_up_loses_it() {
    let world = World::new().await;
    world.set_faults(&Faults { boot_delay_ms: 60_000, ..Faults::default() }).await;
    let program = world.start().await;
    let jobs = world.jobs(5);
    program
        .until("the machines are there", |snapshot| {
            let made = |job: &jitney::api::Job| job.phase == JobPhase::Created;
            (snapshot.jobs.len() == 5 && snapshot.jobs.iter().all(made)).then_some(())
        })
        .await;
    let began = Instant::now();
    for job in &jobs {
        world.sandbox.engine(|engine, now| engine.cancel_job(*job, now).unwrap());
    }
    while world.counters().await.alive > 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "machines of cancelled jobs live on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    program.at_rest().await;
    let Some(Explained::Closed(closed)) = program.explain(jobs[0]).await else {
        panic!("it is in the history")
    };
    assert_eq!(closed.outcome, "canceled");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_holds_its_jobs_until_it_goes_on() {
    let world = World::new().await;
    world.sandbox.engine(|engine, _| engine.pause_queue("default", true).unwrap());
    let jobs = world.jobs(2);
    let program = world.start().await;
    let waiting = program.until("it waits", |snapshot| snapshot.waiting.first().cloned()).await;
    assert_eq!(waiting.reason, Reason::QueuePaused);
    world.sandbox.engine(|engine, _| engine.pause_queue("default", false).unwrap());
    assert!(world.ended(&jobs).await.iter().all(|job| job.state == State::Finished));
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_come_to_nothing_are_made_anew_and_lost_replies_make_none_twice() {
    let world = World::new().await;
    let faults = Faults {
        die_before_acquire: 2,
        lose_create_reply: 2,
        lose_delete_reply: 2,
        fail_delete: 1,
        ..Faults::default()
    };
    world.set_faults(&faults).await;
    let program = world.start().await;
    let jobs = world.build_steps((0..6).map(|_| NewStep::command("x")).collect());
    let ended = world.ended(&jobs).await;
    assert!(ended.iter().all(|job| job.outcome.is_success()), "{ended:#?}");
    program.at_rest().await;
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.alive), (8, 0), "{counters:?}");
    program.stop().await;
}
