//! SIGTERM: the program is gone within 5 s, whatever answers; machines run on, and the next start
//! adopts them. Reading the configuration again is tested with the shell.

use std::time::Duration;

use rustix::process::Signal;
use sandbox::OutageKind;
use sandbox::engine::{EventKind, NewStep};

use super::program::STOP;
use super::world::{World, alive_below, each_ran_once, entries, soon};

async fn sigterm_leaves_machines_running_and_the_next_start_adopts_them() {
    let mut world = World::new().await;
    world.queue = "    limits: { machines: 5 }".to_owned();
    let program = world.start().await;
    let jobs = world.jobs(15, 3.0);
    world.reached(&jobs, 5, EventKind::Started).await;
    program.stop().await;
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.alive), (5, 5), "{counters:?}");
    // Those five end while nobody watches.
    world.reached(&jobs, 5, EventKind::Finished).await;
    assert_eq!(world.counters().await.made, 5, "nothing new without us");
    let program = world.start().await;
    each_ran_once(&world.ended(&jobs).await);
    program.at_rest().await;
    world.no_machine_is_left().await;
    assert_eq!(world.counters().await.made, 15);
    program.stop().await;
}

async fn sigterm_works_while_nothing_answers() {
    let world = World::new().await;
    let program = world.start().await;
    let jobs = world.jobs(20, 5.0);
    world.reached(&jobs, 10, EventKind::Started).await;
    world.sandbox.begin_outage(OutageKind::Hang, Duration::from_secs(6));
    let mut process = program.process;
    process.signal(Signal::TERM);
    let status = process.ended(STOP).await;
    assert!(status.success(), "{status}: {}", process.err.text());
    let program = world.start().await;
    each_ran_once(&world.ended(&jobs).await);
    program.at_rest().await;
    world.no_machine_is_left().await;
    program.stop().await;
}

async fn processes_outlive_the_program_and_clean_up_after_themselves() {
    let mut world = World::new().await;
    world.on_processes();
    let program = world.start().await;
    let jobs = world.build_steps(vec![NewStep::command("sleep 3"); 3]);
    world.reached(&jobs, 3, EventKind::Started).await;
    program.stop().await;
    each_ran_once(&world.ended(&jobs).await);
    let none = || alive_below(&world.builds()).is_empty();
    soon("no process is left though nobody watches", none).await;
    let program = world.start().await;
    program.ready().await;
    program.at_rest().await;
    soon("no directory is left", || entries(&world.builds().join("machines")).is_empty()).await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_outlive_a_sigterm() {
    tokio::join!(
        sigterm_leaves_machines_running_and_the_next_start_adopts_them(),
        sigterm_works_while_nothing_answers(),
        processes_outlive_the_program_and_clean_up_after_themselves(),
    );
}
