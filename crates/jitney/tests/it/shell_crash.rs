//! Killed at any moment and started anew: every job runs once, and no machine is left. Also what
//! becomes of jobs when the journal is lost, full, or when somebody else uses our name.

use std::time::Duration;

use jitney::api::JobPhase;
use sandbox::engine::{EventKind, Job, State};
use sandbox::machines::Faults;
use sandbox::{Fault, OutageKind};
use tokio::time::{Instant, sleep};

use crate::shell_support::World;

/// How long outages last, in seconds: longer than it takes to notice them.
const OUT: u64 = 4;

fn ran_once(job: &Job) -> bool {
    let starts = job.events.iter().filter(|event| matches!(event.kind, EventKind::Started));
    job.state == State::Finished && job.outcome.is_success() && starts.count() == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_at_any_moment_lose_nothing_and_run_nothing_twice() {
    let world = World::new().await;
    world.set_faults(&Faults { create_delay_ms: 60, ..Faults::default() }).await;
    let jobs =
        world.build("steps: [{ command: x, parallelism: 40, env: { PLAY_SECONDS: \"0.4\" } }]");
    for alive_ms in [60, 110, 160, 210, 260, 310] {
        let program = world.start().await;
        // The moment of the kill is what varies; nothing is waited for.
        sleep(Duration::from_millis(alive_ms)).await;
        program.crash().await;
    }
    let program = world.start().await;
    let ended = world.ended(&jobs).await;
    assert!(ended.iter().all(ran_once), "{:?}", ended.iter().find(|job| !ran_once(job)));
    program.at_rest().await;
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.alive), (40, 0), "{counters:?}");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_journal_and_the_call_repeats_the_call() {
    let world = World::new().await;
    // The intent to reserve is written down, and the call does not get through.
    let route = "/v3/stacks/{key}/scheduled-jobs/batch-reserve".to_owned();
    world.sandbox.add_fault(Fault { route, delay_before_ms: 60_000, ..Fault::default() });
    let jobs = world.jobs(3);
    let program = world.start().await;
    program.until("they are taken on", |snapshot| (snapshot.jobs.len() == 3).then_some(())).await;
    program.crash().await;

    world.sandbox.clear_faults();
    // Now the machines are asked for, and the answers do not come.
    world.set_faults(&Faults { create_delay_ms: 60_000, ..Faults::default() }).await;
    let program = world.start().await;
    program
        .until("machines are asked for", |snapshot| {
            let asked = |job: &jitney::api::Job| job.phase == JobPhase::Requested;
            (snapshot.jobs.len() == 3 && snapshot.jobs.iter().all(asked)).then_some(())
        })
        .await;
    program.crash().await;

    world.set_faults(&Faults::default()).await;
    let program = world.start().await;
    let ended = world.ended(&jobs).await;
    assert!(ended.iter().all(ran_once));
    program.at_rest().await;
    assert_eq!(world.counters().await.alive, 0);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_journal_costs_no_running_job_and_no_machine() {
    let world = World::new().await;
    let jobs = world.build("steps: [{ command: x, parallelism: 5, env: { PLAY_SECONDS: \"3\" } }]");
    let program = world.start().await;
    world
        .until("all run", |engine| {
            let running =
                |id: &uuid::Uuid| engine.job(*id).is_some_and(|job| job.state == State::Running);
            jobs.iter().all(running).then_some(())
        })
        .await;
    program.crash().await;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = world.journal().into_os_string();
        name.push(suffix);
        // Not all of them are there.
        let _ = std::fs::remove_file(name);
    }
    let program = world.start().await;
    let ended = world.ended(&jobs).await;
    assert!(ended.iter().all(ran_once));
    program.until("they were adopted", |s| (s.jobs.len() == 5).then_some(())).await;
    program.at_rest().await;
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.deleted, counters.alive), (5, 5, 0), "{counters:?}");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_journal_is_full_nothing_is_taken_and_what_runs_ends() {
    let world = World::new().await;
    let program = world.start().await;
    let first =
        world.build("steps: [{ command: x, parallelism: 3, env: { PLAY_SECONDS: \"1.5\" } }]");
    program
        .until("they run", |snapshot| {
            let runs = |job: &jitney::api::Job| job.phase == JobPhase::Acquired;
            (snapshot.jobs.len() == 3 && snapshot.jobs.iter().all(runs)).then_some(())
        })
        .await;
    // Somebody holds the file so that it takes no writes, as a full disk takes none.
    let mut tool = rusqlite::Connection::open(world.journal()).unwrap();
    let held = tool.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let ended = world.ended(&first).await;
    assert!(ended.iter().all(ran_once));
    program.until("it is noticed", |snapshot| snapshot.journal_full.then_some(())).await;
    let second = world.jobs(2);
    let waiting = program
        .until("the new ones wait", |snapshot| {
            let mut waiting = snapshot.waiting.clone();
            waiting.retain(|waiting| second.contains(&waiting.id.0));
            (waiting.len() == 2).then_some(waiting)
        })
        .await;
    assert!(waiting.iter().all(|waiting| waiting.reason == planner::Reason::JournalFull));
    program.at_rest().await;
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.alive), (3, 0), "machines go all the same: {counters:?}");

    held.commit().unwrap();
    let ended = world.ended(&second).await;
    assert!(ended.iter().all(ran_once));
    program.until("it takes writes", |snapshot| (!snapshot.journal_full).then_some(())).await;
    program.at_rest().await;
    assert_eq!(program.history().await.len(), 5, "what was kept was written then");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_installations_with_one_name_are_an_alarm() {
    let world = World::new().await;
    let program = world.start().await;
    program.until("it is ready", |snapshot| snapshot.missing.is_empty().then_some(())).await;
    // Another host with the same name, and so with another instance.
    let mut other = World::new().await;
    other.backends.clone_from(&world.backends);
    let others = other.start().await;
    let jobs = other.build("steps: [{ command: x, env: { PLAY_SECONDS: \"3\" } }]");
    let alarm = program.until("the alarm", |snapshot| snapshot.alarms.first().cloned()).await;
    assert_eq!(alarm.kind, "two_installations");
    let ended = other.ended(&jobs).await;
    assert!(ended.iter().all(ran_once), "nobody kills the other's machine");
    others.stop().await;
    program.stop().await;
}

