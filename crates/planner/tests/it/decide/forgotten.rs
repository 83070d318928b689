//! A journal that has just begun, and backends of which not all have been listed yet.

use planner::BackendSeen;

use super::check;
use super::job::job;
use super::scene::Scene;

impl Scene {
    /// Another backend is set up that has not been listed.
    fn with_another_backend(&self) -> Self {
        self.change(|scene| {
            let like_here = scene.policy.backends.values().next().cloned().expect("one is there");
            scene.policy.backends.insert("there".into(), like_here);
            scene.seen.journal_since = scene.now;
        })
    }

    fn another_listed(&self) -> Self {
        self.change(|scene| {
            let (listed_at, first_listed_at) = (Some(scene.now), Some(scene.now));
            let seen = BackendSeen { listed_at, first_listed_at, ..BackendSeen::default() };
            scene.seen.backends.insert("there".into(), seen);
        })
    }
}

/// Reserved by a process whose journal has just begun.
fn reserved_again() -> Scene {
    Scene::new().with_another_backend().taken(job(1)).reserved(1).token(1, 1)
}

#[test]
fn all_first_listings_are_waited_for() {
    check(&reserved_again(), "; 1 waits: there unreachable, told");
    check(&reserved_again().another_listed(), "create 1/1 on here");
}

#[test]
fn a_backend_that_cannot_be_listed_keeps_nothing_from_the_others_for_long() {
    // Not under a number that a forgotten machine there may have.
    let scene = reserved_again().after(10).reserved(1).listed_now();
    check(&scene, "mint 1/32");
    check(&scene.token(1, 32), "create 1/32 on here");
}

#[test]
fn what_an_earlier_process_had_is_over_after_an_hour() {
    let scene = Scene::new().with_another_backend().after(3_601).listed_now();
    check(&scene.taken(job(1)).reserved(1).token(1, 1), "create 1/1 on here");
}

#[test]
fn a_job_whose_machine_is_found_is_not_decided_about_before_that_is_recorded() {
    // Buildkite refused it: somebody has it. Its machine, found in the same round, is ours.
    let scene = Scene::new().taken(job(1)).refused(1).machine(1, 2, "us");
    check(&scene, "fact 1/2 adopted");
}
