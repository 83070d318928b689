//! After a lost journal: jobs that an earlier process may have had in its hands, while a backend on
//! which their machine may be has not been listed yet. A machine's name is the same on every
//! backend, so an attempt's number must not be used both there and elsewhere.

use std::time::Duration;

use super::Round;
use crate::{BackendName, Entry, JobRow, Reason};

/// How long the first listings are waited for. They take a moment each; a backend that cannot be
/// listed for longer keeps nothing from the others.
const FIRST_LOOKS: Duration = Duration::from_secs(10);
/// Buildkite's clock and ours may differ by so much.
const CLOCKS: Duration = Duration::from_secs(60);
/// More machines than are made for one job, but with the worst of luck.
const MANY: u32 = 10;
/// With `MANY` before it, a number of two digits: names have room for no more.
const NUMBERS: u64 = 89;

impl Round<'_> {
    /// Waits for each backend's first listing, for some time.
    pub(super) fn first_looks(&mut self, entry: &Entry) -> Result<(), Reason> {
        let Some(backend) = self.unlisted_before(entry).cloned() else { return Ok(()) };
        if self.due(self.seen.started_at.plus(FIRST_LOOKS)) {
            return Ok(());
        }
        Err(self.unlisted(backend))
    }

    /// The number of the job's next machine. Where an earlier one may be that nobody can tell of,
    /// it is one that another journal's process hardly used.
    pub(super) fn next_number(&self, entry: &Entry) -> u32 {
        let next = entry.next_attempt();
        if self.unlisted_before(entry).is_none() {
            return next;
        }
        let ours = self.seen.journal_since.millis() / 1_000 % NUMBERS;
        next.max(MANY + 1 + u32::try_from(ours).unwrap_or_default())
    }

    /// A backend where a machine of the job may be that the journal does not name.
    fn unlisted_before(&self, entry: &Entry) -> Option<&BackendName> {
        let before = |row: &JobRow| row.scheduled_at <= self.seen.journal_since.plus(CLOCKS);
        if !entry.row.as_deref().is_some_and(before) {
            return None;
        }
        self.policy
            .backends
            .keys()
            .find(|backend| self.backend(backend).is_none_or(|seen| seen.first_listed_at.is_none()))
    }
}
