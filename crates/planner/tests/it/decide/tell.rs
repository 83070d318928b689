//! How often developers are told why their jobs wait.

use std::time::Duration;

use planner::{Cpu, Event};

use super::check;
use super::job::job;
use super::scene::Scene;

/// Each second the other one of two limits keeps the job back: how often its developer is told.
fn words_while_limits_take_turns(seconds: u64) -> usize {
    let mut scene = Scene::new().made(job(1), 1).visible(job(2));
    let mut words = 0;
    for second in 0..seconds {
        let machines = second.is_multiple_of(2);
        scene = scene.after(1).listed_now().change(|scene| {
            scene.policy.limits.machines = machines.then_some(1);
            scene.policy.limits.cpu = (!machines).then_some(Cpu::from_millis(1000));
        });
        for event in scene.intents() {
            let waits = matches!(&event, Event::Told { job, .. } if *job == Scene::id(2));
            words += usize::from(waits);
            if waits {
                scene = scene.record(event);
            }
        }
    }
    words
}

#[test]
fn a_machine_that_is_being_taken_away_is_told_of_while_its_agent_is_still_there() {
    let scene = Scene::new().running(job(1), 1).after(1).listed_now().leaving(1, 1, "preempted");
    assert!(scene.plan().starts_with("tell 1: taken"), "{}", scene.plan());
    check(&scene.told_cut_short(1, 1), "");
}

#[test]
fn limits_that_take_turns_are_one_story() {
    assert_eq!(words_while_limits_take_turns(50), 1);
    let words = words_while_limits_take_turns(600);
    assert!((4..=10).contains(&words), "{words} words in ten minutes");
}

#[test]
fn a_reason_that_was_not_told_before_is_told_at_once_and_then_seldom() {
    let limited = Scene::new().made(job(1), 1).visible(job(2)).limit_machines(1);
    let told =
        |scene: &Scene| scene.intents().into_iter().find(|event| event.job() == Scene::id(2));
    let scene = limited.record(told(&limited).expect("the limit is told"));
    let paused = scene.after(1).listed_now().paused();
    let paused = paused.record(told(&paused).expect("the pause is told"));
    let limited = paused.after(5).listed_now().each_queue(|queue| queue.paused = false);
    assert_eq!(told(&limited), None);
    let later = limited.change(|scene| scene.now = scene.now.plus(Duration::from_secs(55)));
    assert!(told(&later.listed_now()).is_some());
}
