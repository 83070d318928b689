//! Who takes room from whom.

use planner::{BackendName, Cpu};

use super::job::job;
use super::scene::{Scene, here};

#[test]
fn what_a_paused_queue_has_claimed_keeps_no_other_queue_waiting() {
    let scene = Scene::new().queue("big", 1).limit_machines(1).taken(job(1)).reserved(1);
    let scene = scene.visible(job(2).queue("big"));
    assert!(!scene.plan().contains("reserve 2"), "{}", scene.plan());
    let paused = scene.change(|scene| {
        let jit = scene.seen.queues.get_mut(&"jit".into());
        jit.expect("the scene has it").paused = true;
    });
    assert!(paused.plan().contains("reserve 2"), "{}", paused.plan());
}

#[test]
fn a_large_job_that_is_made_elsewhere_keeps_no_small_one_waiting() {
    let there = BackendName::new("there");
    let scene = Scene::new().made(job(9).cpu(4), 1).change(|scene| {
        let (policy, seen) = (scene.policy.backends[&here()].clone(), &mut scene.seen.backends);
        let listed = seen[&here()].listed_at;
        seen.entry(there.clone()).or_default().listed_at = listed;
        scene.policy.backends.insert(there.clone(), policy);
        let here = scene.policy.backends.get_mut(&here()).expect("the scene has it");
        here.limits.cpu = Some(Cpu::from_millis(8_000));
    });
    let large = job(1).cpu(8);
    let waits = scene.visible(large.clone()).visible(job(2).cpu(2));
    assert!(!waits.plan().contains("reserve"), "the large one comes first: {}", waits.plan());
    let elsewhere = scene.visible(large.or_on("there")).visible(job(2).cpu(2));
    assert!(elsewhere.plan().contains("reserve 1 2"), "{}", elsewhere.plan());
}
