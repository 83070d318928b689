//! K2: jobs that arrive without a pause, faster than the figure to reach. Their pods are made and
//! bound, and wait.

use std::time::Duration;

use cluster::Controllers;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use crate::Done;
use crate::figures::{Measured, each, samples};
use crate::pods::{Agents, Ground, Pods, name};
use crate::record::{Bound, Line, Statistic, Unit, float};
use crate::stage::{millis, new_jobs};

/// So many jobs become visible together, so often: 250 a second.
const TOGETHER: usize = 25;
const EVERY: Duration = Duration::from_millis(100);
const ARRIVALS: usize = 200;
/// From the first arrival; what comes before is not counted.
const WARM_UP_MS: f64 = 5_000.0;
const REACH: f64 = 200.0;

#[derive(Debug)]
struct Stream {
    per_second: f64,
    waited: Vec<f64>,
    /// Visible and without a Job as the last jobs arrived.
    behind: f64,
    /// Of a core, as the jobs arrive.
    share: f64,
}

pub(in crate::figures) async fn measure(runs: usize) -> Done<Measured> {
    let ground = Ground::set(Controllers::Quick, Agents::NeverBegin).await?;
    let mut streams = Vec::new();
    for _ in 0..runs {
        streams.push(run(&ground).await?);
    }
    let reach = [Bound::at_least(Statistic::Median, REACH)];
    let rate = each(&streams, |run| run.per_second);
    let behind = each(&streams, |run| run.behind);
    Ok(Measured::from(vec![
        Line::new("250 arrive per second: dispatched", Unit::Rate, &reach, &rate)?,
        Line::new("visible to Job", Unit::Millis, &[], &samples(&streams, |run| &run.waited))?,
        Line::new("behind as the last arrive", Unit::Jobs, &[], &behind)?,
        Line::new("Jitney's processor", Unit::Share, &[], &each(&streams, |run| run.share))?,
    ]))
}

async fn run(ground: &Ground) -> Done<Stream> {
    let mut stage = ground.pods().await?;
    let (before, began) = (stage.program.processor()?, Instant::now());
    let arrived = arrive(&stage).await?;
    let share = (stage.program.processor()? - before) / began.elapsed().as_secs_f64() * 100.0;
    stage.room.until_jobs(arrived.len()).await?;
    let stream = stream(&stage, &arrived, share)?;
    drop(stage.program);
    ground.clear(stage.room).await?;
    Ok(stream)
}

async fn arrive(stage: &Pods) -> Done<Vec<(Uuid, Timestamp)>> {
    let mut arrived = Vec::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..ARRIVALS {
        ticks.tick().await;
        let (jobs, at) = new_jobs(&stage.sandbox, TOGETHER, |_| 0.0)?;
        arrived.extend(jobs.into_iter().map(|job| (job, at)));
    }
    Ok(arrived)
}

fn stream(stage: &Pods, arrived: &[(Uuid, Timestamp)], share: f64) -> Done<Stream> {
    let made = stage.room.made_at();
    let first = arrived.first().ok_or("no job arrived")?.1;
    let length = millis(first, arrived.last().ok_or("no job arrived")?.1);
    let (mut waited, mut within, mut by_the_end) = (Vec::new(), 0, 0);
    for (job, at) in arrived {
        let made = *made.get(&*name(*job)).ok_or("a job without a Job")?;
        waited.push(millis(*at, made));
        let after = millis(first, made);
        by_the_end += usize::from(after < length);
        within += usize::from(after >= WARM_UP_MS && after < length);
    }
    let per_second = float(within) / (length - WARM_UP_MS) * 1000.0;
    Ok(Stream { per_second, waited, behind: float(arrived.len() - by_the_end), share })
}
