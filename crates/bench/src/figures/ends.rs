//! T4: from the machine's end, as its service noted it, to the arrival of the delete.

use super::{Measured, repeat};
use crate::Done;
use crate::cores::Cores;
use crate::record::{Bound, Line, Statistic, Unit, float};
use crate::stage::{Scene, Stage, millis};

const JOBS: usize = 1_000;
/// They end one after the other over about so many seconds, or all as fast as the world can.
const SPREAD: f64 = 10.0;

pub(super) async fn measure(cores: Cores, runs: usize) -> Done<Measured> {
    let spread = repeat(runs, || run(cores, SPREAD)).await?;
    let together = repeat(runs, || run(cores, 0.0)).await?;
    let reach = [Bound::at_most(Statistic::P99, 1_000.0)];
    Ok(Measured::from(vec![
        Line::new("1000 machines that end over 10 s", Unit::Millis, &reach, &spread)?,
        Line::new("1000 machines that end at once", Unit::Millis, &reach, &together)?,
    ]))
}

async fn run(cores: Cores, spread: f64) -> Done<Vec<f64>> {
    let stage = Stage::set(cores, Scene::default()).await?;
    let step = spread / float(JOBS);
    stage.world.jobs(JOBS, |number| 1.0 + step * float(number))?;
    stage.world.until_deleted(JOBS).await?;
    let log = stage.world.log().await?;
    let deletes = log.into_iter().filter(|noted| noted.outcome == "deleted");
    let took = deletes.map(|noted| {
        let ended = noted.ended_at.ok_or("a machine was deleted before its end")?;
        Ok(millis(ended, noted.at))
    });
    took.collect()
}
