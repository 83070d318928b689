//! The gate: processor time of what the core does, as a ratio to a calibration loop that runs in
//! turns with it. A ratio, and of processor time, so that it holds on a machine that others use.

mod calibration;
mod log;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::Done;
use crate::cores::Cores;
use crate::crowd::Crowd;
use crate::process::thread_processor;
use crate::record::{self, quantile};
use calibration::Calibration;
use log::Log;

/// How much over the recorded ratio is too much.
const MARGIN: f64 = 0.20;
/// What is recorded is the least of so many; what is too much is measured again as often.
const TRIES: usize = 3;
/// Of live jobs in the round that is measured.
const JOBS: u32 = 10_000;
/// As many records as the recorded log's jobs fill.
const FEW: u32 = 100;
const SAMPLES: u32 = 120;
const LEAST_DISTURBED: usize = 10;
/// Of the calibration loop, about as long as a round.
const TURNS: u32 = 3;

#[derive(Args, Debug)]
pub(crate) struct Gate {
    /// Keep what is measured now as what is allowed from now on
    #[arg(long)]
    record: bool,
    /// Where the ratios are kept, if not in the repository's own file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Ratios to the calibration loop, by what was measured: `gate.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Ratios(BTreeMap<String, f64>);

pub(crate) fn gate(asked: &Gate) -> Done<()> {
    let own = || crate::repository().join("crates/bench/gate.json");
    let path = asked.file.clone().unwrap_or_else(own);
    let cores = Cores::choose()?;
    let recorded = crate::repository().join("crates/jitney/tests/golden/events.1.jsonl");
    let log = Log::read(&recorded)?;
    let mut measured = measure(cores, &log)?;
    if asked.record {
        for _ in 1..TRIES {
            measured = measured.least(measure(cores, &log)?);
        }
        record::write(&measured, &path)?;
    }
    let recorded = record::read::<Ratios>(&path)?;
    for _ in 1..TRIES {
        if recorded.judge(&measured).is_ok() {
            break;
        }
        measured = measured.least(measure(cores, &log)?);
    }
    for line in recorded.judge(&measured)? {
        println!("{line}");
    }
    Ok(())
}

fn measure(cores: Cores, log: &Log) -> Done<Ratios> {
    let mut crowd = Crowd::at_work(JOBS);
    crowd.settle();
    let round = || {
        let before = thread_processor();
        black_box(crowd.round());
        Ok(thread_processor().saturating_sub(before))
    };
    Ok(Ratios(BTreeMap::from([
        ("a round over 10,000 live jobs".to_owned(), ratio(cores, JOBS, SAMPLES, round)?),
        ("the jobs of a recorded log".to_owned(), ratio(cores, FEW, SAMPLES, || log.cost())?),
    ])))
}

/// The ratio of what something takes to some turns of the calibration loop. Whatever else the machine
/// does only adds to either, so that those samples count that it disturbed least.
fn ratio(
    cores: Cores,
    records: u32,
    samples: u32,
    mut cost: impl FnMut() -> Done<Duration> + Send,
) -> Done<f64> {
    let calibration = Calibration::of(records);
    let sample = |_| -> Result<(f64, f64), String> {
        let took = cost().map_err(|error| error.to_string())?;
        Ok((took.as_secs_f64(), calibration.cost(TURNS).as_secs_f64()))
    };
    let samples: Vec<_> = cores.on_measured(|| (0..samples).map(sample).collect())?;
    let samples: Vec<(f64, f64)> = samples.into_iter().collect::<Result<_, _>>()?;
    let (took, turns) = samples.into_iter().unzip();
    Ok(percentile(took, LEAST_DISTURBED)? / percentile(turns, LEAST_DISTURBED)?)
}

fn percentile(mut samples: Vec<f64>, percent: usize) -> Done<f64> {
    samples.sort_by(f64::total_cmp);
    quantile(&samples, percent).ok_or_else(|| "nothing was measured".into())
}

impl Ratios {
    fn least(mut self, other: Self) -> Self {
        for (what, ratio) in other.0 {
            self.0.entry(what).and_modify(|known| *known = known.min(ratio)).or_insert(ratio);
        }
        self
    }

    /// A line for each of them; an error if any is too slow or is not known.
    fn judge(&self, measured: &Self) -> Result<Vec<String>, String> {
        let (mut fine, mut wrong) = (Vec::new(), Vec::new());
        for (what, ratio) in &measured.0 {
            let Some(recorded) = self.0.get(what) else {
                wrong.push(format!("{what}: nothing is recorded"));
                continue;
            };
            let more = (ratio / recorded - 1.0) * 100.0;
            let than = format!("{ratio:.3} of the calibration loop, recorded {recorded:.3}");
            if *ratio > recorded * (1.0 + MARGIN) {
                let most = MARGIN * 100.0;
                wrong.push(format!(
                    "{what} takes {more:.0} % more processor time than recorded, {most:.0} % are \
                     allowed: {than}"
                ));
            } else {
                fine.push(format!("{what}: {more:+.0} %: {than}"));
            }
        }
        if wrong.is_empty() {
            return Ok(fine);
        }
        wrong.push("if this is meant, record it anew: make bench-gate RECORD=1".to_owned());
        Err(wrong.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const WHAT: &str = "a small log";

    fn measured() -> Ratios {
        let path = crate::repository().join("crates/jitney/tests/golden/events.1.jsonl");
        let log = Log::read(&path).unwrap();
        let ratio = ratio(Cores::choose().unwrap(), FEW, 1, || log.cost()).unwrap();
        assert!(ratio > 0.0, "{ratio}");
        Ratios(BTreeMap::from([(WHAT.to_owned(), ratio)]))
    }

    #[test]
    fn what_is_recorded_passes_and_what_got_slower_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.json");
        let now = measured();
        record::write(&now, &path).unwrap();
        let fine = record::read::<Ratios>(&path).unwrap().judge(&now).unwrap();
        assert!(fine[0].starts_with("a small log: +0 %: "), "{fine:?}");
        let smaller = now.0.iter().map(|(what, ratio)| (what.clone(), ratio / 1.5)).collect();
        record::write(&Ratios(smaller), &path).unwrap();
        let error = record::read::<Ratios>(&path).unwrap().judge(&now).unwrap_err();
        let words = "a small log takes 50 % more processor time than recorded, 20 % are allowed: ";
        assert!(error.starts_with(words), "{error}");
        assert!(error.ends_with("record it anew: make bench-gate RECORD=1"), "{error}");
    }

    #[test]
    fn the_margin_is_exactly_what_it_says() {
        let of = |ratio| Ratios(BTreeMap::from([(WHAT.to_owned(), ratio)]));
        assert!(of(1.0).judge(&of(1.19)).is_ok());
        assert!(of(1.0).judge(&of(1.21)).is_err());
        assert!(of(1.0).judge(&of(0.5)).is_ok());
    }

    #[test]
    fn what_nobody_recorded_does_not_pass() {
        let error = Ratios::default().judge(&measured()).unwrap_err();
        assert!(error.starts_with("a small log: nothing is recorded\n"), "{error}");
        let nowhere = Path::new("nowhere/gate.json");
        let error = record::read::<Ratios>(nowhere).unwrap_err().to_string();
        assert!(error.starts_with("nowhere/gate.json: "), "{error}");
    }
}
