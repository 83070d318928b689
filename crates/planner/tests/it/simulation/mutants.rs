//! Proof that the simulation can fail: planted bugs. Each corrupts what the core is given, its plan,
//! or an event on its way into the ledger, and each has to be caught within a few seeds.

mod event;
mod input;
mod plan;

use std::fmt::Write;
use std::time::{Duration, Instant};

use planner::{Event, Ledger, Observation, Plan, Policy, Timestamp, decide};

use super::faults::Kind;
use super::invariants::{Broken, Promise};
use super::run::{Setting, run};

/// The real core with one thing wrong.
#[derive(Debug)]
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// Which of the rules in "What a first version usually breaks" it breaks, if one of them.
    rule: Option<u8>,
    corrupts: Corrupts,
    /// The bad luck that brings it to light.
    faults: &'static [Kind],
    /// Whose breach tells of it.
    by: &'static [Promise],
}

#[derive(Clone, Copy, Debug)]
enum Corrupts {
    Input(fn(&mut Given)),
    Plan(fn(&mut Plan, &Given)),
    /// None: the event is lost.
    Event(fn(Event) -> Option<Event>),
}

/// What a round is given.
#[derive(Clone, Debug)]
struct Given {
    ledger: Ledger,
    seen: Observation,
    policy: Policy,
    now: Timestamp,
}

/// A mutant that lives longer is a gap in the invariants.
const SEEDS_MOST: u64 = 200;

impl Mutant {
    pub(crate) fn decide(
        &self,
        ledger: &Ledger,
        seen: &Observation,
        policy: &Policy,
        now: Timestamp,
    ) -> Plan {
        let given = || {
            let (ledger, seen, policy) = (ledger.clone(), seen.clone(), policy.clone());
            Given { ledger, seen, policy, now }
        };
        match self.corrupts {
            Corrupts::Input(corrupt) => {
                let mut given = given();
                corrupt(&mut given);
                decide(&given.ledger, &given.seen, &given.policy, given.now)
            }
            Corrupts::Plan(corrupt) => {
                let mut plan = decide(ledger, seen, policy, now);
                corrupt(&mut plan, &given());
                plan
            }
            Corrupts::Event(_) => decide(ledger, seen, policy, now),
        }
    }

    /// What becomes of an event, where that is what is wrong.
    pub(crate) fn hears(&self) -> Option<fn(Event) -> Option<Event>> {
        match self.corrupts {
            Corrupts::Event(corrupt) => Some(corrupt),
            Corrupts::Input(_) | Corrupts::Plan(_) => None,
        }
    }

    /// The first seed in which it breaks a promise.
    pub(crate) fn caught(&'static self) -> Option<(u64, Broken)> {
        (0..SEEDS_MOST).find_map(|seed| Some((seed, run(&self.setting(seed), false).broken?)))
    }

    pub(crate) fn setting(&'static self, seed: u64) -> Setting {
        Setting::with(seed, self.faults).planting(self)
    }

    fn row(&self, caught: Option<(u64, Broken)>, took: Duration) -> String {
        let corrupted = match self.corrupts {
            Corrupts::Input(_) => "input",
            Corrupts::Plan(_) => "plan",
            Corrupts::Event(_) => "event",
        };
        let rule = self.rule.map_or_else(|| "–".to_owned(), |rule| rule.to_string());
        let faults: Vec<String> = self.faults.iter().map(|kind| format!("{kind:?}")).collect();
        let (by, seeds) = match caught {
            Some((seed, broken)) => (format!("{:?}", broken.promise), (seed + 1).to_string()),
            None => ("**nobody**".to_owned(), SEEDS_MOST.to_string()),
        };
        let (name, faults, millis) = (self.name, faults.join(", "), took.as_millis());
        let faults = if faults.is_empty() { "–".to_owned() } else { faults };
        format!("| {name} | {corrupted} | {rule} | {faults} | {by} | {seeds} | {millis} ms |")
    }
}

pub(crate) fn all() -> impl Iterator<Item = &'static Mutant> {
    input::ALL.iter().chain(plan::ALL).chain(event::ALL)
}

/// Runs them: a table as Markdown, and how many nobody caught.
pub(crate) fn table(mutants: impl Iterator<Item = &'static Mutant>) -> (String, usize) {
    let mut text = String::new();
    let mut free = 0;
    let head = "| planted bug | corrupts | rule | with the faults | caught by | seeds | time |\n|---|---|---|---|---|---|---|";
    writeln!(text, "{head}").expect("a text takes all that is written");
    for mutant in mutants {
        let begun = Instant::now();
        let caught = mutant.caught();
        free += usize::from(caught.is_none());
        let row = mutant.row(caught, begun.elapsed());
        writeln!(text, "{row}").expect("a text takes all that is written");
    }
    (text, free)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::dice::Dice;
    use super::super::faults::Faults;
    use super::super::scene::Scene;
    use super::super::world::Sim;
    use super::*;

    /// One of so many parts, for tests that run beside each other. The same seed without the bug
    /// breaks nothing.
    fn check_part(part: usize, of: usize) {
        let mut wrong = Vec::new();
        for mutant in all().skip(part).step_by(of) {
            match mutant.caught() {
                Some((seed, broken)) if mutant.by.contains(&broken.promise) => {
                    let without = run(&Setting::with(seed, mutant.faults), false).broken;
                    wrong.extend(without.map(|broken| format!("without a bug: {broken}")));
                }
                Some((seed, broken)) => {
                    wrong.push(format!("{}: seed {seed}: {broken}", mutant.name))
                }
                None => {
                    wrong.push(format!("{}: {SEEDS_MOST} seeds, and nobody noticed", mutant.name))
                }
            }
        }
        assert!(wrong.is_empty(), "not caught, or by another promise:\n{}", wrong.join("\n"));
    }

    #[test]
    fn planted_bugs_are_caught_by_the_promise_that_they_break_first_part() {
        check_part(0, 2);
    }

    #[test]
    fn planted_bugs_are_caught_by_the_promise_that_they_break_second_part() {
        check_part(1, 2);
    }

    #[test]
    fn each_rule_that_a_first_version_breaks_is_broken_once() {
        let rules: BTreeSet<u8> = all().filter_map(|mutant| mutant.rule).collect();
        assert_eq!(rules, (1..=10).collect());
        let names: BTreeSet<&str> = all().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), all().count(), "a name is there twice");
    }

    #[test]
    fn the_table_says_who_caught_what() {
        let (text, free) = table(all().take(1));
        let row =
            "| an answer that tells nothing counts as an end | input | 1 | AnswerOmits | G5 | 1 | ";
        assert!(text.lines().last().is_some_and(|line| line.starts_with(row)), "{text}");
        assert_eq!(free, 0);
        let row = all().next().map(|mutant| mutant.row(None, Duration::ZERO));
        assert!(row.is_some_and(|row| row.ends_with(" | **nobody** | 200 | 0 ms |")));
    }

    #[test]
    fn a_second_acquire_breaks_g1() {
        let mut decide = decide;
        let (dice, scene) = (Dice::new(1), Scene::small());
        let mut sim = Sim::new(dice, scene, Faults::none(None), false, &mut decide);
        sim.set_the_scene();
        // As if Buildkite had given each job to somebody before.
        for job in sim.buildkite.jobs.values_mut() {
            job.acquires = 1;
        }
        while sim.broken.is_none() && sim.step() {}
        assert_eq!(sim.broken.map(|broken| broken.promise), Some(Promise::G1));
    }
}
