//! After a lost journal: jobs that an earlier process may have had in its hands, while a backend on
//! which their machine may be has not been listed yet. A machine's name is the same on every
//! backend, so an attempt's number must not be used both there and elsewhere.

use std::time::Duration;

use super::Round;
use crate::{BackendName, Entry, Reason};

/// How long the first listings are waited for. They take a moment each; a backend that cannot be
/// listed for longer keeps nothing from the others.
const FIRST_LOOKS: Duration = Duration::from_secs(10);
/// No reservation lives longer: what an earlier process had in its hands others can see by then.
const LEASE_MOST: Duration = Duration::from_secs(3_600);
/// More machines than are made for one job, but with the worst of luck.
const MANY: u32 = 10;
/// With `MANY` before it, a number of two digits: names have room for no more.
const NUMBERS: u64 = 89;

impl Round<'_> {
    /// Waits for each backend's first listing, for some time.
    pub(super) fn first_looks(&mut self) -> Result<(), Reason> {
        let Some(backend) = self.unlisted_before().cloned() else { return Ok(()) };
        if self.due(self.seen.started_at.plus(FIRST_LOOKS)) {
            return Ok(());
        }
        Err(self.unlisted(backend))
    }

    /// The number of the job's next machine. Where an earlier one may be that nobody can tell of,
    /// it is one that another journal's process hardly used.
    pub(super) fn next_number(&self, entry: &Entry) -> u32 {
        let next = entry.next_attempt();
        if self.unlisted_before().is_none() {
            return next;
        }
        let ours = self.seen.journal_since.millis() / 1_000 % NUMBERS;
        next.max(MANY + 1 + u32::try_from(ours).unwrap_or_default())
    }

    /// A backend where machines may be that the journal does not name. By our own clock alone: when a
    /// job became visible is told by another one.
    fn unlisted_before(&self) -> Option<&BackendName> {
        if self.now > self.seen.journal_since.plus(LEASE_MOST) {
            return None;
        }
        self.policy
            .backends
            .keys()
            .find(|backend| self.backend(backend).is_none_or(|seen| seen.first_listed_at.is_none()))
    }
}