/// Jobs come in while the world is out of reach, and some are under way when it begins.
async fn through_an_outage(length: Duration, begin: impl AsyncFnOnce(&World)) {
    let world = World::new().await;
    let program = world.start().await;
    let first =
        world.build("steps: [{ command: x, parallelism: 50, env: { PLAY_SECONDS: \"0.5\" } }]");
    program.until("some are taken", |snapshot| (snapshot.counts.taken > 0).then_some(())).await;
    begin(&world).await;
    let over = Instant::now() + length;
    let second = world.jobs(50);
    let jobs: Vec<_> = first.into_iter().chain(second).collect();
    let ended = world.ended(&jobs).await;
    let late = Instant::now().saturating_duration_since(over);
    assert!(ended.iter().all(ran_once), "{:?}", ended.iter().find(|job| !ran_once(job)));
    assert!(late < Duration::from_secs(10), "{late:?} after the outage");
    program.at_rest().await;
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.alive), (100, 0), "{counters:?}");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_buildkite_strands_no_job() {
    for kind in [OutageKind::Drop, OutageKind::Refuse, OutageKind::Hang] {
        let length = Duration::from_secs(OUT);
        through_an_outage(length, async |world| world.sandbox.begin_outage(kind, length)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_a_backend_strands_no_job() {
    for outage_status in [None, Some(503)] {
        let faults = Faults { outage_ms: OUT * 1000, outage_status, ..Faults::default() };
        let begin = async |world: &World| world.set_faults(&faults).await;
        through_an_outage(Duration::from_secs(OUT), begin).await;
    }
}
