//! K4: memory with 5,000 Jobs in flight, all of whose agents are at work at one moment, and over
//! their whole life.

use std::time::Duration;

use cluster::Controllers;
use sandbox::engine::State;

use crate::Done;
use crate::figures::{Measured, each};
use crate::pods::{Agents, Ground};
use crate::record::{Bound, Line, Statistic, Unit};
use crate::stage::{new_jobs, until_within};

const JOBS: usize = 5_000;
/// Longer than it takes until all are at work; then they are told to leave.
const SECONDS: f64 = 3_600.0;
/// The control plane and the stand-in for a kubelet write some ten times for each pod.
const PATIENCE: Duration = Duration::from_secs(900);

#[derive(Debug)]
struct Use {
    idle: f64,
    /// The peak until the first of them ends.
    at_work: f64,
    /// The peak of their whole life.
    peak: f64,
}

pub(in crate::figures) async fn measure(runs: usize) -> Done<Measured> {
    let mut uses = Vec::new();
    for _ in 0..runs {
        uses.push(run().await?);
    }
    let most = [Bound::at_most(Statistic::Worst, 48.0)];
    Ok(Measured::from(vec![
        Line::new("memory before them", Unit::Mib, &[], &each(&uses, |run| run.idle))?,
        Line::new(
            "peak until all 5000 are at work",
            Unit::Mib,
            &most,
            &each(&uses, |run| run.at_work),
        )?,
        Line::new(
            "peak, their common end included",
            Unit::Mib,
            &most,
            &each(&uses, |run| run.peak),
        )?,
    ]))
}

async fn run() -> Done<Use> {
    let ground = Ground::set(Controllers::Quick, Agents::Play).await?;
    let stage = ground.pods().await?;
    let idle = stage.program.memory()?;
    new_jobs(&stage.sandbox, JOBS, |_| SECONDS)?;
    let count = |wanted: fn(State) -> bool| {
        stage.sandbox.engine(|engine, _| engine.jobs().filter(|job| wanted(job.state)).count())
    };
    let all_work = async || Ok(count(|state| state == State::Running) >= JOBS);
    until_within(PATIENCE, "all are at work", all_work).await?;
    let at_work = stage.program.peak_memory()?;
    ground.leave();
    let ended = async || Ok(count(State::is_terminal) >= JOBS);
    until_within(PATIENCE, "all have ended", ended).await?;
    ground.until_empty(&stage.room).await?;
    Ok(Use { idle, at_work, peak: stage.program.peak_memory()? })
}
