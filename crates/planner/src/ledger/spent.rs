//! What a queue has used of machines lately, so that shares are fair over minutes and not only at
//! one moment: where a limit has room for one machine, what is held now says nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Attempt, Timestamp};

/// Machines, thousandths of a vCPU, MiB of memory and price, each times milliseconds.
pub(crate) type Used = [u64; 4];

/// After this, half of what was used is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(100);
/// A machine counts for no more than this, however long it runs: about what is remembered of it.
const REMEMBERED: Duration = Duration::from_secs(140);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spent {
    sums: Used,
    at: Timestamp,
}

impl Spent {
    /// What is left of it at `now`.
    pub(crate) fn left(&self, now: Timestamp) -> Used {
        let (age, half) = (millis(now.since(self.at)), millis(HALF_LIFE));
        let halvings = u32::try_from(age / half).unwrap_or(u32::MAX);
        self.sums.map(|sum| {
            let halved = sum.checked_shr(halvings).unwrap_or(0);
            // Between two halvings in a straight line: whole numbers, the same on every machine.
            halved - halved / (2 * half) * (age % half)
        })
    }

    pub(crate) fn add(&mut self, used: Used, now: Timestamp) {
        *self = Self { sums: sum(self.left(now), used), at: now };
    }
}

/// What an attempt's machine has used until now.
pub(crate) fn used(attempt: &Attempt, now: Timestamp) -> Used {
    let age = millis(now.since(attempt.intended_at).min(REMEMBERED));
    let price = attempt.offer.as_ref().map_or(0, |offer| offer.price_micros_per_hour);
    let (cpu, memory) = (u64::from(attempt.cpu.millis()), attempt.memory.get() >> 20);
    [1, cpu, memory, price].map(|amount| amount.saturating_mul(age))
}

pub(crate) fn sum(one: Used, other: Used) -> Used {
    std::array::from_fn(|index| one[index].saturating_add(other[index]))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_forgotten_after_the_half_life_and_all_in_the_end() {
        let begun = Timestamp::from_millis(1_000_000);
        let mut spent = Spent::default();
        spent.add([8_000_000, 0, 0, 0], begun);
        let left = |seconds| spent.left(begun.plus(Duration::from_secs(seconds)))[0];
        assert_eq!([left(0), left(100), left(200)], [8_000_000, 4_000_000, 2_000_000]);
        assert!(left(50) > 5_900_000 && left(50) < 6_100_000, "{}", left(50));
        assert_eq!(left(86_400), 0);
    }
}
