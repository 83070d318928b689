//! T3: jobs that arrive without a pause, faster than the figure to reach, each ended by its agent
//! as soon as it can. How many are dispatched per second, and how far behind the creates fall.

use std::time::Duration;

use tokio::time::Instant;

use super::stream::{Arrivals, Stream};
use super::{Measured, each, repeat, samples};
use crate::Done;
use crate::bare;
use crate::cores::Cores;
use crate::record::{Bound, Line, Statistic, Unit};
use crate::stage::{Scene, Stage, World};

/// 600 a second.
const ARRIVALS: Arrivals = Arrivals { together: 30, every: Duration::from_millis(50), times: 600 };
const REACH: f64 = 500.0;

pub(super) async fn measure(cores: Cores, runs: usize) -> Done<Measured> {
    let ours = repeat(runs, || by_jitney(cores)).await?;
    let bare = repeat(runs, || by_bare_loop(cores)).await?;
    let reach = [Bound::at_least(Statistic::Median, REACH)];
    let rate = |runs: &[Stream]| each(runs, |run| run.per_second);
    Ok(Measured::from(vec![
        Line::new("600 arrive per second: dispatched", Unit::Rate, &reach, &rate(&ours))?,
        Line::new("visible to create", Unit::Millis, &[], &samples(&ours, |run| &run.waited))?,
        Line::new("behind as the last arrive", Unit::Jobs, &[], &each(&ours, |run| run.behind))?,
        Line::new("Jitney's processor", Unit::Share, &[], &each(&ours, |run| run.share))?,
        Line::new("dispatched by a bare loop", Unit::Rate, &[], &rate(&bare))?,
        Line::new("the bare loop's processor", Unit::Share, &[], &each(&bare, |run| run.share))?,
    ]))
}

async fn by_jitney(cores: Cores) -> Done<Stream> {
    let stage = Stage::set(cores, Scene::default()).await?;
    let (before, began) = (stage.program.processor()?, Instant::now());
    let arrived = ARRIVALS.arrive(&stage.world.sandbox).await?;
    let share = (stage.program.processor()? - before) / began.elapsed().as_secs_f64() * 100.0;
    stage.world.until_deleted(arrived.len()).await?;
    let creates = stage.world.creates().await?;
    Stream::of(&arrived, |job| creates.get(&job).copied(), share)
}

async fn by_bare_loop(cores: Cores) -> Done<Stream> {
    let world = World::set(Scene::default()).await?;
    let bare = bare::start(cores, &world, ARRIVALS.together * ARRIVALS.times)?;
    bare::until_registered(&world).await?;
    let (before, began) = (bare.processor()?, Instant::now());
    let arrived = ARRIVALS.arrive(&world.sandbox).await?;
    let share = (bare.processor()? - before) / began.elapsed().as_secs_f64() * 100.0;
    world.until_created(arrived.len()).await?;
    let creates = world.creates().await?;
    Stream::of(&arrived, |job| creates.get(&job).copied(), share)
}
