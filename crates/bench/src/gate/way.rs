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
const TURNS: u32 = 60;
const EVERY: Duration = Duration::from_millis(40);

/// The ratio of its processor time to that of the calibration loop, which runs before and after it.
pub(super) fn measure(cores: Cores, ways: usize) -> Done<f64> {
    cores.join_world()?;
    let runtime = crate::runtime()?;
    let calibration = Calibration::new();
    let calibrate = || cores.on_measured(|| calibration.cost(TURNS) / TURNS);
    let mut ratios = Vec::new();
    let mut before = calibrate()?;
    for _ in 0..ways {
        let took = runtime.block_on(way(cores))?;
        let after = calibrate()?;
        ratios.push(2.0 * took.as_secs_f64() / (before + after).as_secs_f64());
        before = after;
    }
    percentile(ratios, 50)
}

async fn way(cores: Cores) -> Done<Duration> {
    let stage = Stage::set(cores, Scene::default()).await?;
    let before = stage.program.processor()?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..JOBS / TOGETHER {
        ticks.tick().await;
        stage.world.jobs(TOGETHER, |_| 0.0)?;
    }
    stage.world.until_deleted(JOBS).await?;
    Ok(Duration::from_secs_f64(stage.program.processor()? - before))
}
