//! K1: 1,000 jobs that become visible at one moment, until the last has its Job and its pod, beside
//! a bare loop of as many creates in the same run.

use cluster::Controllers;
use jiff::Timestamp;

use crate::Done;
use crate::bare_jobs;
use crate::figures::{Measured, each};
use crate::pods::{Agents, Ground, Pods, Room};
use crate::record::{Bound, Line, Statistic, Unit};
use crate::stage::{millis, new_jobs};

const JOBS: usize = 1_000;
/// An API server's first thousand objects take it longer than those that follow.
const WARM_UP: usize = 1_000;
/// A time more than half as long again is too much.
const RATIO: f64 = 1.5;

/// Minutes are not needed often: as shipped, controllers make the pods of one run in two of them.
const AS_SHIPPED_RUNS: usize = 3;

/// When the last Job and the last pod were there, in milliseconds.
#[derive(Debug)]
struct Burst {
    job: f64,
    pod: f64,
    program: f64,
}

#[derive(Debug)]
struct Run {
    ours: Burst,
    bare: Burst,
}

/// The last Jobs alone.
#[derive(Debug)]
struct Jobs {
    ours: f64,
    bare: f64,
}

pub(in crate::figures) async fn measure(runs: usize) -> Done<Measured> {
    let mut lines = lines(&series(runs).await?)?;
    lines.extend(as_shipped(runs.min(AS_SHIPPED_RUNS)).await?);
    Ok(Measured::from(lines))
}

/// The same under controllers that make few calls, and so leave the API server to the creates.
async fn as_shipped(runs: usize) -> Done<Vec<Line>> {
    let ground = Ground::set(Controllers::AsShipped, Agents::NeverBegin).await?;
    jobs_by_bare_loop(&mut ground.room().await?, WARM_UP).await?;
    let mut outcomes = Vec::new();
    for _ in 0..runs {
        let (bare, ..) = jobs_by_bare_loop(&mut ground.room().await?, JOBS).await?;
        let (ours, ..) = jobs_by_jitney(&mut ground.pods().await?).await?;
        outcomes.push(Jobs { ours, bare });
    }
    // Its pods come after those of all Jobs before, so they have a cluster of their own.
    drop(ground);
    let ground = Ground::set(Controllers::AsShipped, Agents::NeverBegin).await?;
    let slow = [by_jitney(&ground).await?.0];
    let line = |what: &str, unit, samples: &[_]| {
        Line::new(format!("controllers as shipped: {what}"), unit, &[], samples)
    };
    Ok(vec![
        line("the last Job", Unit::Millis, &each(&outcomes, |run| run.ours))?,
        line("the last Job of a bare loop", Unit::Millis, &each(&outcomes, |run| run.bare))?,
        line("the one to the other", Unit::Ratio, &each(&outcomes, |run| run.ours / run.bare))?,
        line("the last pod", Unit::Millis, &each(&slow, |burst| burst.pod))?,
    ])
}

fn lines(runs: &[Run]) -> Done<Vec<Line>> {
    let reach = [Bound::at_most(Statistic::Median, RATIO)];
    let line = |what: &str, unit, reach: &[Bound], value: fn(&Run) -> f64| {
        Line::new(what, unit, reach, &each(runs, value))
    };
    Ok(vec![
        line("the last Job", Unit::Millis, &[], |run| run.ours.job)?,
        line("the last Job of a bare loop", Unit::Millis, &[], |run| run.bare.job)?,
        line("the one to the other", Unit::Ratio, &reach, |run| run.ours.job / run.bare.job)?,
        line("the last pod", Unit::Millis, &[], |run| run.ours.pod)?,
        line("the last pod of a bare loop", Unit::Millis, &[], |run| run.bare.pod)?,
        line("Jitney's processor time", Unit::Millis, &[], |run| run.ours.program)?,
        line("the bare loop's processor time", Unit::Millis, &[], |run| run.bare.program)?,
    ])
}

async fn series(runs: usize) -> Done<Vec<Run>> {
    let ground = Ground::set(Controllers::Quick, Agents::NeverBegin).await?;
    by_bare_loop(&ground, WARM_UP).await?;
    let mut outcomes = Vec::new();
    for _ in 0..runs {
        let bare = by_bare_loop(&ground, JOBS).await?;
        let (ours, room) = by_jitney(&ground).await?;
        ground.clear(room).await?;
        outcomes.push(Run { bare, ours });
    }
    Ok(outcomes)
}

/// And what is to be cleared away.
async fn by_jitney(ground: &Ground) -> Done<(Burst, Room)> {
    let mut stage = ground.pods().await?;
    let (job, program, visible) = jobs_by_jitney(&mut stage).await?;
    stage.room.until_pods(JOBS).await?;
    let burst = Burst { job, pod: took(&stage.room, "pods", visible)?, program };
    Ok((burst, stage.room))
}

/// The last Job, the processor time that it took, and when they had become visible.
async fn jobs_by_jitney(stage: &mut Pods) -> Done<(f64, f64, Timestamp)> {
    let before = stage.program.processor()?;
    let (_, visible) = new_jobs(&stage.sandbox, JOBS, |_| 0.0)?;
    stage.room.until_jobs(JOBS).await?;
    let program = (stage.program.processor()? - before) * 1000.0;
    Ok((took(&stage.room, "jobs", visible)?, program, visible))
}

fn took(room: &Room, resource: &str, since: Timestamp) -> Done<f64> {
    let last = room.made(resource).map(|call| call.answered_at).max();
    Ok(millis(since, last.ok_or("nothing was made")?))
}

async fn by_bare_loop(ground: &Ground, count: usize) -> Done<Burst> {
    let mut room = ground.room().await?;
    let (job, program, first) = jobs_by_bare_loop(&mut room, count).await?;
    room.until_pods(count).await?;
    let burst = Burst { job, pod: took(&room, "pods", first)?, program };
    ground.clear(room).await?;
    Ok(burst)
}

/// Its time begins as its first request arrives.
async fn jobs_by_bare_loop(room: &mut Room, count: usize) -> Done<(f64, f64, Timestamp)> {
    let program = bare_jobs::start(room, count)?;
    room.until_jobs(count).await?;
    let processor = program.processor()? * 1000.0;
    let first = room.made("jobs").map(|call| call.at).min().ok_or("nothing was made")?;
    Ok((took(room, "jobs", first)?, processor, first))
}
