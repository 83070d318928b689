//! Proof that the simulation of fleets can fail: planted bugs, each caught within some seeds by the
//! promise that it breaks.

use std::collections::BTreeSet;
use std::time::Duration;

use planner::Timestamp;
use planner::fleet::{
    Agents, Alert, Counts, DispatchId, Event, Ledger, Listing, Outcome, Plan, Policy, Seen, Step,
    decide,
};

use super::promises::Promise;
use super::scene::{Kind, Scene};
use super::world::run;
use crate::simulation::dice::Dice;

/// A planted bug that lives longer is a gap in the promises.
const SEEDS_MOST: u64 = 150;

/// What a round is given.
struct Given {
    ledger: Ledger,
    seen: Seen,
    policy: Policy,
    now: Timestamp,
}

enum Corrupts {
    Input(fn(&mut Given)),
    Plan(fn(&mut Plan, &Given, DispatchId)),
}

struct Mutant {
    name: &'static str,
    corrupts: Corrupts,
    faults: &'static [Kind],
    by: &'static [Promise],
}

const ALL: [Mutant; 16] = [
    Mutant {
        name: "agents that are on their way do not count",
        corrupts: Corrupts::Input(|given| {
            each(given, |dispatch| dispatch.failed = dispatch.wanted - dispatch.arrived_in_test());
            given.policy.ready_permille = 0;
        }),
        faults: &[Kind::SlowPods],
        by: &[Promise::Buffer, Promise::Unhurried, Promise::Max],
    },
    Mutant {
        name: "idle agents do not count",
        corrupts: Corrupts::Input(|given| counts(given, |counts| counts.agents.idle = 0)),
        faults: &[Kind::Cancels],
        by: &[Promise::Buffer],
    },
    Mutant {
        name: "pods that run count as registered",
        corrupts: Corrupts::Input(|given| {
            counts(given, |counts| counts.agents.total = u32::MAX);
        }),
        faults: &[],
        by: &[Promise::Buffer],
    },
    Mutant {
        name: "old counts count as new",
        corrupts: Corrupts::Input(|given| {
            // As if the listings before this one were forgotten.
            if let Some(listing) = &given.seen.listing.last {
                let mut ledger = Ledger::new(Timestamp::ZERO);
                let ended_at = Timestamp::ZERO;
                ledger.record(Event::Listed(&Listing { ended_at, ..listing.clone() }));
                given.ledger = ledger;
            }
        }),
        faults: &[Kind::OldCounts, Kind::Bursts],
        by: &[Promise::Buffer, Promise::Unhurried],
    },
    Mutant {
        name: "pods that have not come do not count below max",
        corrupts: Corrupts::Input(|given| {
            let (at_most, now) = (given.policy.at_most, given.now);
            listing(given, |listing| {
                listing.dispatches.retain(|dispatch| now.since(dispatch.made_at) < at_most);
            });
        }),
        faults: &[Kind::NeverCome],
        by: &[Promise::Max],
    },
    Mutant {
        name: "pods on nodes that are gone do not count below max",
        corrupts: Corrupts::Input(|given| each(given, |dispatch| dispatch.leaving = 0)),
        faults: &[Kind::NodeLost],
        by: &[Promise::Max],
    },
    Mutant {
        name: "a listing that is not there is an empty one",
        corrupts: Corrupts::Input(|given| {
            if given.seen.listing.failing.is_some() {
                let (began_at, ended_at, dispatches) = (given.now, given.now, Vec::new());
                given.seen.listing.saw(Listing { began_at, ended_at, dispatches });
            }
        }),
        faults: &[Kind::ClusterFails],
        by: &[Promise::Buffer, Promise::Max, Promise::Unhurried],
    },
    Mutant {
        name: "counts that are not there are of jobs and no agents",
        corrupts: Corrupts::Input(|given| {
            if given.seen.counts.failing.is_some() {
                let agents = Agents::default();
                let (asked_at, lag) = (given.now, Duration::ZERO);
                let (scheduled, running, waiting) = (9, 0, 0);
                given.seen.counts.saw(Counts {
                    asked_at,
                    lag,
                    scheduled,
                    running,
                    waiting,
                    agents,
                });
            }
        }),
        faults: &[Kind::CountsFail],
        by: &[Promise::Buffer],
    },
    Mutant {
        name: "a process that has just started looks at once",
        corrupts: Corrupts::Input(|given| {
            let mut ledger = Ledger::new(Timestamp::ZERO);
            if let Some(listing) = &given.seen.listing.last {
                let ended_at = Timestamp::ZERO;
                ledger.record(Event::Listed(&Listing { ended_at, ..listing.clone() }));
            }
            given.ledger = ledger;
        }),
        faults: &[Kind::LateArrival, Kind::Crash],
        by: &[Promise::Once, Promise::Max, Promise::Buffer, Promise::Unhurried],
    },
    Mutant {
        name: "an unanswered request counts as not made",
        corrupts: Corrupts::Input(|given| {
            let words = "".into();
            let at = Timestamp::ZERO;
            let outcome = Outcome::Refused { words, after: None };
            // A new name takes away what is known of the tries before.
            let id = DispatchId(uuid::Uuid::nil());
            given.ledger.record(Event::Asks { id, agents: 0 });
            given.ledger.record(Event::Answered { at, outcome });
        }),
        faults: &[Kind::LateArrival],
        by: &[Promise::Once],
    },
    Mutant {
        name: "an unanswered request is sent again under a new name",
        corrupts: Corrupts::Plan(|plan, _, round| {
            if let Step::Dispatch { id, again: true, .. } = &mut plan.step {
                *id = round;
            }
        }),
        faults: &[Kind::LateArrival, Kind::LostAfter],
        by: &[Promise::Once, Promise::Max, Promise::Buffer, Promise::Unhurried],
    },
    Mutant {
        name: "a dispatch is never given up",
        corrupts: Corrupts::Input(|given| given.policy.at_most = Duration::MAX),
        faults: &[Kind::Zombies, Kind::NeverCome],
        by: &[Promise::Served, Promise::Told],
    },
    Mutant {
        name: "pods that failed have arrived",
        corrupts: Corrupts::Input(|given| {
            each(given, |dispatch| dispatch.done += std::mem::take(&mut dispatch.failed));
        }),
        faults: &[Kind::DieEarly],
        by: &[Promise::Unhurried],
    },
    Mutant {
        name: "the buffer is kept without jobs",
        corrupts: Corrupts::Input(|given| given.policy.min = given.policy.buffer),
        faults: &[],
        by: &[Promise::Buffer, Promise::Empties],
    },
    Mutant {
        name: "nothing is kept without jobs",
        corrupts: Corrupts::Input(|given| given.policy.min = 0),
        faults: &[],
        by: &[Promise::Keeps],
    },
    Mutant {
        name: "nobody is told",
        corrupts: Corrupts::Plan(|plan, _, _| {
            plan.alerts.retain(|alert| !matches!(alert, Alert::NotRolledOut { .. }));
        }),
        faults: &[Kind::NeverCome],
        by: &[Promise::Told],
    },
];

