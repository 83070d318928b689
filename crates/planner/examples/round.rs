//! Measures one round of decisions: over 10,000 live jobs, and over 10,000 that come at once.
//! Prints milliseconds of a processor's time, the figure to reach, and how long one look-up takes in
//! a map of as many jobs: a busy machine slows all of them alike.
//!

#[path = "../tests/it/crowd.rs"]
mod crowd;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use crowd::{Crowd, on_processor};
use planner::JobId;

const JOBS: u32 = 10_000;
const ROUNDS: u32 = 50;
/// The figure to reach with live jobs.
const MOST: Duration = Duration::from_millis(10);

fn main() {
    let mut live = Crowd::at_work(JOBS);
    live.settle();
    let cost = measure("live jobs", &live);
    measure("new jobs at once", &Crowd::at_the_door(JOBS));
    let verdict = if cost <= MOST { "reached" } else { "not reached on this machine just now" };
    println!("to reach with live jobs: {MOST:?}, {verdict}");
    println!("one look-up in a map of {JOBS} jobs: {} ns", look_up(&live).as_nanos());
}

fn measure(what: &str, crowd: &Crowd) -> Duration {
    let steps = crowd.round().steps.len();
    let cost = crowd.cost(ROUNDS);
    let millis = cost.as_secs_f64() * 1000.0;
    println!("a round over {JOBS} {what}: {millis:.2} ms, {steps} steps");
    cost
}

fn look_up(crowd: &Crowd) -> Duration {
    let map: BTreeMap<JobId, u32> =
        crowd.ledger.entries().zip(0..).map(|(entry, number)| (entry.job, number)).collect();
    let before = on_processor();
    for _ in 0..ROUNDS {
        for entry in crowd.ledger.entries() {
            black_box(map.get(&entry.job));
        }
    }
    on_processor().saturating_sub(before) / (ROUNDS * JOBS)
}
