//! Jobs of which a policy asks where their builds come from.

use std::sync::Arc;
use std::time::Duration;

use planner::{Event, Notice, Origin, OriginSeen, Request, Timestamp};

use super::check;
use super::job::{Job, job};
use super::scene::Scene;

impl Scene {
    /// What looks at the job have brought.
    fn looked(&self, number: u128, origin: OriginSeen) -> Self {
        self.each_queue(|queue| {
            queue.origins.insert(Scene::id(number), origin.clone());
        })
    }

    fn looks_not_before(&self, seconds: u64) -> Self {
        let at = self.now.plus(Duration::from_secs(seconds));
        self.each_queue(|queue| queue.look_not_before = at)
    }

    /// Taken on with what the strictest of its policies allow.
    fn taken_assuming(&self, job: Job, why: &str) -> Self {
        let request = Request { assumed: Some(why.into()), ..Request::clone(&job.request()) };
        self.record(Event::Taken {
            job: Scene::id(job.number),
            row: job.row(),
            request: Some(Arc::new(request)),
            doom: None,
            at: self.now,
        })
    }

    fn told_assumed(&self, number: u128) -> Self {
        let notice = Notice::Assumed { why: "403".into() };
        self.record(Event::Told { job: Scene::id(number), notice, at: self.now })
    }
}

fn failed(words: &str) -> OriginSeen {
    OriginSeen::Unknown { failures: 1, words: Some(words.into()), not_before: Timestamp::ZERO }
}

#[test]
fn a_job_that_a_policy_asks_about_is_looked_at_and_waits() {
    check(&Scene::new().visible(job(1).undecided()), "look 1; 1 waits: looking up, 0 ahead");
}

#[test]
fn others_do_not_wait_for_it() {
    let scene = Scene::new().limit_machines(1).visible(job(1).undecided()).visible(job(2));
    check(&scene, "look 1, reserve 2; 1 waits: looking up, 0 ahead");
}

#[test]
fn a_failed_look_is_repeated_when_its_time_has_come_and_told() {
    let scene = Scene::new().visible(job(1).undecided()).looked(1, failed("502"));
    check(&scene, "look 1; 1 waits: look failed: 502, 0 ahead, told");
    check(&scene.looks_not_before(2), "; 1 waits: look failed: 502, 0 ahead, told");
    let later = OriginSeen::Unknown {
        failures: 1,
        words: Some("502".into()),
        not_before: scene.now.plus(Duration::from_secs(2)),
    };
    check(&scene.looked(1, later.clone()), "; 1 waits: look failed: 502, 0 ahead, told");
    check(
        &scene.looked(1, later).after(2).listed_now(),
        "look 1; 1 waits: look failed: 502, 0 ahead, told",
    );
}

#[test]
fn what_is_known_is_not_looked_at_again_while_its_verdict_is_on_its_way() {
    for origin in [OriginSeen::Known(Origin::default()), OriginSeen::Denied { words: "403".into() }]
    {
        let scene = Scene::new().visible(job(1).undecided()).looked(1, origin);
        check(&scene, "; 1 waits: looking up, 0 ahead");
    }
}

#[test]
fn nothing_is_looked_at_where_nothing_is_taken() {
    let scene = Scene::new().visible(job(1).undecided());
    check(&scene.paused(), "; 1 waits: queue paused, 0 ahead, told");
    check(&scene.draining(), "; 1 waits: draining, 0 ahead, told");
}

fn looks(scene: &Scene) -> usize {
    scene.plan().split(';').next().unwrap_or_default().matches("look ").count()
}

#[test]
fn so_many_are_looked_at_at_once_and_no_more() {
    let scene = (1..=40).fold(Scene::new(), |scene, number| {
        scene.visible(job(number).scheduled(u64::try_from(number).unwrap()).undecided())
    });
    assert_eq!(looks(&scene), 32);
    let scene = (1..=40).fold(scene, |scene, number| scene.looked(number, failed("502")));
    assert_eq!(looks(&scene), 32, "those first in line, again");
}

#[test]
fn that_a_policy_counts_without_anybody_knowing_is_told_once() {
    let scene = Scene::new().taken_assuming(job(1), "403").reserved(1);
    check(&scene, "tell 1: assumed, mint 1/1");
    check(&scene.told_assumed(1), "mint 1/1");
}
