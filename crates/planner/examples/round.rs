//! Measures one round of decisions: over 10,000 live jobs, and over 10,000 that come at once.
//! Prints milliseconds; fails where the first is above the figure to reach.
//!

#[path = "../tests/it/crowd.rs"]
mod crowd;

use std::process::ExitCode;
use std::time::Duration;

use crowd::Crowd;

const JOBS: u32 = 10_000;
const ROUNDS: u32 = 50;
/// The figure to reach.
const MOST: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let mut live = Crowd::at_work(JOBS);
    live.settle();
    let cost = measure("live jobs", &live);
    measure("new jobs at once", &Crowd::at_the_door(JOBS));
    if cost > MOST {
        println!("a round over {JOBS} live jobs takes more than {MOST:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn measure(what: &str, crowd: &Crowd) -> Duration {
    let steps = crowd.round().steps.len();
    let cost = crowd.cost(ROUNDS);
    let millis = cost.as_secs_f64() * 1000.0;
    println!("a round over {JOBS} {what}: {millis:.2} ms of a processor, {steps} steps");
    cost
}
