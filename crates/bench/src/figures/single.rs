//! T1: single jobs, one after the other, from visible to the arrival of the create.

use std::time::Duration;

use tokio::time::sleep;

use super::{Measured, repeat};
use crate::Done;
use crate::cores::Cores;
use crate::record::{Bound, Line, Statistic, Unit};
use crate::stage::{Scene, Stage, millis};

const JOBS: usize = 40;
/// After a job, until the queue counts as idle and the next listing may come at any moment.
const APART_MS: u64 = 300;
/// Jobs are spread over the pace of an idle queue's listing, or all would meet the same moment.
const PACE_MS: u64 = 250;
const STRIDE: u64 = 37;

pub(super) async fn measure(cores: Cores, runs: usize) -> Done<Measured> {
    let with = repeat(runs, || run(cores, true)).await?;
    let without = repeat(runs, || run(cores, false)).await?;
    let reach =
        |p50, p99| [Bound::at_most(Statistic::Median, p50), Bound::at_most(Statistic::P99, p99)];
    let line =
        |what: &str, reach: &[Bound], runs: &[Vec<f64>]| Line::new(what, Unit::Millis, reach, runs);
    Ok(Measured::from(vec![
        line("with webhook", &reach(200.0, 400.0), &with)?,
        line("without webhook", &reach(300.0, 500.0), &without)?,
    ]))
}

async fn run(cores: Cores, webhook: bool) -> Done<Vec<f64>> {
    let stage = Stage::set(cores, Scene { webhook, ..Scene::default() }).await?;
    let mut visible = Vec::new();
    for turn in 0..JOBS {
        let (jobs, at) = stage.world.jobs(1, |_| 0.0)?;
        stage.world.ended(&jobs).await?;
        visible.extend(jobs.into_iter().map(|job| (job, at)));
        let spread = u64::try_from(turn)? * STRIDE % PACE_MS;
        sleep(Duration::from_millis(APART_MS + spread)).await;
    }
    let creates = stage.world.creates().await?;
    let took = |(job, at): &(_, _)| Some(millis(*at, *creates.get(job)?));
    visible.iter().map(|job| took(job).ok_or_else(|| "a job without a machine".into())).collect()
}
