//! What a crash costs at worst: what everything that may be alive costs until its own deadline, if
//! nobody removed it before.

use std::time::Duration;

use crate::{Attempt, Entry, Ledger, Observation, Outcome, Policy, Timestamp};

/// The sum over all machines that are there, or may be, or are being asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorstCost {
    /// In millionths of the prices' currency, rounded up. It is never too small.
    pub micros: u64,
    /// Machines that are not in the sum, because only they themselves tell of them, and not of
    /// their price: those of a lost journal.
    pub unpriced: u32,
}

const MILLIS_PER_HOUR: u128 = 3_600_000;

/// What would be paid from now on if we never came back.
#[must_use]
pub fn worst_cost(
    ledger: &Ledger,
    seen: &Observation,
    policy: &Policy,
    now: Timestamp,
) -> WorstCost {
    let (mut sum, mut unpriced) = (0_u128, 0_u32);
    for entry in ledger.entries() {
        for attempt in entry.attempts.iter().filter(|attempt| attempt.holds()) {
            match &attempt.offer {
                Some(offer) => {
                    let rest = rest(entry, attempt, seen, policy, now).as_millis();
                    sum = sum.saturating_add(rest * u128::from(offer.price_micros_per_hour));
                }
                None => unpriced = unpriced.saturating_add(1),
            }
        }
    }
    let micros = u64::try_from(sum.div_ceil(MILLIS_PER_HOUR)).unwrap_or(u64::MAX);
    WorstCost { micros, unpriced }
}

/// How long the machine may live from now on.
///
/// A backend's clock may show another time, so only the length of the machine's life is taken from
/// it. That life began before we knew of the machine. What an earlier process knew is reckoned from
/// the start of this one: the clock may have been set in between. What may be made only now has all
/// of its life before it.
fn rest(
    entry: &Entry,
    attempt: &Attempt,
    seen: &Observation,
    policy: &Policy,
    now: Timestamp,
) -> Duration {
    let listed = seen
        .backends
        .get(&attempt.backend)
        .and_then(|backend| backend.machines.get(&(entry.job, attempt.number)));
    let today = || Some(policy.lifetime(&entry.queue, &entry.request.as_ref()?.shape));
    let asked = || attempt.lifetime.or_else(today).unwrap_or_default();
    let life = listed.map_or_else(asked, |machine| machine.deadline_at.since(machine.created_at));
    match attempt.outcome {
        Outcome::Made { at } => life.saturating_sub(now.since(at.max(seen.started_at))),
        Outcome::Asked { .. } | Outcome::Again { .. } | Outcome::NotMade { .. } => life,
    }
}
