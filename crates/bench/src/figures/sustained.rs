//! T3: jobs that arrive without a pause, faster than the figure to reach, each ended by its agent
//! as soon as it can. How many are dispatched per second, and how far behind the creates fall.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::{Measured, each, repeat, samples};
use crate::Done;
use crate::bare;
use crate::cores::Cores;
use crate::record::{Bound, Line, Statistic, Unit, float};
use crate::stage::{Scene, Stage, World, millis};

/// So many jobs become visible together, so often: 600 a second.
const TOGETHER: usize = 30;
const EVERY: Duration = Duration::from_millis(50);
const ARRIVALS: usize = 600;
/// From the first arrival; what comes before is not counted.
const WARM_UP_MS: f64 = 5_000.0;
const REACH: f64 = 500.0;

#[derive(Debug)]
struct Stream {
    per_second: f64,
    waited: Vec<f64>,
    /// Visible and not dispatched as the last jobs arrived.
    behind: f64,
    /// Of a core, as the jobs arrive.
    share: f64,
}

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
    let arrived = arrive(&stage.world).await?;
    let share = (stage.program.processor()? - before) / began.elapsed().as_secs_f64() * 100.0;
    stage.world.until_deleted(arrived.len()).await?;
    stream(&stage.world, arrived, share).await
}

async fn by_bare_loop(cores: Cores) -> Done<Stream> {
    let world = World::set(Scene::default()).await?;
    let bare = bare::start(cores, &world, TOGETHER * ARRIVALS)?;
    bare::until_registered(&world).await?;
    let (before, began) = (bare.processor()?, Instant::now());
    let arrived = arrive(&world).await?;
    let share = (bare.processor()? - before) / began.elapsed().as_secs_f64() * 100.0;
    world.until_created(arrived.len()).await?;
    stream(&world, arrived, share).await
}

/// Lets the jobs arrive, and says when each did.
async fn arrive(world: &World) -> Done<Vec<(Uuid, Timestamp)>> {
    let mut arrived = Vec::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..ARRIVALS {
        ticks.tick().await;
        let (jobs, at) = world.jobs(TOGETHER, |_| 0.0)?;
        arrived.extend(jobs.into_iter().map(|job| (job, at)));
    }
    Ok(arrived)
}

async fn stream(world: &World, arrived: Vec<(Uuid, Timestamp)>, share: f64) -> Done<Stream> {
    let creates = world.creates().await?;
    let first = arrived.first().ok_or("no job arrived")?.1;
    let length = millis(first, arrived.last().ok_or("no job arrived")?.1);
    let (mut waited, mut within, mut by_the_end) = (Vec::new(), 0, 0);
    for (job, at) in &arrived {
        let create = *creates.get(job).ok_or("a job without a machine")?;
        waited.push(millis(*at, create));
        let after = millis(first, create);
        by_the_end += usize::from(after < length);
        within += usize::from(after >= WARM_UP_MS && after < length);
    }
    let per_second = float(within) / (length - WARM_UP_MS) * 1000.0;
    Ok(Stream { per_second, waited, behind: float(arrived.len() - by_the_end), share })
}
