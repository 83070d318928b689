//! The arithmetic of a round: which agents are free or will come without our doing, as of the
//! moment at which Buildkite counted. Reckoning with another moment counts jobs twice, whose agents
//! took them, and left, between the two.

use super::{CONNECTS, Counts, FRESH, Hold, Ledger, Listing, Policy, Sizing};
use crate::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Supply {
    /// Agents without a job, whoever's they are.
    pub(super) idle: u32,
    /// Agents of ours that had not registered when Buildkite counted.
    coming: u32,
    /// Pods that have an agent, or will have one.
    open: u32,
    /// Pods that exist in any state, or will.
    pub(super) holding: u32,
}

impl Supply {
    /// None: what had ended by the time of the counts is not known.
    pub(super) fn of(
        ledger: &Ledger,
        listing: &Listing,
        counts: &Counts,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<Self> {
        let counted_at = counts.asked_at.minus(counts.lag.min(FRESH));
        let ended_since = ledger.ended_since(counted_at, listing)?;
        let (mut pending, mut ready, mut young, mut holding) = (0_u32, 0_u32, ended_since, 0_u32);
        for dispatch in &listing.dispatches {
            let age = ledger.age(dispatch, now);
            // What has not come in its time is given up; it still takes its place below max.
            if age < policy.at_most {
                pending = pending.saturating_add(dispatch.pending());
            }
            if age < policy.at_most.saturating_add(CONNECTS) {
                young = young.saturating_add(dispatch.ready());
            }
            ready = ready.saturating_add(dispatch.ready());
            holding = holding.saturating_add(dispatch.holding());
        }
        // Of the pods that run, or ran at that moment, some were not among Buildkite's agents yet.
        let running = ready.saturating_add(ended_since);
        let unregistered = running.saturating_sub(counts.agents.total).min(young);
        Some(Self {
            idle: counts.agents.idle,
            coming: pending.saturating_add(unregistered),
            open: pending.saturating_add(ready),
            holding,
        })
    }

    /// How many agents to dispatch; none where there are enough.
    pub(super) fn missing(&self, counts: &Counts, policy: &Policy) -> u32 {
        let short = counts.scheduled.saturating_sub(self.idle.saturating_add(self.coming));
        // The buffer comes on top of what is missing, and is no reason by itself: else a queue
        // without jobs would never be without agents.
        let queued = if short == 0 { 0 } else { short.saturating_add(policy.buffer) };
        queued.max(policy.min.saturating_sub(self.open))
    }

    pub(super) const fn sizing(&self, counts: &Counts, policy: &Policy) -> Sizing {
        Sizing {
            queued: counts.scheduled,
            idle: self.idle,
            coming: self.coming,
            pods: self.holding,
            policy: *policy,
        }
    }

    /// Why none are missing.
    pub(super) fn enough(&self, counts: &Counts) -> Hold {
        let (scheduled, idle, coming) = (counts.scheduled, self.idle, self.coming);
        if scheduled == 0 { Hold::NothingQueued } else { Hold::Enough { scheduled, idle, coming } }
    }
}
