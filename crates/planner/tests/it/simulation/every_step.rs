//! Bad luck at every single step of a scene, one after the other: a crash before and after each
//! action, also where machines fail and where jobs are cancelled, and a cancel just before each. And
//! the proof that each kind of bad luck does its harm.

use std::collections::BTreeMap;

use planner::decide;

use super::dice::Dice;
use super::faults::{CrashAt, Faults, KINDS, Kind, Point};
use super::invariants::Broken;
use super::mask::Mask;
use super::scene::Scene;
use super::world::Sim;

const POINTS: [Point; 3] = [Point::Journal, Point::Call, Point::Reply];

/// A seed's own scene with these kinds of bad luck, and a crash or a cancel at one step.
#[derive(Clone, Copy, Debug)]
struct Unlucky<'a> {
    seed: u64,
    kinds: &'a [Kind],
    crash_at: Option<CrashAt>,
    cancel_at: Option<u64>,
}

struct Came {
    broken: Option<Broken>,
    story: String,
    steps: u64,
    strikes: BTreeMap<Kind, u64>,
}

impl<'a> Unlucky<'a> {
    const fn plain(seed: u64, kinds: &'a [Kind]) -> Self {
        Self { seed, kinds, crash_at: None, cancel_at: None }
    }

    fn run(&self, aloud: bool) -> Came {
        let mut decide = decide;
        let mut dice = Dice::new(self.seed);
        let scene = Scene::of(&mut dice);
        let mut faults = Faults::only(self.kinds).and_at(self.crash_at, self.cancel_at);
        faults.mask = Mask::of(self.seed, None);
        let mut sim = Sim::new(dice, scene, faults, aloud, &mut decide);
        sim.set_the_scene();
        while sim.broken.is_none() && !sim.watch.done && sim.step() {}
        Came {
            story: sim.story.of(sim.broken.as_ref().and_then(|broken| broken.job)),
            strikes: sim.faults.struck().clone(),
            steps: sim.steps,
            broken: sim.broken,
        }
    }

    fn check(&self) {
        if let Some(broken) = self.run(false).broken {
            panic!("{}\n{broken}\nwith {self:?}", self.run(true).story);
        }
    }

    /// The numbers of the first steps, where machines are made and fail.
    fn first_steps(&self) -> impl Iterator<Item = u64> {
        let steps = self.run(false).steps;
        assert!(steps > 50, "{steps} steps are too few to be a test");
        1..=steps.min(FIRST)
    }
}

/// Later steps of these scenes are more of the same.
const FIRST: u64 = 100;

fn check_crashes(plain: &Unlucky<'_>) {
    for step in plain.first_steps() {
        for point in POINTS {
            Unlucky { crash_at: Some(CrashAt { step, point }), ..*plain }.check();
        }
    }
}

#[test]
fn a_crash_around_every_action_of_a_scene_with_retries() {
    check_crashes(&Unlucky::plain(3, &[Kind::DiesBefore]));
}

#[test]
fn a_crash_around_every_action_of_a_scene_with_cancels() {
    check_crashes(&Unlucky::plain(4, &[Kind::Cancels]));
}

#[test]
fn a_cancel_before_every_action() {
    for (seed, kinds) in [(6, &[Kind::DiesBefore]), (7, &[Kind::LostAfter])] {
        let plain = Unlucky::plain(seed, kinds);
        for step in plain.first_steps() {
            Unlucky { cancel_at: Some(step), ..plain }.check();
        }
    }
}

#[test]
fn every_kind_of_bad_luck_does_its_harm() {
    for kind in KINDS {
        let strikes = |seed| Unlucky::plain(seed, &[kind]).run(false).strikes;
        let harm = (0..12).any(|seed| strikes(seed).get(&kind).is_some_and(|times| *times > 0));
        assert!(harm, "{kind:?} did nothing in twelve seeds");
    }
}
