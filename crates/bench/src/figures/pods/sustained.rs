//! K2: jobs that arrive without a pause, faster than the figure to reach. Their pods are made and
//! bound, and wait.

use std::time::Duration;

use cluster::Controllers;
use tokio::time::Instant;

use crate::Done;
use crate::figures::stream::{Arrivals, Stream};
use crate::figures::{Measured, each, samples};
use crate::pods::{Agents, Ground, name};
use crate::record::{Bound, Line, Statistic, Unit};

/// 250 a second.
const ARRIVALS: Arrivals = Arrivals { together: 25, every: Duration::from_millis(100), times: 200 };
const REACH: f64 = 200.0;

/// A run leaves thousands of Jobs to be deleted one by one, which takes minutes.
const RUNS: usize = 3;

/// Under controllers as shipped, and under ones that make as many calls as they can: these leave an
/// API server on the same two cores little for ours.
pub(in crate::figures) async fn measure(runs: usize) -> Done<Measured> {
    let shipped = streams(Controllers::AsShipped, runs.min(RUNS)).await?;
    let quick = streams(Controllers::Quick, runs.min(RUNS)).await?;
    let reach = [Bound::at_least(Statistic::Median, REACH)];
    let mut all = lines("250 arrive per second", &reach, &shipped)?;
    all.extend(lines("quick controllers", &[], &quick)?);
    Ok(Measured::from(all))
}

fn lines(which: &str, reach: &[Bound], streams: &[Stream]) -> Done<Vec<Line>> {
    let line = |what: &str, unit, reach: &[Bound], samples: &[Vec<f64>]| {
        Line::new(format!("{which}: {what}"), unit, reach, samples)
    };
    Ok(vec![
        line("dispatched", Unit::Rate, reach, &each(streams, |run| run.per_second))?,
        line("visible to Job", Unit::Millis, &[], &samples(streams, |run| &run.waited))?,
        line("behind as the last arrive", Unit::Jobs, &[], &each(streams, |run| run.behind))?,
        line("Jitney's processor", Unit::Share, &[], &each(streams, |run| run.share))?,
    ])
}

async fn streams(controllers: Controllers, runs: usize) -> Done<Vec<Stream>> {
    let ground = Ground::set(controllers, Agents::NeverBegin).await?;
    let mut streams = Vec::new();
    for _ in 0..runs {
        streams.push(run(&ground).await?);
    }
    Ok(streams)
}

async fn run(ground: &Ground) -> Done<Stream> {
    let mut stage = ground.pods().await?;
    let (before, began) = (stage.program.processor()?, Instant::now());
    let arrived = ARRIVALS.arrive(&stage.sandbox).await?;
    let share = (stage.program.processor()? - before) / began.elapsed().as_secs_f64() * 100.0;
    stage.room.until_jobs(arrived.len()).await?;
    let made = stage.room.made_at();
    let stream = Stream::of(&arrived, |job| made.get(&*name(job)).copied(), share)?;
    drop(stage.program);
    ground.clear(stage.room).await?;
    Ok(stream)
}
