//! The whole way of 1,000 jobs, from visible to deleted, in Jitney's own process. They arrive over
//! some seconds: a burst would measure how many rounds fit into what the world leaves of the time.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::calibration::Calibration;
use super::percentile;
use crate::Done;
use crate::cores::Cores;
use crate::stage::{Scene, Stage};

const JOBS: usize = 1_000;
const TOGETHER: usize = 10;
/// Of the calibration loop, each time.
const TURNS: u32 = 20;
const EVERY: Duration = Duration::from_millis(40);

/// The ratio of its processor time to that of the calibration loop, which runs in turns with it.
/// Whatever else the machine does only adds to either: the least of each counts.
pub(super) fn measure(cores: Cores, ways: usize) -> Done<f64> {
    cores.join_world()?;
    let runtime = crate::runtime()?;
    let calibration = Calibration::new();
    let (mut took, mut turns) = (Vec::new(), Vec::new());
    for _ in 0..ways {
        turns.push(cores.on_measured(|| (calibration.cost(TURNS) / TURNS).as_secs_f64())?);
        took.push(runtime.block_on(way(cores))?);
    }
    Ok(percentile(took, 0)? / percentile(turns, 0)?)
}

/// In seconds.
async fn way(cores: Cores) -> Done<f64> {
    let stage = Stage::set(cores, Scene::default()).await?;
    let before = stage.program.user_processor()?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..JOBS / TOGETHER {
        ticks.tick().await;
        stage.world.jobs(TOGETHER, |_| 0.0)?;
    }
    stage.world.until_deleted(JOBS).await?;
    Ok(stage.program.user_processor()? - before)
}
