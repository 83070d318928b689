//! Proof that the promises about money, words and silence can be broken, and what the number of G4
//! is worth when nobody comes back.

use std::time::Duration;

use planner::{
    Action, Ledger, Observation, Outcome, Plan, Policy, Reason, Timestamp, WorstCost, decide,
    worst_cost,
};

use super::backends::Place;
use super::cost::Reckon;
use super::dice::Dice;
use super::faults::{Faults, Kind};
use super::invariants::Promise;
use super::mask::Mask;
use super::scene::Scene;
use super::world::{BASE, Decide, Sim};

/// Runs a few seeds with these faults until what is wrong is caught, and says by which promise.
fn caught(kinds: &[Kind], reckon: Reckon, decide: &mut Decide<'_>) -> Promise {
    for seed in 0..12 {
        let mut dice = Dice::new(seed);
        let scene = Scene::of(&mut dice);
        let mut faults = Faults::only(kinds);
        faults.mask = Mask::of(seed, None);
        let mut sim = Sim::new(dice, scene, faults, false, &mut *decide);
        sim.reckon = reckon;
        sim.set_the_scene();
        while sim.broken.is_none() && !sim.watch.done && sim.step() {}
        if let Some(broken) = sim.broken {
            return broken.promise;
        }
    }
    panic!("twelve seeds, and nobody noticed");
}

fn caught_deciding(
    kinds: &[Kind],
    mut wrong: impl FnMut(&Ledger, &Observation, &Policy, Timestamp) -> Plan,
) -> Promise {
    caught(kinds, worst_cost, &mut wrong)
}

/// As if only what a listing shows were there.
fn listed_only(ledger: &Ledger, seen: &Observation, policy: &Policy, now: Timestamp) -> WorstCost {
    let asked = ledger.entries().any(|entry| {
        entry.attempts.iter().any(|attempt| matches!(attempt.outcome, Outcome::Asked { .. }))
    });
    if asked { WorstCost::default() } else { worst_cost(ledger, seen, policy, now) }
}

/// As if every machine lived for a minute less.
fn too_cheap(ledger: &Ledger, seen: &Observation, policy: &Policy, now: Timestamp) -> WorstCost {
    worst_cost(ledger, seen, policy, now.plus(Duration::from_secs(60)))
}

/// As if what was adopted were known.
fn all_priced(ledger: &Ledger, seen: &Observation, policy: &Policy, now: Timestamp) -> WorstCost {
    WorstCost { unpriced: 0, ..worst_cost(ledger, seen, policy, now) }
}

#[test]
fn a_cost_without_what_is_being_asked_for_breaks_g4() {
    assert_eq!(caught(&[], listed_only, &mut decide), Promise::G4);
    assert_eq!(caught(&[], too_cheap, &mut decide), Promise::G4);
    assert_eq!(caught(&[Kind::LostJournal], all_priced, &mut decide), Promise::G4);
}

#[test]
fn a_deadline_that_is_too_far_away_breaks_g3() {
    let promise = caught_deciding(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        for step in &mut plan.steps {
            if let Action::Create(create) = &mut step.action {
                create.deadline *= 2;
            }
        }
        plan
    });
    assert_eq!(promise, Promise::G3);
}

#[test]
fn a_reason_that_is_kept_to_oneself_breaks_g7() {
    let promise = caught_deciding(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        plan.steps.retain(|step| !matches!(step.action, Action::Notify { .. }));
        plan
    });
    assert_eq!(promise, Promise::G7);
}

#[test]
fn a_reason_that_is_no_longer_true_breaks_g6() {
    let promise = caught_deciding(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        plan.steps.retain(|step| !matches!(step.action, Action::Create(_)));
        let until = now.minus(Duration::from_secs(61));
        for hold in plan.holds.values_mut() {
            if let Reason::Creating { .. } = &hold.reason {
                let failure = planner::Failure {
                    class: planner::FailureClass::Rate,
                    words: "slow down".into(),
                    retry_after: None,
                    shortage: None,
                };
                // Nobody is told of this one, so its silence is all that is wrong.
                hold.reason = Reason::BackingOff { failure, until };
            }
        }
        plan
    });
    assert_eq!(promise, Promise::G6);
}

#[test]
fn taking_what_was_there_before_for_another_installations_is_caught() {
    let promise = caught_deciding(&[Kind::LostJournal], |ledger, seen, policy, now| {
        let mut seen = seen.clone();
        for backend in seen.backends.values_mut() {
            backend.first_listed_at = Some(Timestamp::ZERO);
        }
        decide(ledger, &seen, policy, now)
    });
    assert_eq!(promise, Promise::Standstill);
}

/// The process dies at each of many moments and nobody starts it again.
#[test]
fn what_is_paid_when_nobody_comes_back_is_what_was_said_at_most() {
    let mut paid_most = 0;
    for seed in 0..20 {
        let mut decide = decide;
        let mut dice = Dice::new(seed);
        let scene = Scene::of(&mut dice);
        let dies_at = Timestamp::from_millis(BASE + 1_000 + seed * 1_000);
        let mut sim = Sim::new(dice, scene, Faults::none(None), false, &mut decide);
        sim.set_the_scene();
        while sim.now < dies_at && sim.step() {}
        let (died_at, said) = (sim.now, sim.shells[0].worst_cost);
        sim.shells[0].alive = false;
        while sim.now < died_at.plus(Duration::from_secs(600)) && sim.step() {}
        assert!(sim.broken.is_none(), "seed {seed}: {}", sim.broken.unwrap());
        assert_eq!(sim.places.values().flat_map(Place::live).count(), 0, "seed {seed}");
        let machines = sim.places.values().flat_map(|place| place.machines.values());
        let paid: u128 = machines
            .filter_map(|machine| Some((machine.gone_at?, machine.cost)))
            .map(|(gone_at, cost)| gone_at.since(died_at).as_millis() * u128::from(cost))
            .sum();
        assert!(paid <= u128::from(said.micros) * 3_600_000, "seed {seed}: {paid} and {said:?}");
        paid_most = paid_most.max(paid);
    }
    assert!(paid_most > 0, "no machine was alive at any of the deaths");
}
