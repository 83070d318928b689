//! Planted bugs in what the core is given: old words, guesses and other people's machines, taken
//! for what is known; limits and margins reckoned wrongly.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use planner::{
    Answer, Attempt, BackendName, Candidate, JobId, JobState, Limits, Outcome, Request, Verdict,
};

use super::super::faults::Kind;
use super::super::invariants::Promise;
use super::{Corrupts, Given, Mutant};

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "an answer that tells nothing counts as an end",
        rule: Some(1),
        corrupts: Corrupts::Input(unknown_is_ended),
        faults: &[Kind::AnswerOmits],
        by: &[Promise::G5],
    },
    Mutant {
        name: "what is not in the queue's listing counts as ended",
        rule: Some(1),
        corrupts: Corrupts::Input(unlisted_is_ended),
        faults: &[],
        by: &[Promise::G5],
    },
    Mutant {
        name: "a part of a listing counts as all of it",
        rule: Some(1),
        corrupts: Corrupts::Input(part_is_whole),
        faults: &[],
        by: &[Promise::G1, Promise::G2, Promise::G4],
    },
    Mutant {
        name: "a backend that cannot be listed counts as empty",
        rule: Some(1),
        corrupts: Corrupts::Input(unreachable_is_empty),
        faults: &[Kind::BackendOutage],
        by: &[Promise::G1, Promise::G2, Promise::G4, Promise::G8],
    },
    Mutant {
        name: "an old word counts as fresh",
        rule: Some(1),
        corrupts: Corrupts::Input(old_is_fresh),
        faults: &[Kind::BuildkiteOutage, Kind::DiesBefore],
        by: &[Promise::G5],
    },
    Mutant {
        name: "a process that was frozen trusts the listings from before",
        rule: Some(6),
        corrupts: Corrupts::Input(frozen_trusts),
        faults: &[Kind::Frozen],
        by: &[Promise::Standstill],
    },
    Mutant {
        name: "a word asked for before counts as asked for after",
        rule: Some(3),
        corrupts: Corrupts::Input(before_is_after),
        faults: &[Kind::NeverStarts, Kind::DiesBefore],
        by: &[Promise::G5, Promise::G1],
    },
    Mutant {
        name: "a machine is given up before its time",
        rule: None,
        corrupts: Corrupts::Input(hasty),
        faults: &[Kind::NeverStarts],
        by: &[Promise::G5],
    },
    Mutant {
        name: "machines are made on a backend that was never listed",
        rule: Some(4),
        corrupts: Corrupts::Input(blind),
        faults: &[Kind::LostJournal, Kind::CrashLoop],
        by: &[Promise::G4, Promise::Standstill, Promise::G8],
    },
    Mutant {
        name: "the clock is set by an hour under way",
        rule: Some(7),
        corrupts: Corrupts::Input(clock_is_set),
        faults: &[],
        by: &[Promise::Bounded, Promise::End],
    },
    Mutant {
        name: "another installation's machines count as ours",
        rule: Some(8),
        corrupts: Corrupts::Input(theirs_is_ours),
        faults: &[Kind::TwoInstallations],
        by: &[Promise::Standstill],
    },
    Mutant {
        name: "a full journal is not looked at",
        rule: Some(10),
        corrupts: Corrupts::Input(|given| given.seen.journal_full = false),
        faults: &[Kind::JournalFull],
        by: &[Promise::Standstill],
    },
    Mutant {
        name: "a pause is not looked at",
        rule: None,
        corrupts: Corrupts::Input(pauses_are_over),
        faults: &[Kind::Pauses],
        by: &[Promise::Standstill],
    },
    Mutant {
        name: "a drain is not looked at",
        rule: None,
        corrupts: Corrupts::Input(|given| given.seen.draining = false),
        faults: &[Kind::Drained],
        by: &[Promise::Standstill],
    },
    Mutant {
        name: "others' jobs are taken",
        rule: None,
        corrupts: Corrupts::Input(foreign_is_ours),
        faults: &[],
        by: &[Promise::Standstill],
    },
    Mutant {
        name: "a job that an agent has counts as open",
        rule: None,
        corrupts: Corrupts::Input(acquired_is_open),
        faults: &[Kind::StartsAtTheTimeout],
        by: &[Promise::G5],
    },
    Mutant {
        name: "another machine follows a failed one without a pause",
        rule: None,
        corrupts: Corrupts::Input(no_pause),
        faults: &[Kind::DiesBefore],
        by: &[Promise::Bounded],
    },
    Mutant {
        name: "a token is used for another attempt",
        rule: None,
        corrupts: Corrupts::Input(any_token),
        faults: &[Kind::DiesBefore],
        by: &[Promise::Bounded],
    },
    Mutant {
        name: "what a listing does not show yet is gone",
        rule: Some(2),
        corrupts: Corrupts::Input(listings_never_lag),
        faults: &[Kind::StaleMachines],
        by: &[Promise::G1, Promise::G2, Promise::G4, Promise::G8],
    },
    Mutant {
        name: "limits are forgotten",
        rule: None,
        corrupts: Corrupts::Input(|given| given.policy.limits = Limits::default()),
        faults: &[],
        by: &[Promise::G8],
    },
    Mutant {
        name: "a policy that a look has shown is left out",
        rule: None,
        corrupts: Corrupts::Input(lenient),
        faults: &[],
        by: &[Promise::G8],
    },
    Mutant {
        name: "the budget of a build's retries is forgotten",
        rule: None,
        corrupts: Corrupts::Input(|given| given.policy.retry_lost = Some(1_000)),
        faults: &[Kind::DiesAfter, Kind::Vanishes],
        by: &[Promise::Retries],
    },
    Mutant {
        name: "what a backend has is forgotten",
        rule: None,
        corrupts: Corrupts::Input(endless_backends),
        faults: &[],
        by: &[Promise::G8],
    },
    Mutant {
        name: "a limit is off by one",
        rule: None,
        corrupts: Corrupts::Input(|given| raise(&mut given.policy.limits, 1)),
        faults: &[],
        by: &[Promise::G8],
    },
    Mutant {
        name: "limits do not count what is being made",
        rule: None,
        corrupts: Corrupts::Input(|given| {
            uncounted(given, |attempt| matches!(attempt.outcome, Outcome::Asked { .. }));
        }),
        faults: &[Kind::Delay],
        by: &[Promise::G8],
    },
    Mutant {
        name: "limits do not count what has ended and is still there",
        rule: None,
        corrupts: Corrupts::Input(|given| uncounted(given, |attempt| attempt.ended.is_some())),
        faults: &[Kind::SlowDelete],
        by: &[Promise::G8],
    },
    Mutant {
        name: "limits do not count what was adopted",
        rule: Some(4),
        corrupts: Corrupts::Input(|given| uncounted(given, |attempt| attempt.offer.is_none())),
        faults: &[Kind::LostJournal, Kind::CrashLoop],
        by: &[Promise::G8],
    },
    Mutant {
        name: "the rate of creates is not looked at",
        rule: None,
        corrupts: Corrupts::Input(unpaced),
        faults: &[],
        by: &[Promise::Bounded],
    },
];

