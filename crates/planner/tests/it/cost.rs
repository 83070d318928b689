//! What a round costs, as far as a shared machine can tell: eight times as many jobs must not cost
//! much more than eight times as much. The figure in milliseconds is what `cargo run --release -p
//! planner --example round` measures.

use std::sync::Arc;
use std::time::Duration;

use planner::{Event, JobId, Ledger, MachineSeen, Recorder, Timestamp};
use uuid::Uuid;

use crate::crowd::{Crowd, on_processor};

fn check_growth(few: &Crowd, many: &Crowd) {
    let (few, many) = (few.cost(160), many.cost(20));
    // In proportion would be 8 times; each with each other, 64 times.
    assert!(many < few * 24, "a crowd: {few:?}, one eight times as large: {many:?}");
}

#[test]
fn a_round_over_live_jobs_grows_with_their_number_only() {
    let crowd = |jobs| {
        let mut crowd = Crowd::at_work(jobs);
        crowd.settle();
        crowd
    };
    check_growth(&crowd(500), &crowd(4000));
}

#[test]
fn a_round_over_new_jobs_grows_with_their_number_only() {
    check_growth(&Crowd::at_the_door(500), &Crowd::at_the_door(4000));
}

/// Whoever writes rounds down is as quick as whoever decides them, also where all was seen anew.
#[test]
fn writing_a_round_down_costs_less_than_deciding_it() {
    const ROUNDS: u32 = 40;
    let mut crowd = Crowd::at_work(2000);
    crowd.settle();
    let mut later = crowd.seen.clone();
    for answer in later.answers.values_mut() {
        answer.asked_at = answer.asked_at.plus(Duration::from_secs(1));
    }
    for backend in later.backends.values_mut() {
        let again = |seen: &mut Arc<MachineSeen>| *seen = Arc::new(MachineSeen::clone(seen));
        backend.machines.values_mut().for_each(again);
    }
    let (plan, policy) = (crowd.round(), Arc::new(crowd.policy.clone()));
    let mut recorder = Recorder::new("test");
    recorder.decided(&crowd.ledger, &crowd.seen, &policy, crowd.now, &plan);
    let before = on_processor();
    for round in 0..ROUNDS {
        let seen = if round % 2 == 0 { &later } else { &crowd.seen };
        recorder.decided(&crowd.ledger, seen, &policy, crowd.now, &plan);
        recorder.take();
    }
    let (written, decided) = ((on_processor() - before) / ROUNDS, crowd.cost(ROUNDS));
    println!("decided in {decided:?}, written down in {written:?}");
    assert!(written < decided, "decided in {decided:?}, written down in {written:?}");
}

/// Lets go of so many jobs in one minute, so many times.
fn forget(jobs: u64, times: u32) -> Duration {
    let before = on_processor();
    for _ in 0..times {
        let mut ledger = Ledger::default();
        for number in 0..jobs {
            let job = JobId(Uuid::from_u128(number.into()));
            let at = Timestamp::from_millis(number * 60_000 / jobs);
            ledger.record(Event::Forgotten { job, at, why: "a test".into() });
        }
    }
    on_processor().saturating_sub(before) / times
}

#[test]
fn letting_go_of_jobs_grows_with_their_number_only() {
    let (few, many) = (forget(5_000, 40), forget(40_000, 5));
    assert!(many < few * 24, "5,000 jobs: {few:?}, eight times as many: {many:?}");
}

#[test]
fn a_crowd_is_what_it_claims_to_be() {
    let mut crowd = Crowd::at_work(1000);
    crowd.settle();
    assert_eq!(crowd.ledger.entries().count(), 1000);
    let plan = crowd.round();
    assert_eq!(plan.holds.len(), 400, "one of ten starts, one and two in the queues wait");
    assert!(plan.facts.is_empty(), "all is known");
    assert!(plan.steps.len() < 20, "all is under way but for some questions");
}
