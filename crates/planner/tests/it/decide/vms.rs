//! Virtual machines: what is tried next after a refusal or a loss.

use std::sync::Arc;

use planner::{Event, Failure, FailureClass, LossStep, LostOn, Shortage};

use super::check;
use super::job::{Job, job};
use super::scene::Scene;

/// In the order of preference.
const VMS: [(&str, &str, bool); 6] = [
    ("r1-a", "n2", true),
    ("r1-b", "n2", true),
    ("r1-a", "e2", true),
    ("r2-a", "n2", true),
    ("r1-a", "n2", false),
    ("r1-b", "n2", false),
];

fn wanted(number: u128) -> Job {
    job(number).vms(&VMS)
}

fn ready(scene: &Scene, number: u128) -> Scene {
    scene.taken(wanted(number)).reserved(number).token(number, 1)
}

fn failure(class: FailureClass, metric: Option<&str>, room_in: &[&str]) -> Failure {
    let room_in = room_in.iter().map(|place| (*place).into()).collect();
    let shortage = Shortage { metric: metric.map(Into::into), room_in };
    let shortage = (shortage != Shortage::default()).then(|| Arc::new(shortage));
    Failure { class, words: "no".into(), retry_after: None, shortage }
}

impl Scene {
    /// So many of the offers, from the first on, were asked for and refused.
    fn refuses(&self, number: u128, nth: usize, failure: Failure) -> Self {
        let offer = wanted(number).request().offers[nth].clone();
        self.asked_for(number, 1, offer).failed(number, 1, failure)
    }
}

fn stockout() -> Failure {
    failure(FailureClass::Capacity, None, &[])
}

#[test]
fn a_stockout_is_of_one_type_in_one_place() {
    let scene = ready(&Scene::new(), 1);
    assert_eq!(scene.choice(1), "n2-standard-2 r1-a spot");
    let scene = scene.refuses(1, 0, stockout());
    assert_eq!(scene.choice(1), "n2-standard-2 r1-b spot");
    let scene = scene.refuses(1, 1, stockout());
    assert_eq!(scene.choice(1), "e2-standard-2 r1-a spot", "another type in the same place");
    let scene = scene.refuses(1, 2, stockout()).refuses(1, 3, stockout());
    assert_eq!(scene.choice(1), "n2-standard-2 r1-a", "the same type on demand");
    // It heals by itself, and whoever was kept away meanwhile did not make it last longer.
    assert_eq!(scene.after(4).choice(1), "n2-standard-2 r1-a");
    assert_eq!(scene.after(6).listed_now().choice(1), "n2-standard-2 r1-a spot");
}

#[test]
fn each_stockout_in_a_row_is_remembered_longer_and_a_machine_ends_it() {
    let once = ready(&Scene::new(), 1).refuses(1, 0, stockout());
    let twice = once.after(6).listed_now().refuses(1, 0, stockout());
    assert_eq!(twice.after(6).listed_now().choice(1), "n2-standard-2 r1-b spot");
    assert_eq!(twice.after(11).listed_now().choice(1), "n2-standard-2 r1-a spot");
    // Made in between by another job: the next one is the first again.
    let made = ready(&once.after(6).listed_now(), 2);
    let offer = wanted(2).request().offers[0].clone();
    let made = made.asked_for(2, 1, offer).answered(2, 1).after(1).refuses(1, 0, stockout());
    assert_eq!(made.after(6).listed_now().choice(1), "n2-standard-2 r1-a spot");
}

#[test]
fn places_in_which_there_is_room_are_believed() {
    let scene = ready(&Scene::new(), 1);
    // Room in c only: b is not tried for this type. Of another region nothing was said.
    let hint = failure(FailureClass::Capacity, None, &["r1-c"]);
    let scene = scene.refuses(1, 0, hint);
    assert_eq!(scene.choice(1), "e2-standard-2 r1-a spot");
    let scene = scene.refuses(1, 2, stockout());
    assert_eq!(scene.choice(1), "n2-standard-2 r2-a spot");
    let hint = failure(FailureClass::Capacity, None, &["r1-b", "r1-c"]);
    let scene = ready(&Scene::new(), 1).refuses(1, 0, hint);
    assert_eq!(scene.choice(1), "n2-standard-2 r1-b spot");
}

#[test]
fn a_quota_is_of_what_counts_in_it() {
    let scene = ready(&Scene::new(), 1);
    let after = |metric: Option<&str>| {
        scene.refuses(1, 0, failure(FailureClass::Quota, metric, &[])).choice(1)
    };
    assert_eq!(after(None), "e2-standard-2 r1-a spot", "the family's own, in its region");
    assert_eq!(after(Some("N2_CPUS")), "e2-standard-2 r1-a spot");
    assert_eq!(after(Some("CPUS")), "n2-standard-2 r2-a spot", "of e2, and of n2 too, it seems");
    assert_eq!(after(Some("PREEMPTIBLE_CPUS")), "n2-standard-2 r2-a spot");
    assert_eq!(after(Some("SSD_TOTAL_GB")), "n2-standard-2 r2-a spot", "of all in the region");
    assert_eq!(after(Some("LOCAL_SSD_TOTAL_GB")), "e2-standard-2 r1-a spot", "e2 has none");
    // A quota of the one family alone: the other takes its place.
    let e2 = scene.refuses(1, 2, failure(FailureClass::Quota, None, &[]));
    assert_eq!(e2.choice(1), "n2-standard-2 r1-a spot");
}

