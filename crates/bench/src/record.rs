//! What was measured, as it is kept: the samples of each run in short, what is to be reached, and
//! where and when. It measures nothing and renders nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Done;
use crate::figures::Figure;
use crate::host::Setting;

/// All figures, each as last measured: `docs/performance.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Book(pub(crate) BTreeMap<Figure, Record>);

/// One figure, as measured in one sitting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) setting: Setting,
    pub(crate) lines: Vec<Line>,
    /// What the plot shows, if anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) curves: Vec<Curve>,
}

/// One thing that a figure consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reach: Vec<Bound>,
    /// Each run by itself, and the samples of all runs together.
    pub(crate) runs: Vec<Summary>,
    pub(crate) all: Summary,
}

/// Times after the arrival of all jobs at once, in milliseconds, at which each hundredth of the
/// creates had come: the first value is that of the first create, the last that of the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Curve {
    pub(crate) of: Curves,
    pub(crate) jobs: usize,
    pub(crate) millis: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Curves {
    Jitney,
    BareLoop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    #[serde(rename = "ms")]
    Millis,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "MiB")]
    Mib,
    #[serde(rename = "MiB/h")]
    MibPerHour,
    #[serde(rename = "% of a core")]
    Share,
    #[serde(rename = "jobs/s")]
    Rate,
    #[serde(rename = "calls/job")]
    Calls,
    #[serde(rename = "jobs")]
    Jobs,
    #[serde(rename = "calls")]
    Count,
    /// Of one time to another.
    #[serde(rename = "×")]
    Ratio,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) least: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

/// What a line has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) of: Statistic,
    pub(crate) side: Side,
    pub(crate) limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Statistic {
    Median,
    P99,
    /// Of all samples the one that is farthest on the wrong side.
    Worst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    AtMost,
    AtLeast,
}

impl Unit {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Millis => "ms",
            Self::Seconds => "s",
            Self::Mib => "MiB",
            Self::MibPerHour => "MiB/h",
            Self::Share => "% of a core",
            Self::Rate => "jobs/s",
            Self::Calls => "calls/job",
            Self::Jobs => "jobs",
            Self::Count => "calls",
            Self::Ratio => "×",
        }
    }
}

impl Summary {
    /// Nothing where there are no samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |percent| quantile(&sorted, percent).map(rounded);
        Some(Self {
            count: sorted.len(),
            least: at(0)?,
            p50: at(50)?,
            p90: at(90)?,
            p99: at(99)?,
            most: at(100)?,
        })
    }
}

/// The nearest rank: always one of the samples, which must be sorted.
pub(crate) fn quantile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// No clock here is good for more than a thousandth.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Line {
    /// One list of samples per run.
    pub(crate) fn new(
        what: impl Into<String>,
        unit: Unit,
        reach: &[Bound],
        runs: &[Vec<f64>],
    ) -> Done<Self> {
        let what = what.into();
        let summary = |samples: &Vec<f64>| {
            Summary::of(samples).ok_or_else(|| format!("{what}: a run without a sample"))
        };
        let each: Vec<Summary> = runs.iter().map(summary).collect::<Result<_, _>>()?;
        let all = summary(&runs.concat())?;
        Ok(Self { what, unit, reach: reach.to_vec(), runs: each, all })
    }

    /// Whether all of it is reached; nothing where there is nothing to reach.
    pub(crate) fn reached(&self) -> Option<bool> {
        let met = |bound: &Bound| bound.met_by(&self.all);
        (!self.reach.is_empty()).then(|| self.reach.iter().all(met))
    }
}

impl Bound {
    pub(crate) const fn at_most(of: Statistic, limit: f64) -> Self {
        Self { of, side: Side::AtMost, limit }
    }

    pub(crate) const fn at_least(of: Statistic, limit: f64) -> Self {
        Self { of, side: Side::AtLeast, limit }
    }

    fn met_by(&self, summary: &Summary) -> bool {
        match self.side {
            Side::AtMost => self.value(summary) <= self.limit,
            Side::AtLeast => self.value(summary) >= self.limit,
        }
    }

    fn value(&self, summary: &Summary) -> f64 {
        match (self.of, self.side) {
            (Statistic::Median, _) => summary.p50,
            (Statistic::P99, _) => summary.p99,
            (Statistic::Worst, Side::AtMost) => summary.most,
            (Statistic::Worst, Side::AtLeast) => summary.least,
        }
    }
}

impl Curve {
    /// From the time of each create, in any order.
    pub(crate) fn new(of: Curves, mut millis: Vec<f64>) -> Self {
        millis.sort_by(f64::total_cmp);
        let at = |percent| quantile(&millis, percent).map(rounded);
        let jobs = millis.len();
        Self { of, jobs, millis: (0..=100).filter_map(at).collect() }
    }
}

impl Book {
    /// As it is kept; empty where there is none yet.
    pub(crate) fn read(path: &Path) -> Done<Self> {
        if path.exists() { read(path) } else { Ok(Self::default()) }
    }
}

/// # Errors
/// A file that is not there or does not hold it; each names the file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Done<T> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{shown}: {error}").into())
}

/// # Errors
/// A file that cannot be written; each names the file.
pub(crate) fn write(what: &impl Serialize, path: &Path) -> Done<()> {
    let text = serde_json::to_string_pretty(what)? + "\n";
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Counts are small: a float holds each of them exactly.
pub(crate) fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_samples() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let summary = Summary::of(&samples).unwrap();
        let Summary { count, least, p50, p90, p99, most } = summary;
        assert_eq!((count, least, p50), (200, 1.0, 100.0));
        assert_eq!((p90, p99, most), (180.0, 198.0, 200.0));
        assert_eq!(Summary::of(&[7.0]).unwrap().p99, 7.0);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn what_is_to_be_reached_is_judged_by_all_runs_together() {
        let line = |reach: &[Bound]| {
            Line::new("a", Unit::Millis, reach, &[vec![1.0, 2.0], vec![3.0]]).unwrap()
        };
        let check = |of, side, limit, expected| {
            let reach = Bound { of, side, limit };
            assert_eq!(line(&[reach]).reached(), Some(expected), "{reach:?}");
        };
        check(Statistic::Median, Side::AtMost, 2.0, true);
        check(Statistic::Median, Side::AtMost, 1.9, false);
        check(Statistic::Worst, Side::AtMost, 2.9, false);
        check(Statistic::Worst, Side::AtLeast, 1.0, true);
        check(Statistic::Worst, Side::AtLeast, 1.1, false);
        assert_eq!(line(&[]).reached(), None);
        let one_of_two =
            [Bound::at_most(Statistic::Median, 9.0), Bound::at_most(Statistic::P99, 1.0)];
        assert_eq!(line(&one_of_two).reached(), Some(false));
        assert!(Line::new("a", Unit::Millis, &[], &[vec![]]).is_err());
    }

    #[test]
    fn a_curve_goes_from_the_first_to_the_last() {
        let curve = Curve::new(Curves::Jitney, (1..=1000).rev().map(f64::from).collect());
        assert_eq!((curve.jobs, curve.millis.len()), (1000, 101));
        assert_eq!((curve.millis[0], curve.millis[50], curve.millis[100]), (1.0, 500.0, 1000.0));
    }
}
