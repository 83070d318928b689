//! Two installations with one name serve one queue, each with a journal of its own.

use std::collections::BTreeSet;

use super::program::Program;
use super::world::{World, each_ran_once};

#[tokio::test(flavor = "multi_thread")]
async fn two_installations_with_one_name_alarm_and_kill_nothing_of_each_other() {
    let world = World::new().await;
    let home = world.folder.path();
    let config = world.config_at("first.yaml", &home.join("first").join("jitney.db"));
    let first = Program::start(&config, home).await;
    let config = world.config_at("second.yaml", &home.join("second").join("jitney.db"));
    let second = Program::start(&config, home).await;
    first.ready().await;
    second.ready().await;
    let jobs = world.jobs(40, 3.0);
    let is_alarmed = |seen: &jitney::api::Snapshot| {
        seen.alarms.iter().any(|alarm| alarm.kind == "two_installations").then_some(())
    };
    tokio::select! {
        () = first.until("an alarm", is_alarmed) => {}
        () = second.until("an alarm", is_alarmed) => {}
    }
    each_ran_once(&world.ended(&jobs).await);
    first.at_rest().await;
    second.at_rest().await;
    world.no_machine_is_left().await;
    let made: BTreeSet<_> = world.made().await.into_keys().collect();
    assert_eq!(made.len(), jobs.len());
    first.stop().await;
    second.stop().await;
}
