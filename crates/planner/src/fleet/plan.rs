//! What one round of a fleet comes to, as data: what is dispatched or why nothing is, what an
//! operator has to look at, and the figures that its log line and its metrics show.

use std::sync::Arc;
use std::time::Duration;

use super::{DispatchId, Failing, Ledger, Policy, Seen};
use crate::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub step: Step,
    /// What it was reckoned from. Nothing where a side is not known.
    pub sizing: Option<Sizing>,
    pub alerts: Vec<Alert>,
    pub figures: Figures,
    /// Look again then, unless something changes before.
    pub wake_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Dispatch {
        id: DispatchId,
        agents: u32,
        /// A request that got no answer, once more under its own name.
        again: bool,
    },
    Hold(Hold),
}

/// The numbers from which a round reckons how many agents are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    pub queued: u32,
    pub idle: u32,
    /// Agents that earlier dispatches will still bring.
    pub coming: u32,
    /// Pods that exist in any state, or will.
    pub pods: u32,
    pub policy: Policy,
}

/// Why nothing is dispatched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    NothingQueued,
    Draining,
    /// The agents that are idle, or on their way, are enough for what is queued.
    Enough {
        scheduled: u32,
        idle: u32,
        coming: u32,
    },
    /// Too little of the last dispatch has arrived.
    Cooldown {
        id: DispatchId,
        arrived: u32,
        of: u32,
        until: Timestamp,
        words: Option<Arc<str>>,
    },
    AtMax {
        max: u32,
        holding: u32,
        wanted: u32,
        idle: u32,
    },
    Asking {
        id: DispatchId,
    },
    /// Whether the last dispatch was made is not known yet.
    Unanswered {
        id: DispatchId,
        until: Timestamp,
        words: Arc<str>,
    },
    Refused {
        words: Arc<str>,
        until: Timestamp,
    },
    /// What a process before this one asked for has to be seen first.
    Starting {
        until: Timestamp,
    },
    ClusterUnknown {
        words: Option<Arc<str>>,
    },
    CountsUnknown {
        words: Option<Arc<str>>,
    },
}

/// What somebody has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alert {
    /// Its time is over, or too many have failed.
    NotRolledOut {
        id: DispatchId,
        arrived: u32,
        failed: u32,
        of: u32,
        words: Option<Arc<str>>,
    },
    Refused {
        words: Arc<str>,
    },
    ClusterUnknown(Failing),
    CountsUnknown(Failing),
}

/// The numbers of a round. What is not known is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub queued: Option<u32>,
    pub running: Option<u32>,
    pub waiting: Option<u32>,
    pub agents_total: Option<u32>,
    pub agents_free: Option<u32>,
    /// Pods of ours that are ready.
    pub pods_online: Option<u32>,
    /// Pods of ours that are not, and have not ended.
    pub pods_pending: Option<u32>,
    /// How long a dispatch has been waited for, while too little of it has arrived.
    pub waiting_for_dispatch: Duration,
}

impl Step {
    pub(super) const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Dispatch { .. } => None,
            Self::Hold(hold) => hold.until(),
        }
    }
}

impl Hold {
    const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Cooldown { until, .. }
            | Self::Unanswered { until, .. }
            | Self::Refused { until, .. }
            | Self::Starting { until } => Some(*until),
            Self::NothingQueued
            | Self::Draining
            | Self::Enough { .. }
            | Self::AtMax { .. }
            | Self::Asking { .. }
            | Self::ClusterUnknown { .. }
            | Self::CountsUnknown { .. } => None,
        }
    }
}

impl Figures {
    pub(super) fn of(seen: &Seen, ledger: &Ledger, policy: &Policy, now: Timestamp) -> Self {
        let counts = seen.counts.last.as_ref();
        let listing = seen.listing.last.as_ref();
        let awaited = listing.and_then(|listing| ledger.awaited(listing, policy, now));
        let sum = |of: fn(&super::Dispatch) -> u32| {
            listing.map(|listing| listing.dispatches.iter().map(of).fold(0, u32::saturating_add))
        };
        Self {
            queued: counts.map(|counts| counts.scheduled),
            running: counts.map(|counts| counts.running),
            waiting: counts.map(|counts| counts.waiting),
            agents_total: counts.map(|counts| counts.agents.total),
            agents_free: counts.map(|counts| counts.agents.idle),
            pods_online: sum(super::Dispatch::ready),
            pods_pending: sum(super::Dispatch::pending),
            waiting_for_dispatch: awaited.map(|(_, age)| age).unwrap_or_default(),
        }
    }
}
