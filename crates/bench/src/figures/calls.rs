//! T10: calls per job over the whole way of 1,000 jobs, as the two fakes counted them. Listings and
//! calls that take up to 1,000 jobs each are batches.

use super::{Measured, each, repeat};
use crate::Done;
use crate::cores::Cores;
use crate::record::{Bound, Line, Statistic, Unit, float};
use crate::stage::{Scene, Stage};

const JOBS: usize = 1_000;
const SECONDS: f64 = 2.0;
/// Of the calls that a stack makes, those that are about one job.
const PER_JOB: [&str; 2] = ["/v3/stacks/{key}/jobs/{id}", "/v3/stacks/{key}/jobs/{id}/finish"];

#[derive(Debug)]
struct Calls {
    machines: f64,
    buildkite: f64,
    batches: f64,
}

pub(super) async fn measure(cores: Cores, runs: usize) -> Done<Measured> {
    let runs = repeat(runs, || run(cores)).await?;
    let most = |limit| [Bound::at_most(Statistic::Worst, limit)];
    let line = |what: &str, reach: &[Bound], value: fn(&Calls) -> f64| {
        Line::new(what, Unit::Calls, reach, &each(&runs, value))
    };
    Ok(Measured::from(vec![
        line("to the backend, beyond listings", &most(3.0), |run| run.machines)?,
        line("to Buildkite, beyond batches", &most(0.1), |run| run.buildkite)?,
        line("to Buildkite, batches", &[], |run| run.batches)?,
    ]))
}

async fn run(cores: Cores) -> Done<Calls> {
    let stage = Stage::set(cores, Scene::default()).await?;
    let before = stage.world.sandbox.requests().len();
    stage.world.jobs(JOBS, |_| SECONDS)?;
    stage.world.until_deleted(JOBS).await?;
    let counters = stage.world.counters().await?;
    let requests = stage.world.sandbox.requests();
    let ours = requests.iter().skip(before).filter(|request| request.token == "cluster");
    let (single, batches): (Vec<_>, Vec<_>) =
        ours.partition(|request| PER_JOB.contains(&request.route.as_str()));
    Ok(Calls {
        machines: float(counters.creates + counters.deletes) / float(JOBS),
        buildkite: float(single.len()) / float(JOBS),
        batches: float(batches.len()) / float(JOBS),
    })
}
