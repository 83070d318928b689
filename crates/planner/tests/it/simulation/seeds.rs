//! The seeds that every test run goes through, a crash at every single action, and the proof that a
//! seed always tells the same story. A failing seed prints its shortest story.

use super::faults::{CrashAt, KINDS, Point};
use super::run::{Setting, run};
use super::shrink::shortest;

fn check_seeds(first: u64, end: u64) {
    for seed in first..end {
        let setting = Setting::of_seed(seed);
        if run(&setting, false).broken.is_some() {
            panic!("{}", shortest(&setting).told(seed));
        }
    }
}

#[test]
fn one_kind_of_fault_at_a_time() {
    assert!(KINDS.len() < 100, "the first seeds have one kind each");
    check_seeds(0, 250);
}

#[test]
fn faults_together_first_part() {
    check_seeds(250, 500);
}

#[test]
fn faults_together_second_part() {
    check_seeds(500, 750);
}

#[test]
fn faults_together_third_part() {
    check_seeds(750, 1000);
}

#[test]
fn without_faults_each_job_gets_one_machine() {
    let ran = run(&Setting::small(None), true);
    assert!(ran.broken.is_none(), "{}\n{}", ran.told(), ran.broken.unwrap());
    assert_eq!(ran.machines, 3, "{}", ran.told());
}

#[test]
fn a_crash_around_every_single_action() {
    let steps = run(&Setting::small(None), false).steps;
    assert!(steps > 20, "{steps} steps are too few to be a test");
    for step in 1..=steps {
        for point in [Point::Journal, Point::Call, Point::Reply] {
            let setting = Setting::small(Some(CrashAt { step, point }));
            if let Some(broken) = run(&setting, false).broken {
                let story = run(&setting, true).told();
                panic!(
                    "{story}\n{broken}\nwith a crash of step {step} that did not come to its {point:?}"
                );
            }
        }
    }
}

#[test]
fn a_seed_always_tells_the_same_story() {
    let tell = || run(&Setting::of_seed(120), true).story.of(None);
    let first = tell();
    assert!(first.len() > 1000, "a story: {first}");
    assert!(first == tell(), "the same seed told two stories");
}
