//! What a job is expected to cost on a machine that may be taken away from it.
//!
//! A spot machine is taken with the probability `p` in the time that the job needs. Then, in the
//! middle on average, the work so far is lost, and all of it is done again on demand:
//!
//! ```text
//! spot * time * (1 - p/2)  +  p * on_demand * (time + start)
//! ```
//!
//! `p` is the share of spot machines that a day takes, times the part of a day that the job lasts,
//! and at most 1: a little more than the truth, since what is taken cannot be taken again. Where no
//! machine on demand may follow, the price is that of another spot machine.

use std::time::Duration;

/// How long the next machine takes to come up, and is paid for.
const START: Duration = Duration::from_secs(60);
const DAY_MILLIS: u128 = 86_400_000;
/// In which probabilities are counted.
const WHOLE: u128 = 1_000_000_000;
const HOUR_MILLIS: u128 = 3_600_000;

/// What the prices of machines are worth to one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stakes {
    /// How long such a job usually takes; as long as it may, where nobody knows.
    pub time: Duration,
    /// Thousandths of all spot machines that a day takes.
    pub preempted_per_day: u32,
}

impl Stakes {
    /// In millionths of the currency, for the whole job, rounded up.
    #[must_use]
    pub fn on_demand(&self, micros_per_hour: u64) -> u64 {
        to_u64(cost(micros_per_hour, self.time))
    }

    /// The same on a spot machine; `after` is the price of the machine that follows if it is taken.
    #[must_use]
    pub fn spot(&self, micros_per_hour: u64, after: u64) -> u64 {
        let taken = self.taken();
        let first = cost(micros_per_hour, self.time) * (2 * WHOLE - taken);
        let again = cost(after, self.time.saturating_add(START)) * taken;
        to_u64(first.div_ceil(2 * WHOLE).saturating_add(again.div_ceil(WHOLE)))
    }

    /// The probability that it is taken in this time.
    fn taken(&self) -> u128 {
        let a_day = u128::from(self.preempted_per_day) * (WHOLE / 1000);
        (a_day * self.time.as_millis()).div_ceil(DAY_MILLIS).min(WHOLE)
    }
}

fn cost(micros_per_hour: u64, time: Duration) -> u128 {
    // A job lasts days at the most: more than a thousand years do not occur.
    let time = time.as_millis().min(HOUR_MILLIS * 10_000_000);
    (u128::from(micros_per_hour) * time).div_ceil(HOUR_MILLIS)
}

fn to_u64(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}
