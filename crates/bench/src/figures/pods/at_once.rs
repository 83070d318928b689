//! K1: 1,000 jobs that become visible at one moment, until the last has its Job and its pod, beside
//! a bare loop of as many creates in the same run.

use cluster::Controllers;

use crate::Done;
use crate::bare_jobs;
use crate::figures::{Measured, each};
use crate::pods::{Agents, Ground, Room};
use crate::record::{Bound, Line, Statistic, Unit};
use crate::stage::{millis, new_jobs};

const JOBS: usize = 1_000;
/// An API server's first thousand objects take it longer than those that follow.
const WARM_UP: usize = 1_000;
/// A time more than half as long again is too much.
const RATIO: f64 = 1.5;

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

pub(in crate::figures) async fn measure(runs: usize) -> Done<Measured> {
    let mut lines = lines(&series(runs).await?)?;
    // Minutes are not needed often: one run tells what the controllers make of it.
    let ground = Ground::set(Controllers::AsShipped, Agents::NeverBegin).await?;
    let slow = [by_jitney(&ground).await?.0];
    let mut line = |what: &str, value: fn(&Burst) -> f64| -> Done<()> {
        let what = format!("controllers as shipped: {what}");
        lines.push(Line::new(what, Unit::Millis, &[], &each(&slow, value))?);
        Ok(())
    };
    line("the last Job", |burst| burst.job)?;
    line("the last pod", |burst| burst.pod)?;
    Ok(Measured::from(lines))
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
    let before = stage.program.processor()?;
    let (_, visible) = new_jobs(&stage.sandbox, JOBS, |_| 0.0)?;
    stage.room.until_jobs(JOBS).await?;
    let program = (stage.program.processor()? - before) * 1000.0;
    stage.room.until_pods(JOBS).await?;
    let last = |resource| stage.room.made(resource).map(|call| call.answered_at).max();
    let took = |resource| last(resource).map(|at| millis(visible, at)).ok_or("nothing was made");
    let burst = Burst { job: took("jobs")?, pod: took("pods")?, program };
    Ok((burst, stage.room))
}

/// Its time begins as its first request arrives.
async fn by_bare_loop(ground: &Ground, count: usize) -> Done<Burst> {
    let mut room = ground.room().await?;
    let program = bare_jobs::start(&room, count)?;
    room.until_jobs(count).await?;
    let processor = program.processor()? * 1000.0;
    room.until_pods(count).await?;
    let first = room.made("jobs").map(|call| call.at).min().ok_or("nothing was made")?;
    let last = |resource| room.made(resource).map(|call| call.answered_at).max();
    let took = |resource| last(resource).map(|at| millis(first, at)).ok_or("nothing was made");
    let burst = Burst { job: took("jobs")?, pod: took("pods")?, program: processor };
    ground.clear(room).await?;
    Ok(burst)
}
