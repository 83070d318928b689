//! What a job's developer reads where a limit keeps it back or attempts come to nothing, and how
//! a limit is serialized.

use planner::{Bound, Failure, FailureClass, Notice, Reason, Scope, Timestamp};

#[test]
fn a_job_that_a_larger_one_keeps_back_is_told_that() {
    let queue = Reason::Limit { scope: Scope::Queue("jit".into()), limit: Bound::Turn };
    let all = Reason::Limit { scope: Scope::All, limit: Bound::Turn };
    let now = Timestamp::from_millis(0);
    let words = "Waiting for room: a larger job before it takes what queue jit has left";
    assert_eq!(queue.sentence(now), words);
    let words = "Waiting for room: a larger job before it takes what this Jitney has left";
    assert_eq!(all.sentence(now), words);
}

#[test]
fn a_limit_is_serialized_as_its_name_in_the_configuration() {
    let names = [
        (Bound::Machines, "machines"),
        (Bound::Cpu, "cpu"),
        (Bound::Memory, "memory"),
        (Bound::CostPerHour, "cost_per_hour"),
        (Bound::Turn, "turn"),
    ];
    for (limit, name) in names {
        let value = serde_json::to_value(limit).expect("it has a JSON form");
        assert_eq!(value, name);
        let again: Bound = serde_json::from_value(value).expect("it is read again");
        assert_eq!(again, limit);
    }
}

#[test]
fn attempts_are_counted_where_they_count() {
    let now = Timestamp::from_millis(0);
    let check = |attempt, class, expected: &str| {
        let failure = Failure { class, words: "x".into(), retry_after: None, shortage: None };
        let words = Notice::Retrying { attempt, of: 3, failure }.sentence(now);
        assert!(words.starts_with(expected), "{words}");
    };
    check(1, FailureClass::StartTimeout, "Attempt 1 of 3 came to nothing");
    // What a place refuses uses up none of them, so that there may be a fourth.
    check(1, FailureClass::Capacity, "Attempt 1 came to nothing");
    check(4, FailureClass::StartTimeout, "Attempt 4 came to nothing");
}