#[test]
fn a_denial_is_of_one_type_until_a_second_one_is_denied_there() {
    let denial = || failure(FailureClass::Denied, None, &[]);
    let first = ready(&Scene::new(), 1).refuses(1, 0, denial());
    assert_eq!(first.choice(1), "n2-standard-2 r1-b spot", "a policy may be about that place");
    let two = first.refuses(1, 1, denial());
    assert_eq!(two.choice(1), "e2-standard-2 r1-a spot", "or about that type");
    let place = two.refuses(1, 2, denial());
    assert_eq!(place.choice(1), "n2-standard-2 r2-a spot", "no third type is tried in that place");
    let place = place.refuses(1, 3, denial());
    assert_eq!(place.choice(1), "n2-standard-2 r1-b", "in r1-b only one type was denied");
    assert_eq!(
        place.after(6).listed_now().choice(1),
        "n2-standard-2 r1-a spot",
        "it may be mended"
    );
    // No room for one type is not a denial of another.
    let stocked_out = ready(&Scene::new(), 1).refuses(1, 0, stockout()).refuses(1, 2, denial());
    assert_eq!(stocked_out.choice(1), "n2-standard-2 r1-b spot");
    assert_eq!(stocked_out.refuses(1, 1, stockout()).choice(1), "n2-standard-2 r2-a spot");
    assert_eq!(
        stocked_out.refuses(1, 1, stockout()).refuses(1, 3, stockout()).choice(1),
        "n2-standard-2 r1-a"
    );
}

#[test]
fn whoever_gets_another_machine_is_told_what_refused_the_first() {
    let refused = ready(&Scene::new(), 1).refuses(1, 0, failure(FailureClass::Quota, None, &[]));
    let elsewhere = wanted(1).request().offers[2].clone();
    let made = |scene: &Scene, offer| {
        scene.asked_for(1, 1, offer).answered(1, 1).machine(1, 1, "us").listed_now()
    };
    check(
        &made(&refused, elsewhere),
        "tell 1: made, before: a quota is used up: no; 1 waits: starting, told",
    );
    let first = wanted(1).request().offers[0].clone();
    check(&made(&ready(&Scene::new(), 1), first), "; 1 waits: starting, told");
}

#[test]
fn older_ledgers_know_whole_places() {
    let scene = ready(&Scene::new(), 1).refuses(1, 0, stockout());
    let same = scene.reread(|_| ());
    assert_eq!(same.choice(1), "n2-standard-2 r1-b spot");
    let older = scene.reread(|json| json["cooling"][0][0] = serde_json::json!(["here", "r1-a"]));
    assert_eq!(older.choice(1), "n2-standard-2 r1-b spot");
    let next = older.refuses(1, 1, stockout());
    assert_eq!(next.choice(1), "n2-standard-2 r2-a spot", "e2 is in the same place");
}

#[test]
fn who_takes_the_place_of_a_lost_job_goes_elsewhere_and_not_on_spot() {
    let replaced = |place: &str, spot: bool| {
        let on = LostOn { backend: "here".into(), place: place.into(), spot };
        let loss = LossStep::Replaced { by: Scene::id(2), on: Some(on) };
        let scene = Scene::new();
        let at = scene.now;
        ready(&scene.record(Event::Loss { job: Scene::id(1), loss, at }), 2)
    };
    assert_eq!(replaced("r1-a", true).choice(2), "n2-standard-2 r1-b");
    assert_eq!(replaced("r1-b", true).choice(2), "n2-standard-2 r1-a");
    assert_eq!(replaced("r1-a", false).choice(2), "n2-standard-2 r1-b spot");
    // Every other place has no room: the same one is better than none.
    let full = replaced("r1-a", true).refuses(2, 5, stockout());
    assert_eq!(full.choice(2), "n2-standard-2 r1-a");
    // Another job is not concerned.
    assert_eq!(ready(&replaced("r1-a", true), 3).choice(3), "n2-standard-2 r1-a spot");
}

