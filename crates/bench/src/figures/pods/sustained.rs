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
    let arrived = ARRIVALS.arrive(&stage.sandbox).await?;
    let share = (stage.program.processor()? - before) / began.elapsed().as_secs_f64() * 100.0;
    stage.room.until_jobs(arrived.len()).await?;
    let made = stage.room.made_at();
    let stream = Stream::of(&arrived, |job| made.get(&*name(job)).copied(), share)?;
    drop(stage.program);
    ground.clear(stage.room).await?;
    Ok(stream)
}
