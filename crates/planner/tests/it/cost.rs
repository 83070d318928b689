//! What a round costs, as far as a shared machine can tell: eight times as many jobs must not cost
//! much more than eight times as much. The figure in milliseconds is what `make bench
//! FIGURES=Round` measures.

use planner::{Event, JobId, Ledger, Timestamp};
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

/// Lets go of so many jobs in one minute, so many times.
fn forget(jobs: u64, times: u32) -> std::time::Duration {
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
