//! What one round of decisions takes of a processor: over 10,000 live jobs, and over 10,000 that
//! come at once.

use super::Measured;
use crate::Done;
use crate::cores::Cores;
use crate::crowd::Crowd;
use crate::record::{Bound, Line, Statistic, Unit};

const JOBS: u32 = 10_000;
const ROUNDS: u32 = 20;

pub(super) fn measure(cores: Cores, runs: usize) -> Done<Measured> {
    let mut live = Crowd::at_work(JOBS);
    live.settle();
    let new = Crowd::at_the_door(JOBS);
    let (live, new) = cores.on_measured(|| (costs(&live, runs), costs(&new, runs)))?;
    let reach = [Bound::at_most(Statistic::Median, 10.0)];
    Ok(Measured::from(vec![
        Line::new("over 10000 live jobs", Unit::Millis, &reach, &live)?,
        Line::new("over 10000 new jobs", Unit::Millis, &[], &new)?,
    ]))
}

fn costs(crowd: &Crowd, runs: usize) -> Vec<Vec<f64>> {
    (0..runs).map(|_| vec![crowd.cost(ROUNDS).as_secs_f64() * 1000.0]).collect()
}
