//! What is seen of a fleet: what Buildkite counts in its queue, what has become of its dispatches,
//! and what the operator wants of it. Never kept, apart from what the ledger remembers of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::FRESH;
use crate::Timestamp;

/// One round, and what it dispatched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DispatchId(pub Uuid);

impl fmt::Debug for DispatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dispatch:{self}")
    }
}

/// Without dashes, as it stands in labels and logs.
impl fmt::Display for DispatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// What the operator wants of one fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Agents that are kept, jobs or none.
    pub min: u32,
    /// Pods that may exist at once.
    pub max: u32,
    /// Agents beyond what a dispatch needs.
    pub buffer: u32,
    /// The share of a dispatch that has to have arrived before the next, in thousandths.
    pub ready_permille: u32,
    /// After this the next does not wait any longer, and what has not come is not reckoned with.
    pub at_most: Duration,
}

/// What Buildkite counts in a queue. The agents may be anybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// When the request started.
    pub asked_at: Timestamp,
    /// How old the numbers may have been even then.
    pub lag: Duration,
    pub scheduled: u32,
    pub running: u32,
    pub waiting: u32,
    pub agents: Agents,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agents {
    pub total: u32,
    pub idle: u32,
    pub busy: u32,
}

/// One dispatch, as its Job tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    pub id: DispatchId,
    /// Pods that it makes in all, one agent each.
    pub wanted: u32,
    /// By our own clock.
    pub made_at: Timestamp,
    /// Pods that are ready.
    pub online: u32,
    /// Pods whose agent left by itself.
    pub done: u32,
    pub failed: u32,
    /// Pods that are being deleted and have not gone; they count as failed already.
    pub leaving: u32,
    /// Nothing more comes of it.
    pub over: bool,
    /// Why its pods do not come, where somebody looked.
    pub trouble: Option<Arc<str>>,
    /// What it was reckoned from, in words, where its Job says so.
    pub sized_on: Option<Arc<str>>,
}

impl Dispatch {
    /// Pods that have ended, well or not.
    #[must_use]
    pub fn ended(&self) -> u32 {
        if self.over {
            return self.wanted;
        }
        self.done.saturating_add(self.failed).min(self.wanted)
    }

    /// Pods that have an agent or will have one.
    pub(super) fn open(&self) -> u32 {
        self.wanted - self.ended()
    }

    /// Of these, the ready ones.
    pub(super) fn ready(&self) -> u32 {
        self.online.min(self.open())
    }

    /// Those of them that are not ready.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.open() - self.ready()
    }

    /// Pods that exist, or will without anybody's doing.
    pub(super) fn holding(&self) -> u32 {
        let open = if self.over { self.online } else { self.open() };
        open.saturating_add(self.leaving)
    }

    /// Pods whose agent is there, or was and did what it came for.
    pub(super) fn arrived(&self) -> u32 {
        self.online.saturating_add(self.done).min(self.wanted)
    }

    /// A pod that failed has not arrived: agents that die as they start must not call for more.
    pub(super) fn has_arrived(&self, permille: u32) -> bool {
        self.arrived() >= self.share(permille)
    }

    /// Too many have failed.
    pub(super) fn cannot_arrive(&self, permille: u32) -> bool {
        let still = if self.over { 0 } else { self.pending() };
        self.arrived().saturating_add(still) < self.share(permille)
    }

    fn share(&self, permille: u32) -> u32 {
        let share = (u64::from(self.wanted) * u64::from(permille)).div_ceil(1000);
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}

/// All dispatches of the fleet that the cluster has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub began_at: Timestamp,
    pub ended_at: Timestamp,
    pub dispatches: Vec<Dispatch>,
}

impl Listing {
    pub(super) fn has(&self, id: DispatchId) -> bool {
        self.dispatches.iter().any(|dispatch| dispatch.id == id)
    }
}

/// What was seen last, and since when looking fails, if it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look<T> {
    pub last: Option<T>,
    pub failing: Option<Failing>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    pub since: Timestamp,
    pub words: Arc<str>,
}

impl<T> Default for Look<T> {
    fn default() -> Self {
        Self { last: None, failing: None }
    }
}

impl<T> Look<T> {
    pub fn saw(&mut self, seen: T) {
        *self = Self { last: Some(seen), failing: None };
    }

    /// What was seen before stays, with its time.
    pub fn failed(&mut self, at: Timestamp, words: &str) {
        let since = self.failing.as_ref().map_or(at, |failing| failing.since);
        self.failing = Some(Failing { since, words: words.into() });
    }

    /// What was seen, if it is not too old; else why there is nothing newer.
    pub(super) fn fresh(
        &self,
        now: Timestamp,
        at: impl Fn(&T) -> Timestamp,
    ) -> Result<&T, Option<Arc<str>>> {
        let fresh = self.last.as_ref().filter(|seen| now.since(at(seen)) < FRESH);
        fresh.ok_or_else(|| self.failing.as_ref().map(|failing| Arc::clone(&failing.words)))
    }
}

/// What was last seen of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub listing: Look<Listing>,
    pub counts: Look<Counts>,
    /// An operator wants nothing new.
    pub draining: bool,
}