trait Arrived {
    fn arrived_in_test(&self) -> u32;
}

impl Arrived for planner::fleet::Dispatch {
    fn arrived_in_test(&self) -> u32 {
        (self.online + self.done).min(self.wanted)
    }
}

fn listing(given: &mut Given, change: impl FnOnce(&mut Listing)) {
    if let Some(listing) = &mut given.seen.listing.last {
        change(listing);
    }
}

fn each(given: &mut Given, change: fn(&mut planner::fleet::Dispatch)) {
    listing(given, |listing| listing.dispatches.iter_mut().for_each(change));
}

fn counts(given: &mut Given, change: fn(&mut Counts)) {
    if let Some(counts) = &mut given.seen.counts.last {
        change(counts);
    }
}

impl Mutant {
    fn decide(
        &self,
        ledger: &Ledger,
        seen: &Seen,
        policy: &Policy,
        round: DispatchId,
        now: Timestamp,
    ) -> Plan {
        let (ledger, seen, policy) = (ledger.clone(), seen.clone(), *policy);
        let mut given = Given { ledger, seen, policy, now };
        match self.corrupts {
            Corrupts::Input(corrupt) => {
                corrupt(&mut given);
                decide(&given.ledger, &given.seen, &given.policy, round, now)
            }
            Corrupts::Plan(corrupt) => {
                let mut plan = decide(&given.ledger, &given.seen, &given.policy, round, now);
                corrupt(&mut plan, &given, round);
                plan
            }
        }
    }

    /// The first seed in which it breaks a promise.
    fn caught(&self) -> Option<(u64, Promise, String)> {
        (0..SEEDS_MOST).find_map(|seed| {
            let mut dice = Dice::new(seed);
            let faults: BTreeSet<Kind> = self.faults.iter().copied().collect();
            let scene = Scene::with(faults, &mut dice);
            let mut decide = |ledger: &_, seen: &_, policy: &_, round, now| {
                self.decide(ledger, seen, policy, round, now)
            };
            let broken = run(scene, dice, &mut decide).broken?;
            Some((seed, broken.promise, broken.words))
        })
    }
}

#[test]
fn planted_bugs_are_caught_by_the_promise_that_they_break() {
    let mut wrong = Vec::new();
    for mutant in &ALL {
        match mutant.caught() {
            Some((seed, promise, _)) if mutant.by.contains(&promise) => {
                println!("{}: seed {seed}, {promise:?}", mutant.name);
            }
            Some((seed, promise, words)) => {
                wrong.push(format!("{}: seed {seed}, {promise:?}: {words}", mutant.name));
            }
            None => wrong.push(format!("{}: nobody noticed", mutant.name)),
        }
    }
    assert!(wrong.is_empty(), "not caught, or by another promise:\n{}", wrong.join("\n"));
}

#[test]
fn the_real_core_is_not_caught_with_the_same_bad_luck() {
    for mutant in &ALL {
        for seed in 0..10 {
            let mut dice = Dice::new(seed);
            let faults: BTreeSet<Kind> = mutant.faults.iter().copied().collect();
            let scene = Scene::with(faults, &mut dice);
            let mut decide = decide;
            let broken = run(scene, dice, &mut decide).broken;
            assert!(broken.is_none(), "{}, seed {seed}: {broken:?}", mutant.name);
        }
    }
}
