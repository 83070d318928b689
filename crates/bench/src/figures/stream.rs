//! Jobs that arrive without a pause: how many of them are dispatched per second, and how far behind
//! that falls.

use std::time::Duration;

use jiff::Timestamp;
use sandbox::Sandbox;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::Done;
use crate::record::float;
use crate::stage::{millis, new_jobs};

/// From the first arrival; what comes before is not counted.
const WARM_UP_MS: f64 = 5_000.0;

/// How they arrive: so many together, so often, so many times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrivals {
    pub(super) together: usize,
    pub(super) every: Duration,
    pub(super) times: usize,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) per_second: f64,
    pub(super) waited: Vec<f64>,
    /// Visible and not dispatched as the last jobs arrived.
    pub(super) behind: f64,
    /// Of a core, as the jobs arrive.
    pub(super) share: f64,
}

impl Arrivals {
    /// Lets the jobs arrive, and says when each did.
    pub(super) async fn arrive(self, sandbox: &Sandbox) -> Done<Vec<(Uuid, Timestamp)>> {
        let mut arrived = Vec::new();
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..self.times {
            ticks.tick().await;
            let (jobs, at) = new_jobs(sandbox, self.together, |_| 0.0)?;
            arrived.extend(jobs.into_iter().map(|job| (job, at)));
        }
        Ok(arrived)
    }
}

impl Stream {
    /// Of these arrivals, each of which was dispatched then.
    pub(super) fn of(
        arrived: &[(Uuid, Timestamp)],
        dispatched: impl Fn(Uuid) -> Option<Timestamp>,
        share: f64,
    ) -> Done<Self> {
        let first = arrived.first().ok_or("no job arrived")?.1;
        let length = millis(first, arrived.last().ok_or("no job arrived")?.1);
        let (mut waited, mut within, mut by_the_end) = (Vec::new(), 0, 0);
        for (job, at) in arrived {
            let dispatched = dispatched(*job).ok_or("a job without a machine")?;
            waited.push(millis(*at, dispatched));
            let after = millis(first, dispatched);
            by_the_end += usize::from(after < length);
            within += usize::from(after >= WARM_UP_MS && after < length);
        }
        let per_second = float(within) / (length - WARM_UP_MS) * 1000.0;
        Ok(Self { per_second, waited, behind: float(arrived.len() - by_the_end), share })
    }
}