#[test]
fn a_retry_by_rule_stays_off_spot_before_anybody_knows_whose_place_it_takes() {
    let offer = wanted(1).request().offers[0].clone();
    let runs = Scene::new().taken(wanted(1)).reserved(1).asked_for(1, 1, offer).answered(1, 1);
    let (job, at) = (Scene::id(1), runs.now);
    let lost = runs.record(Event::Loss { job, loss: LossStep::Noticed { attempt: 1 }, at });
    let choice = |scene: &Scene, next: Job| {
        let number = next.number;
        scene.taken(next).reserved(number).token(number, 1).choice(number)
    };
    assert_eq!(choice(&lost, wanted(2).scheduled(1)), "n2-standard-2 r1-b");
    // Its machine is only about to be taken away.
    let leaving = runs.machine(1, 1, "us").listed_now().leaving(1, 1, "preempted");
    assert_eq!(choice(&leaving, wanted(2).scheduled(1)), "n2-standard-2 r1-b");
    // A job that was there before it is another one of the build, and no retry.
    assert_eq!(choice(&lost, wanted(2)), "n2-standard-2 r1-a spot");
    assert_eq!(choice(&runs, wanted(2).scheduled(1)), "n2-standard-2 r1-a spot");
    let loss = LossStep::Replaced { by: Scene::id(9), on: None };
    let known = lost.record(Event::Loss { job, loss, at });
    assert_eq!(choice(&known, wanted(2).scheduled(1)), "n2-standard-2 r1-a spot");
}

#[test]
fn a_machine_that_came_to_nothing_is_made_anew_in_another_place() {
    let offer = wanted(1).request().offers[0].clone();
    let scene = Scene::new().taken(wanted(1)).reserved(1).asked_for(1, 1, offer).answered(1, 1);
    let failure = failure(FailureClass::Lost, None, &[]);
    let (job, at) = (Scene::id(1), scene.now);
    let failed = Event::AttemptFailed { job, attempt: 1, failure, charged: true, at };
    let gone = Event::Gone { job, attempt: 1, at };
    let scene = scene.record(failed).record(gone).token(1, 2).after(5);
    let scene = scene.said(1, planner::JobState::Reserved).settled().listed_now();
    assert_eq!(scene.choice(1), "n2-standard-2 r1-b spot");
}

#[test]
fn what_refused_a_machine_after_its_create_is_as_if_it_had_refused_the_create() {
    let offer = wanted(1).request().offers[0].clone();
    let scene = Scene::new().taken(wanted(1)).reserved(1).asked_for(1, 1, offer).answered(1, 1);
    let refused = |metric: Option<&str>, room_in: &[&str]| {
        let class = if metric.is_some() { FailureClass::Quota } else { FailureClass::Capacity };
        let shortage = failure(class, metric, room_in).shortage;
        let scene = scene.machine(1, 1, "us").listed_now().ended_with(1, 1, |end| {
            (end.refused, end.shortage) = (Some(class), shortage);
        });
        let scene = scene.after(1).said(1, planner::JobState::Reserved).settled().token(1, 2);
        let scene = scene.after(2).said(1, planner::JobState::Reserved).settled().listed_now();
        scene.choice(1)
    };
    assert_eq!(
        refused(Some("SSD_TOTAL_GB"), &[]),
        "n2-standard-2 r2-a spot",
        "of all in the region"
    );
    assert_eq!(refused(None, &["r1-c"]), "e2-standard-2 r1-a spot", "b has no room either");
    assert_eq!(refused(None, &[]), "n2-standard-2 r1-b spot");
}

#[test]
fn an_attempt_that_is_given_up_says_what_its_backend_had_noted() {
    let offer = wanted(1).request().offers[0].clone();
    let scene = Scene::new().taken(wanted(1)).reserved(1).asked_for(1, 1, offer).answered(1, 1);
    let scene = scene.machine(1, 1, "us").noted(1, 1, "its serial port said last: no").after(301);
    let scene = scene.listed_now().said(1, planner::JobState::Reserved).settled();
    let attempt = scene.ledger.entry(Scene::id(1)).expect("it is there").attempts[0].clone();
    let words = attempt.failed.expect("nobody came in time").failure.words;
    assert_eq!(&*words, "no agent connected within 5m; its serial port said last: no");
}

#[test]
fn a_job_that_is_refused_here_and_there_does_not_wait_longer_each_time() {
    let mut scene = Scene::new().taken(wanted(1)).reserved(1);
    for attempt in 1..=4 {
        let offer = wanted(1).request().offers[usize::try_from(attempt).expect("small")].clone();
        scene = scene.asked_for(1, attempt, offer).answered(1, attempt).machine(1, attempt, "us");
        let refused = |end: &mut planner::EndSeen| end.refused = Some(FailureClass::Capacity);
        scene = scene.listed_now().ended_with(1, attempt, refused);
        scene = scene.after(1).said(1, planner::JobState::Reserved).settled();
        scene = scene.token(1, attempt + 1).after(2).said(1, planner::JobState::Reserved);
        scene = scene.settled().listed_now();
        assert!(scene.choice(1).starts_with("n2-standard-2"), "{attempt}: {}", scene.choice(1));
    }
}
