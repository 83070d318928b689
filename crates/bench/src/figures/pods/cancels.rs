//! K5: 500 jobs whose pods are there and have not begun are cancelled together, while new jobs
//! arrive: when the delete of each Job arrives, and whether the new jobs wait for it.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::Controllers;
use jiff::Timestamp;
use tokio::time::interval;
use uuid::Uuid;

use crate::Done;
use crate::figures::{Measured, each, last, samples};
use crate::pods::{Agents, Ground, Pods, name};
use crate::record::{Bound, Line, Statistic, Unit};
use crate::stage::{cancel, millis, new_jobs, until};

const CANCELLED: usize = 500;
/// New jobs, one by one, from the moment of the cancel.
const NEW: usize = 40;
const EVERY: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Cancelled {
    deletes: Vec<f64>,
    new: Vec<f64>,
}

pub(in crate::figures) async fn measure(runs: usize) -> Done<Measured> {
    // Pods have to be there, and not soon; quick controllers would delete them while Jitney deletes
    // their Jobs, and the time would be theirs.
    let ground = Ground::set(Controllers::AsShipped, Agents::NeverBegin).await?;
    let mut all = Vec::new();
    for _ in 0..runs {
        all.push(run(&ground).await?);
    }
    let within = [Bound::at_most(Statistic::Worst, 2_000.0)];
    let lasts = each(&all, |run| last(&run.deletes));
    let deletes = samples(&all, |run| &run.deletes);
    let new = samples(&all, |run| &run.new);
    Ok(Measured::from(vec![
        Line::new("cancel to the last delete", Unit::Millis, &within, &lasts)?,
        Line::new("cancel to each delete", Unit::Millis, &[], &deletes)?,
        Line::new("new jobs meanwhile, visible to Job", Unit::Millis, &[], &new)?,
    ]))
}

async fn run(ground: &Ground) -> Done<Cancelled> {
    let mut stage = ground.pods().await?;
    let (jobs, _) = new_jobs(&stage.sandbox, CANCELLED, |_| 0.0)?;
    stage.room.until_pods(CANCELLED).await?;
    let cancelled = cancel(&stage.sandbox, &jobs)?;
    let new = arrive(&stage).await?;
    let names: BTreeSet<String> = jobs.into_iter().map(name).collect();
    let room = &mut stage.room;
    until("500 deletes", async || {
        room.look()?;
        let deletes = room.deletes().filter(|call| names.contains(&call.name));
        Ok(deletes.count() >= CANCELLED && room.made("jobs").count() >= CANCELLED + NEW)
    })
    .await?;
    let deletes = room.deletes().filter(|call| names.contains(&call.name));
    let deletes = deletes.map(|call| millis(cancelled, call.at)).collect();
    let made = room.made_at();
    let waited = new.iter().filter_map(|(job, at)| Some(millis(*at, *made.get(&*name(*job))?)));
    let outcome = Cancelled { deletes, new: waited.collect() };
    drop(stage.program);
    ground.clear(stage.room).await?;
    Ok(outcome)
}

async fn arrive(stage: &Pods) -> Done<Vec<(Uuid, Timestamp)>> {
    let mut arrived = Vec::new();
    let mut ticks = interval(EVERY);
    for _ in 0..NEW {
        ticks.tick().await;
        let (jobs, at) = new_jobs(&stage.sandbox, 1, |_| 0.0)?;
        arrived.extend(jobs.into_iter().map(|job| (job, at)));
    }
    Ok(arrived)
}
