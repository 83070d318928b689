//! T9: memory and processor, idle and with 5,000 jobs in flight.

use std::time::Duration;

use tokio::time::sleep;

use super::{Measured, each, repeat};
use crate::Done;
use crate::cores::Cores;
use crate::record::{Bound, Line, Statistic, Unit};
use crate::stage::{Scene, Stage};

/// The start is over.
const SETTLED: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(20);
const JOBS: usize = 5_000;
/// Long enough that all are under way together, however long the world takes to start them.
const SECONDS: f64 = 30.0;

#[derive(Debug)]
struct Use {
    memory: f64,
    share: f64,
}

pub(super) async fn measure(cores: Cores, runs: usize) -> Done<Measured> {
    let quiet = repeat(runs, || idle(cores)).await?;
    let peaks = repeat(runs, || busy(cores)).await?;
    let most = |limit| [Bound::at_most(Statistic::Worst, limit)];
    let memory = |run: &Use| run.memory;
    let share = |run: &Use| run.share;
    Ok(Measured::from(vec![
        Line::new("memory, idle", Unit::Mib, &most(20.0), &each(&quiet, memory))?,
        Line::new("processor, idle", Unit::Share, &most(1.0), &each(&quiet, share))?,
        Line::new("peak memory, 5000 in flight", Unit::Mib, &most(48.0), &each(&peaks, memory))?,
        Line::new("processor meanwhile", Unit::Share, &[], &each(&peaks, share))?,
    ]))
}

async fn idle(cores: Cores) -> Done<Use> {
    let stage = Stage::set(cores, Scene::default()).await?;
    sleep(SETTLED).await;
    let before = stage.program.processor()?;
    sleep(IDLE).await;
    let share = (stage.program.processor()? - before) / IDLE.as_secs_f64() * 100.0;
    Ok(Use { memory: stage.program.memory()?, share })
}

async fn busy(cores: Cores) -> Done<Use> {
    let stage = Stage::set(cores, Scene::default()).await?;
    let (before, began) = (stage.program.processor()?, std::time::Instant::now());
    stage.world.jobs(JOBS, |_| SECONDS)?;
    stage.world.until_deleted(JOBS).await?;
    let share = (stage.program.processor()? - before) / began.elapsed().as_secs_f64() * 100.0;
    let together = stage.world.counters().await?.most_alive;
    if together < JOBS {
        return Err(format!("only {together} of {JOBS} machines were alive together").into());
    }
    Ok(Use { memory: stage.program.peak_memory()?, share })
}
