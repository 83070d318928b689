//! K3: what Jitney asks of the API server over the whole way of 1,000 jobs, as the audit log has
//! it. A Secret holds the tokens of many jobs: its writes are batches.

use cluster::{Call, Controllers};

use crate::Done;
use crate::figures::{Measured, each};
use crate::pods::{Agents, Ground};
use crate::record::{Bound, Line, Statistic, Unit, float};
use crate::stage::{new_jobs, until};

const JOBS: usize = 1_000;
const SECONDS: f64 = 2.0;

#[derive(Debug)]
struct Calls {
    writes: f64,
    batches: f64,
    reads: f64,
}

pub(in crate::figures) async fn measure(runs: usize) -> Done<Measured> {
    let ground = Ground::set(Controllers::Quick, Agents::Play).await?;
    let mut all = Vec::new();
    for _ in 0..runs {
        all.push(run(&ground).await?);
    }
    let most = [Bound::at_most(Statistic::Worst, 2.0)];
    let line = |what: &str, reach: &[Bound], value: fn(&Calls) -> f64| {
        Line::new(what, Unit::Calls, reach, &each(&all, value))
    };
    Ok(Measured::from(vec![
        line("writes, beyond batches", &most, |run| run.writes)?,
        line("writes of Secrets", &[], |run| run.batches)?,
        line("reads", &[], |run| run.reads)?,
    ]))
}

async fn run(ground: &Ground) -> Done<Calls> {
    let mut stage = ground.pods().await?;
    let (jobs, _) = new_jobs(&stage.sandbox, JOBS, |_| SECONDS)?;
    until("all jobs have ended", async || {
        Ok(stage.sandbox.engine(|engine, _| {
            jobs.iter().all(|job| engine.job(*job).is_some_and(|job| job.state.is_terminal()))
        }))
    })
    .await?;
    ground.until_empty(&stage.room).await?;
    stage.room.look()?;
    let is_read = |call: &&Call| matches!(call.verb.as_str(), "get" | "list" | "watch");
    let (reads, writes): (Vec<_>, Vec<_>) = stage.room.ours().partition(is_read);
    let (batches, single): (Vec<_>, Vec<_>) =
        writes.into_iter().partition(|call| call.resource == "secrets");
    let per_job = |calls: &[&Call]| float(calls.len()) / float(JOBS);
    let calls =
        Calls { writes: per_job(&single), batches: per_job(&batches), reads: per_job(&reads) };
    drop(stage.program);
    ground.clear(stage.room).await?;
    Ok(calls)
}
