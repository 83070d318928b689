//! T12: 500 jobs whose machines boot are cancelled together, while new jobs arrive: when the delete
//! of each machine arrives, and whether the new jobs wait longer than single ones do.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::interval;
use uuid::Uuid;

use super::{Measured, each, last, repeat, samples};
use crate::Done;
use crate::cores::Cores;
use crate::record::{Bound, Line, Statistic, Unit};
use crate::stage::{Scene, Stage, World, cancel, millis, until};

const CANCELLED: usize = 500;
/// No agent comes up before the cancel.
const BOOT_MS: u64 = 120_000;
/// New jobs, one by one, from the moment of the cancel.
const NEW: usize = 40;
const EVERY: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Cancelled {
    deletes: Vec<f64>,
    new: Vec<f64>,
}

pub(super) async fn measure(cores: Cores, runs: usize) -> Done<Measured> {
    let runs = repeat(runs, || run(cores)).await?;
    let within = [Bound::at_most(Statistic::Worst, 2_000.0)];
    // As a single job without a webhook.
    let as_ever = [Bound::at_most(Statistic::Median, 300.0), Bound::at_most(Statistic::P99, 500.0)];
    let lasts = each(&runs, |run| last(&run.deletes));
    let all = samples(&runs, |run| &run.deletes);
    let new = samples(&runs, |run| &run.new);
    Ok(Measured::from(vec![
        Line::new("cancel to the last delete", Unit::Millis, &within, &lasts)?,
        Line::new("cancel to each delete", Unit::Millis, &[], &all)?,
        Line::new("new jobs meanwhile, visible to create", Unit::Millis, &as_ever, &new)?,
    ]))
}

async fn run(cores: Cores) -> Done<Cancelled> {
    let stage = Stage::set(cores, Scene { boot_delay_ms: BOOT_MS, webhook: false }).await?;
    let world = &stage.world;
    let (jobs, _) = world.jobs(CANCELLED, |_| 0.0)?;
    world.until_created(CANCELLED).await?;
    let cancelled = cancel(&world.sandbox, &jobs)?;
    let new = arrive(world).await?;
    world.until_created(CANCELLED + NEW).await?;
    until("500 deletes", async || Ok(world.counters().await?.deleted >= CANCELLED)).await?;
    let jobs: BTreeSet<Uuid> = jobs.into_iter().collect();
    let log = world.log().await?;
    let deletes = log.into_iter().filter(|noted| noted.outcome == "deleted");
    let of_cancelled = deletes.filter(|noted| noted.job.is_some_and(|job| jobs.contains(&job)));
    let deletes: Vec<f64> = of_cancelled.map(|noted| millis(cancelled, noted.at)).collect();
    let creates = world.creates().await?;
    let waited = new.iter().filter_map(|(job, at)| Some(millis(*at, *creates.get(job)?)));
    let waited: Vec<f64> = waited.collect();
    let (deleted, made) = (deletes.len(), waited.len());
    if deleted != jobs.len() || made != new.len() {
        let (jobs, new) = (jobs.len(), new.len());
        let words = format!("{deleted} of {jobs} machines were deleted, {made} of {new} made");
        return Err(words.into());
    }
    Ok(Cancelled { deletes, new: waited })
}

async fn arrive(world: &World) -> Done<Vec<(Uuid, Timestamp)>> {
    let mut arrived = Vec::new();
    let mut ticks = interval(EVERY);
    for _ in 0..NEW {
        ticks.tick().await;
        let (jobs, at) = world.jobs(1, |_| 0.0)?;
        arrived.extend(jobs.into_iter().map(|job| (job, at)));
    }
    Ok(arrived)
}
