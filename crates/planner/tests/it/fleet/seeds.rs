//! Many seeds keep all promises.

use planner::fleet::decide;

use super::promises::Broken;
use super::scene::Scene;
use super::world::run;
use crate::simulation::dice::Dice;

const SEEDS: u64 = 1_200;

fn broken(seed: u64) -> Option<Broken> {
    let mut dice = Dice::new(seed);
    let scene = Scene::of(seed, &mut dice);
    let mut decide = decide;
    run(scene, dice, &mut decide).broken
}

/// One of two halves, for tests that run beside each other.
#[track_caller]
fn check_half(half: u64) {
    let seeds = (0..SEEDS).filter(|seed| seed % 2 == half);
    let wrong: Vec<String> = seeds
        .filter_map(|seed| {
            let Broken { promise, words } = broken(seed)?;
            let faults = Scene::of(seed, &mut Dice::new(seed)).faults;
            Some(format!("seed {seed} breaks {promise:?}: {words} ({faults:?})"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {SEEDS}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn even_seeds_keep_all_promises() {
    check_half(0);
}

#[test]
fn odd_seeds_keep_all_promises() {
    check_half(1);
}

#[test]
fn the_same_seed_is_the_same_story() {
    let story = |seed| {
        let mut dice = Dice::new(seed);
        let scene = Scene::of(seed, &mut dice);
        let mut decide = decide;
        let ran = run(scene, dice, &mut decide);
        (ran.dispatches, ran.alerts, ran.took)
    };
    for seed in 0..30 {
        assert_eq!(story(seed), story(seed), "seed {seed}");
    }
}

#[test]
fn seeds_are_worth_their_while() {
    let (mut dispatches, mut alerts, mut jobs) = (0, 0, 0);
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let scene = Scene::of(seed, &mut dice);
        let mut decide = decide;
        let ran = run(scene, dice, &mut decide);
        (dispatches, alerts, jobs) =
            (dispatches + ran.dispatches, alerts + ran.alerts, jobs + ran.jobs);
    }
    assert!(dispatches > 1_000 && alerts > 100 && jobs > 5_000, "{dispatches} {alerts} {jobs}");
}
