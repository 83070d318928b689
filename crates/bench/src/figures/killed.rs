//! T5: killed, as by `kill -9`, at the moment at which the last of 1,000 jobs is reserved, and
//! started anew at once: until each job has an agent, and that no job has two machines.

use std::collections::BTreeMap;

use sandbox::engine::{Engine, EventKind, State};
use uuid::Uuid;

use super::{Measured, each, repeat};
use crate::Done;
use crate::cores::Cores;
use crate::record::{Bound, Line, Statistic, Unit, float};
use crate::stage::{Scene, Stage, millis};

const JOBS: usize = 1_000;
/// No agent has a job yet when the kill comes.
const BOOT_MS: u64 = 2_000;
const REACH: f64 = 60.0;

#[derive(Debug)]
struct Killed {
    /// From the kill to the last job's acquire.
    seconds: f64,
    /// Claimed jobs that had no machine at the kill.
    without: f64,
    twice: f64,
}

pub(super) async fn measure(cores: Cores, runs: usize) -> Done<Measured> {
    let runs = repeat(runs, || run(cores)).await?;
    let reach = [Bound::at_most(Statistic::Worst, REACH)];
    let never = [Bound::at_most(Statistic::Worst, 0.0)];
    let with = |what: &str, unit, reach: &[Bound], value: fn(&Killed) -> f64| {
        Line::new(what, unit, reach, &each(&runs, value))
    };
    Ok(Measured::from(vec![
        with("kill to the last agent's acquire", Unit::Seconds, &reach, |run| run.seconds)?,
        with("claimed without a machine at the kill", Unit::Jobs, &[], |run| run.without)?,
        with("dispatched twice", Unit::Jobs, &never, |run| run.twice)?,
    ]))
}

async fn run(cores: Cores) -> Done<Killed> {
    let mut stage = Stage::set(cores, Scene { boot_delay_ms: BOOT_MS, webhook: false }).await?;
    let (jobs, _) = stage.world.jobs(JOBS, |_| 0.0)?;
    let reserved = |engine: &Engine| {
        let is = |id: &Uuid| engine.job(*id).is_some_and(|job| job.state == State::Reserved);
        jobs.iter().all(is).then_some(())
    };
    stage.world.saw("all jobs are reserved", reserved).await?;
    let killed = stage.world.sandbox.now();
    stage.program.kill()?;
    let made_before = stage.world.counters().await?.made;
    stage.restart()?;
    stage.world.until_deleted(JOBS).await?;
    let mut machines: BTreeMap<Uuid, usize> = BTreeMap::new();
    for noted in stage.world.log().await? {
        if noted.outcome.starts_with("made") {
            *machines.entry(noted.job.ok_or("a create without a job")?).or_default() += 1;
        }
    }
    let acquired = stage.world.sandbox.engine(|engine, _| {
        let acquired = jobs.iter().filter_map(|id| {
            let mut events = engine.job(*id)?.events.iter();
            events.find(|event| event.kind == EventKind::Accepted).map(|event| event.at)
        });
        acquired.collect::<Vec<_>>()
    });
    if acquired.len() < JOBS {
        return Err(format!("{} of {JOBS} jobs were acquired", acquired.len()).into());
    }
    let last = acquired.into_iter().max().ok_or("no job was acquired")?;
    let twice = machines.values().filter(|made| **made > 1).count();
    Ok(Killed {
        seconds: millis(killed, last) / 1000.0,
        without: float(JOBS.saturating_sub(made_before)),
        twice: float(twice),
    })
}