fn states(given: &mut Given, change: impl Fn(JobId, JobState) -> JobState) {
    for (job, answer) in &mut given.seen.answers {
        answer.state = change(*job, answer.state);
    }
}

fn unknown_is_ended(given: &mut Given) {
    states(given, |_, state| if state == JobState::Unknown { JobState::Canceled } else { state });
}

fn unlisted_is_ended(given: &mut Given) {
    let listed = given.seen.queues.values().flat_map(|queue| queue.candidates.iter());
    let listed: BTreeSet<JobId> = listed.map(|candidate| candidate.row.id).collect();
    for entry in given.ledger.entries().filter(|entry| !listed.contains(&entry.job)) {
        let answer = Answer { state: JobState::Canceled, asked_at: given.now };
        given.seen.answers.entry(entry.job).or_insert(answer);
    }
}

/// Half of the machines are not in it.
fn part_is_whole(given: &mut Given) {
    for backend in given.seen.backends.values_mut() {
        backend.machines.retain(|(job, _), _| job.0.as_bytes()[2] % 2 == 0);
    }
}

fn unreachable_is_empty(given: &mut Given) {
    for backend in given.seen.backends.values_mut().filter(|backend| backend.failing.is_some()) {
        backend.machines.clear();
        backend.listed_at = Some(given.now);
    }
}

fn old_is_fresh(given: &mut Given) {
    let fresh = given.policy.margins.fresh;
    for answer in given.seen.answers.values_mut() {
        if given.now.since(answer.asked_at) > fresh {
            answer.asked_at = given.now.minus(fresh);
        }
    }
}

fn before_is_after(given: &mut Given) {
    let fresh = given.policy.margins.fresh;
    for answer in given.seen.answers.values_mut() {
        if given.now.since(answer.asked_at) <= fresh {
            answer.asked_at = given.now;
        }
    }
}

fn hasty(given: &mut Given) {
    for queue in given.policy.queues.values_mut() {
        queue.start_timeout /= 2;
    }
}

