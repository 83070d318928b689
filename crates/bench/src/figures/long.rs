//! Long runs, to see that memory is flat: idle, steady, and very many short jobs in a row. The
//! journal on disk grows by design; what is held in memory must not. Each is bounded in time.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::Measured;
use crate::Done;
use crate::cores::Cores;
use crate::record::{Bound, Line, Statistic, Unit, float, quantile};
use crate::stage::{Scene, Stage};

const TEN_MINUTES: Duration = Duration::from_secs(600);
/// A row that is not through by then has failed.
const LONGEST_ROW: Duration = Duration::from_secs(2_400);
const SAMPLE: Duration = Duration::from_secs(1);
/// How much of a row's jobs are under way at a time.
const IN_FLIGHT: usize = 1_000;
const ROW: usize = 200_000;
const PER_SECOND: usize = 20;
/// Memory counts as flat when the median of the run's last tenth is at most so far above that of
/// its second one.
const FLAT_MIB: f64 = 2.0;

/// What was seen of the program, once a second.
#[derive(Debug)]
struct Watch {
    began: Instant,
    processor: f64,
    memory: Vec<f64>,
}

pub(super) async fn idle(cores: Cores) -> Done<Measured> {
    let stage = Stage::set(cores, Scene::default()).await?;
    let mut watch = Watch::new(&stage)?;
    let mut ticks = seconds();
    while watch.began.elapsed() < TEN_MINUTES {
        ticks.tick().await;
        watch.look(&stage)?;
    }
    let most = |limit| [Bound::at_most(Statistic::Worst, limit)];
    Ok(Measured::from(watch.lines(&stage, &most(20.0), &most(1.0))?))
}

pub(super) async fn steady(cores: Cores) -> Done<Measured> {
    let stage = Stage::set(cores, Scene::default()).await?;
    let mut watch = Watch::new(&stage)?;
    let mut ticks = interval(SAMPLE / u32::try_from(PER_SECOND)?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut count = 0;
    while watch.began.elapsed() < TEN_MINUTES {
        ticks.tick().await;
        stage.world.jobs(1, |_| 0.0)?;
        count += 1;
        if count % PER_SECOND == 0 {
            watch.look(&stage)?;
        }
    }
    let mut lines = watch.lines(&stage, &[], &[])?;
    stage.world.until_deleted(count).await?;
    lines.push(Line::new("jobs", Unit::Jobs, &[], &[vec![float(count)]])?);
    Ok(Measured::from(lines))
}

pub(super) async fn in_a_row(cores: Cores) -> Done<Measured> {
    let stage = Stage::set(cores, Scene::default()).await?;
    let mut watch = Watch::new(&stage)?;
    let mut ticks = interval(SAMPLE / 10);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut come, mut gone) = (0, 0);
    while gone < ROW {
        ticks.tick().await;
        gone = stage.world.counters().await?.deleted;
        let room = (IN_FLIGHT + gone).min(ROW).saturating_sub(come);
        if room > 0 {
            stage.world.jobs(room, |_| 0.0)?;
            come += room;
        }
        let elapsed = watch.began.elapsed();
        if elapsed.as_secs_f64() >= float(watch.memory.len()) {
            watch.look(&stage)?;
        }
        if elapsed > LONGEST_ROW {
            return Err(format!("{gone} of {ROW} jobs within {LONGEST_ROW:?}").into());
        }
    }
    let rate = float(ROW) / watch.began.elapsed().as_secs_f64();
    let mut lines = watch.lines(&stage, &[], &[])?;
    lines.push(Line::new("jobs per second", Unit::Rate, &[], &[vec![rate]])?);
    Ok(Measured::from(lines))
}

fn seconds() -> tokio::time::Interval {
    let mut ticks = interval(SAMPLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

impl Watch {
    fn new(stage: &Stage) -> Done<Self> {
        let processor = stage.program.processor()?;
        Ok(Self { began: Instant::now(), processor, memory: Vec::new() })
    }

    fn look(&mut self, stage: &Stage) -> Done<()> {
        self.memory.push(stage.program.memory()?);
        Ok(())
    }

    /// What may be reached at the peak of memory, and by the share of a processor, is the run's.
    fn lines(&self, stage: &Stage, peak: &[Bound], most: &[Bound]) -> Done<Vec<Line>> {
        let seconds = self.began.elapsed().as_secs_f64();
        let share = (stage.program.processor()? - self.processor) / seconds * 100.0;
        let tenth = |number: usize| {
            let length = self.memory.len() / 10;
            let mut part = self.memory.iter().skip(number * length).take(length).copied();
            median(&mut part)
        };
        let too_short = || "the run was too short to be judged";
        let (early, late) = (tenth(1).ok_or_else(too_short)?, tenth(9).ok_or_else(too_short)?);
        let slope = slope(&self.memory[self.memory.len() / 10..]) * 3_600.0;
        let flat = [Bound::at_most(Statistic::Worst, FLAT_MIB)];
        let one = |what: &str, unit, reach: &[Bound], value: f64| {
            Line::new(what, unit, reach, &[vec![value]])
        };
        Ok(vec![
            one("memory in the second tenth", Unit::Mib, &[], early)?,
            one("memory in the last tenth", Unit::Mib, &[], late)?,
            one("growth between them", Unit::Mib, &flat, late - early)?,
            one("slope after the first tenth", Unit::MibPerHour, &[], slope)?,
            one("peak memory", Unit::Mib, peak, stage.program.peak_memory()?)?,
            one("processor", Unit::Share, most, share)?,
        ])
    }
}

fn median(samples: &mut dyn Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = samples.collect();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 50)
}

/// Per sample, by least squares.
fn slope(samples: &[f64]) -> f64 {
    let count = float(samples.len());
    let middle = (count - 1.0) / 2.0;
    let mean = samples.iter().sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        let from_middle = float(at) - middle;
        above += from_middle * (sample - mean);
        below += from_middle * from_middle;
    }
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_what_each_sample_adds() {
        assert_eq!(slope(&[1.0, 3.0, 5.0, 7.0]), 2.0);
        assert_eq!(slope(&[4.0, 4.0, 4.0]), 0.0);
        assert_eq!(slope(&[4.0]), 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0].into_iter()), Some(2.0));
    }
}
