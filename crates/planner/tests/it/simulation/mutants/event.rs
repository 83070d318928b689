//! Planted bugs in what becomes of an event: outcomes that were only guessed, failures that leave
//! no trace.

use planner::{CreateOutcome, Event, Failure, FailureClass, JobState};

use super::super::faults::Kind;
use super::super::invariants::Promise;
use super::{Corrupts, Mutant};

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "an unanswered create counts as not made",
        rule: Some(2),
        corrupts: Corrupts::Event(unanswered_is_not_made),
        faults: &[Kind::LostAfter],
        by: &[Promise::G1, Promise::G2],
    },
    Mutant {
        name: "after a restart, what was under way counts as not made",
        rule: Some(5),
        corrupts: Corrupts::Event(restarted_is_not_made),
        faults: &[Kind::Crash, Kind::CrashLoop, Kind::Delay],
        by: &[Promise::G1, Promise::G2, Promise::G4, Promise::G8],
    },
    Mutant {
        name: "a refused renewal counts as the job's end",
        rule: None,
        corrupts: Corrupts::Event(refused_is_ended),
        faults: &[Kind::AnswerOmits, Kind::RunsTooLong],
        by: &[Promise::G5],
    },
    Mutant {
        name: "a job without a token counts as ended",
        rule: None,
        corrupts: Corrupts::Event(unissued_is_ended),
        faults: &[Kind::NotIssued],
        by: &[Promise::G6],
    },
    Mutant {
        name: "a confirmed delete counts as gone",
        rule: None,
        corrupts: Corrupts::Event(deleted_is_gone),
        faults: &[Kind::SlowDelete],
        by: &[Promise::G4, Promise::G8],
    },
];

/// The words of a failure whose outcome nobody knows, else nothing.
fn ambiguous(outcome: &CreateOutcome) -> Option<&Failure> {
    match outcome {
        CreateOutcome::Failed(failure) if failure.class == FailureClass::Ambiguous => Some(failure),
        CreateOutcome::Failed(_)
        | CreateOutcome::Made
        | CreateOutcome::Listed
        | CreateOutcome::NotSent => None,
    }
}

/// Another outcome for a create whose outcome nobody knows.
fn unanswered(mut event: Event, other: impl FnOnce(&Failure) -> CreateOutcome) -> Option<Event> {
    if let Event::CreateEnded { outcome, .. } = &mut event
        && let Some(failure) = ambiguous(outcome)
    {
        *outcome = other(failure);
    }
    Some(event)
}

fn not_made(failure: &Failure) -> CreateOutcome {
    CreateOutcome::Failed(Failure { class: FailureClass::Capacity, ..failure.clone() })
}

fn unanswered_is_not_made(event: Event) -> Option<Event> {
    unanswered(event, not_made)
}

fn restarted_is_not_made(event: Event) -> Option<Event> {
    unanswered(event, |failure| {
        if failure.words.contains("restarted") {
            not_made(failure)
        } else {
            CreateOutcome::Failed(failure.clone())
        }
    })
}

fn refused_is_ended(event: Event) -> Option<Event> {
    let Event::NotReserved { job, sent_at } = event else { return Some(event) };
    Some(Event::JobEnded { job, state: JobState::Canceled, at: sent_at })
}

fn unissued_is_ended(event: Event) -> Option<Event> {
    let Event::NotIssued { job, at } = event else { return Some(event) };
    Some(Event::JobEnded { job, state: JobState::Canceled, at })
}

fn deleted_is_gone(event: Event) -> Option<Event> {
    let Event::DeleteEnded { job, attempt, ok: true, at, .. } = event else { return Some(event) };
    Some(Event::Gone { job, attempt, at })
}
