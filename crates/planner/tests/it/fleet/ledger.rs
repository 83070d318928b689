//! What a fleet's memory holds, and for how long.

use planner::Timestamp;
use planner::fleet::{Counts, Event, Hold, Listing, Step, decide};

use super::examples::{at, fleet, id};

#[test]
fn a_refusal_after_no_answer_leaves_the_first_try_open() {
    use planner::fleet::Outcome;
    let mut case = fleet().queued(5);
    case.ledger.record(Event::Asks { id: id(7), agents: 5 });
    let words = "timed out".into();
    case.ledger.record(Event::Answered { at: at(8), outcome: Outcome::Unanswered { words } });
    case.ledger.record(Event::Asks { id: id(7), agents: 5 });
    let after = Some(std::time::Duration::from_secs(1));
    let outcome = Outcome::Refused { words: "busy".into(), after };
    case.ledger.record(Event::Answered { at: at(5), outcome });
    // The refusal itself is over; the try before it may still arrive.
    assert!(matches!(case.plan().step, Step::Hold(Hold::Refused { .. })), "{:?}", case.plan());
}

#[test]
fn memory_does_not_grow_with_rounds() {
    let mut case = fleet();
    let listing = case.seen.listing.last.clone().expect("listed");
    let size = |case: &super::examples::Case| format!("{:?}", case.ledger).len();
    let mut sizes = Vec::new();
    for round in 0..2_000_u64 {
        let ended_at = Timestamp::from_millis(super::examples::NOW + round * 5_000);
        case.ledger.record(Event::Listed(&Listing { ended_at, ..listing.clone() }));
        sizes.push(size(&case));
    }
    assert!(sizes[1_999] <= sizes[100], "{} {}", sizes[100], sizes[1_999]);
}

#[test]
fn counts_that_reach_back_beyond_all_listings_allow_nothing() {
    let mut case = fleet().queued(5);
    let listing = case.seen.listing.last.clone().expect("listed");
    case.ledger.record(Event::Listed(&listing));
    let counts = case.seen.counts.last.expect("counted");
    case.seen.counts.saw(Counts { asked_at: at(3), ..counts });
    let plan = decide(&case.ledger, &case.seen, &case.policy, id(1), at(0));
    assert!(matches!(plan.step, Step::Hold(Hold::Starting { .. })), "{plan:?}");
}
