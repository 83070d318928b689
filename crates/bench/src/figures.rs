//! The figures that there are. Each module measures one of them; what the numbers stand for is in
//! section "What is measured" of `docs/performance.md`.

mod at_once;
mod calls;
mod cancels;
mod ends;
mod killed;
mod long;
mod memory;
mod pods;
mod round;
mod single;
mod stream;
mod sustained;
mod vms;

use std::future::Future;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::Done;
use crate::cores::Cores;
use crate::record::{Curve, Line};

/// By the names of the design's table, and the long runs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[value(rename_all = "verbatim")]
pub(crate) enum Figure {
    T1,
    T2,
    T3,
    T4,
    T5,
    T9,
    T10,
    T12,
    K1,
    K2,
    K3,
    K4,
    K5,
    V1,
    V2,
    Round,
    Idle,
    Steady,
    Row,
}

/// What came of one figure's runs.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) lines: Vec<Line>,
    pub(crate) curves: Vec<Curve>,
}

impl From<Vec<Line>> for Measured {
    fn from(lines: Vec<Line>) -> Self {
        Self { lines, curves: Vec::new() }
    }
}

impl Figure {
    /// Those that take minutes and not hours.
    pub(crate) const SHORT: [Self; 16] = [
        Self::T1,
        Self::T2,
        Self::T3,
        Self::T4,
        Self::T5,
        Self::T9,
        Self::T10,
        Self::T12,
        Self::K1,
        Self::K2,
        Self::K3,
        Self::K4,
        Self::K5,
        Self::V1,
        Self::V2,
        Self::Round,
    ];
    pub(crate) const LONG: [Self; 3] = [Self::Idle, Self::Steady, Self::Row];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::T1 => "single job visible → create",
            Self::T2 => "many jobs at once → creates",
            Self::T3 => "sustained dispatch",
            Self::T4 => "machine ended → delete",
            Self::T5 => "killed with 1,000 jobs claimed",
            Self::T9 => "memory and processor",
            Self::T10 => "calls",
            Self::T12 => "500 jobs cancelled",
            Self::K1 => "pods: 1,000 jobs at once",
            Self::K2 => "pods: sustained dispatch",
            Self::K3 => "pods: calls to the API server",
            Self::K4 => "pods: memory",
            Self::K5 => "pods: 500 pending jobs cancelled",
            Self::V1 => "virtual machines: 1,000 jobs at once",
            Self::V2 => "virtual machines: a rate of Google's",
            Self::Round => "one round of decisions",
            Self::Idle => "idle for 10 minutes",
            Self::Steady => "20 jobs/s for 10 minutes",
            Self::Row => "200,000 jobs in a row",
        }
    }

    /// Whether it needs a Kubernetes control plane, with which everybody shares all cores.
    pub(crate) const fn is_of_pods(self) -> bool {
        match self {
            Self::K1 | Self::K2 | Self::K3 | Self::K4 | Self::K5 => true,
            Self::T1
            | Self::T2
            | Self::T3
            | Self::T4
            | Self::T5
            | Self::T9
            | Self::T10
            | Self::T12
            | Self::V1
            | Self::V2
            | Self::Round
            | Self::Idle
            | Self::Steady
            | Self::Row => false,
        }
    }

    pub(crate) async fn measure(self, cores: Cores, runs: usize) -> Done<Measured> {
        match self {
            Self::T1 => single::measure(cores, runs).await,
            Self::T2 => at_once::measure(cores, runs).await,
            Self::T3 => sustained::measure(cores, runs).await,
            Self::T4 => ends::measure(cores, runs).await,
            Self::T5 => killed::measure(cores, runs).await,
            Self::T9 => memory::measure(cores, runs).await,
            Self::T10 => calls::measure(cores, runs).await,
            Self::T12 => cancels::measure(cores, runs).await,
            Self::K1 => pods::at_once::measure(runs).await,
            Self::K2 => pods::sustained::measure(runs).await,
            Self::K3 => pods::calls::measure(runs).await,
            Self::K4 => pods::memory::measure(runs).await,
            Self::K5 => pods::cancels::measure(runs).await,
            Self::V1 => vms::at_once(cores, runs).await,
            Self::V2 => vms::paced(cores).await,
            Self::Round => round::measure(cores, runs),
            Self::Idle => long::idle(cores).await,
            Self::Steady => long::steady(cores).await,
            Self::Row => long::in_a_row(cores).await,
        }
    }
}

/// So many runs, each of which makes its own stage.
async fn repeat<T, F: Future<Output = Done<T>>>(
    runs: usize,
    mut run: impl FnMut() -> F,
) -> Done<Vec<T>> {
    let mut outcomes = Vec::new();
    for _ in 0..runs {
        outcomes.push(run().await?);
    }
    Ok(outcomes)
}

/// One of the values of each run.
fn each<T>(runs: &[T], value: impl Fn(&T) -> f64) -> Vec<Vec<f64>> {
    runs.iter().map(|run| vec![value(run)]).collect()
}

/// One list of samples of each run.
fn samples<T>(runs: &[T], samples: impl Fn(&T) -> &Vec<f64>) -> Vec<Vec<f64>> {
    runs.iter().map(|run| samples(run).clone()).collect()
}

/// The largest of a run's samples.
fn last(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(0.0, f64::max)
}