fn blind(given: &mut Given) {
    for name in given.policy.backends.keys() {
        let backend = given.seen.backends.entry(name.clone()).or_default();
        backend.listed_at = backend.listed_at.or(Some(given.now));
    }
}

fn frozen_trusts(given: &mut Given) {
    let fresh = given.policy.margins.fresh;
    for listed_at in given.seen.queues.values_mut().filter_map(|queue| queue.listed_at.as_mut()) {
        if given.now.since(*listed_at) > fresh {
            *listed_at = given.now;
        }
    }
}

fn clock_is_set(given: &mut Given) {
    const UNDER_WAY: Duration = Duration::from_secs(20);
    if given.now.since(given.seen.started_at) > UNDER_WAY {
        given.now = given.now.plus(Duration::from_secs(3600));
    }
}

fn theirs_is_ours(given: &mut Given) {
    for backend in given.seen.backends.values_mut() {
        for machine in backend.machines.values_mut() {
            Arc::make_mut(machine).instance = Arc::clone(&given.seen.instance);
        }
    }
}

fn pauses_are_over(given: &mut Given) {
    for queue in given.seen.queues.values_mut() {
        queue.paused = false;
    }
}

fn foreign_is_ours(given: &mut Given) {
    for queue in given.seen.queues.values_mut() {
        let ours = queue.candidates.iter().find_map(|candidate| request(candidate).cloned());
        let Some(request) = ours else { continue };
        let taken = queue.candidates.iter().map(|candidate| match candidate.verdict {
            Verdict::Foreign(_) => {
                let verdict = Verdict::Ours(Arc::clone(&request));
                Arc::new(Candidate { row: Arc::clone(&candidate.row), verdict })
            }
            Verdict::Ours(_) | Verdict::Invalid(_) | Verdict::Undecided { .. } => {
                Arc::clone(candidate)
            }
        });
        queue.candidates = taken.collect();
    }
}

fn request(candidate: &Candidate) -> Option<&Arc<Request>> {
    match &candidate.verdict {
        Verdict::Ours(request) => Some(request),
        Verdict::Invalid(_) | Verdict::Foreign(_) | Verdict::Undecided { .. } => None,
    }
}

/// Of jobs whose build was looked at, no policy counts.
fn lenient(given: &mut Given) {
    for queue in given.seen.queues.values_mut() {
        let (candidates, origins) = (&queue.candidates, &queue.origins);
        let freed = candidates.iter().map(|candidate| match request(candidate) {
            Some(request) if origins.contains_key(&candidate.row.id) => {
                let request = Request { policies: Vec::new(), ..Request::clone(request) };
                let verdict = Verdict::Ours(Arc::new(request));
                Arc::new(Candidate { row: Arc::clone(&candidate.row), verdict })
            }
            Some(_) | None => Arc::clone(candidate),
        });
        queue.candidates = freed.collect();
    }
}

fn open(state: JobState) -> JobState {
    if matches!(state, JobState::Accepted | JobState::Running) { JobState::Reserved } else { state }
}

fn acquired_is_open(given: &mut Given) {
    states(given, |_, state| open(state));
}

fn no_pause(given: &mut Given) {
    given.policy.margins.backoff = Duration::ZERO;
    given.policy.margins.backoff_most = Duration::ZERO;
}

fn any_token(given: &mut Given) {
    for entry in given.ledger.entries() {
        if let Some(token) = given.seen.tokens.get_mut(&entry.job) {
            token.attempt = entry.next_attempt();
        }
    }
}

fn listings_never_lag(given: &mut Given) {
    for backend in given.policy.backends.values_mut() {
        backend.listing_lag = Duration::ZERO;
    }
}

fn endless_backends(given: &mut Given) {
    for backend in given.policy.backends.values_mut() {
        backend.capacity = Limits::default();
    }
}

fn raise(limits: &mut Limits, machines: u32) {
    limits.machines = limits.machines.map(|most| most + machines);
}

/// The limit of machines is reckoned without these.
fn uncounted(given: &mut Given, which: impl Fn(&Attempt) -> bool) {
    let attempts = given.ledger.entries().flat_map(|entry| {
        let holding = entry.attempts.iter().filter(|attempt| attempt.holds());
        holding.filter(|attempt| which(attempt))
    });
    let count = u32::try_from(attempts.count()).expect("few machines");
    raise(&mut given.policy.limits, count);
}

/// Dear machines only, and as many of them as there are jobs.
fn unpaced(given: &mut Given) {
    for backend in given.seen.backends.values_mut() {
        backend.creates_left = None;
    }
    given.seen.backends.entry(BackendName::new("pods")).or_default().listed_at = None;
    given.policy.limits = Limits::default();
}
