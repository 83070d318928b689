//! Two maps in the order of the same keys, gone through side by side: of thousands of entries each
//! look-up costs a step, and not a search through memory that is not at hand.

use std::collections::{BTreeMap, btree_map::Iter};
use std::iter::Peekable;
use std::sync::Arc;

use crate::{BackendName, BackendSeen, Entry, JobId, MachineSeen};

/// A map that is asked for keys in their order only.
pub(super) struct Alongside<'a, K, V> {
    rest: Peekable<Iter<'a, K, V>>,
}

impl<'a, K: Ord, V> Alongside<'a, K, V> {
    pub(super) fn of(map: &'a BTreeMap<K, V>) -> Self {
        Self { rest: map.iter().peekable() }
    }

    /// What is under `key`, which is not less than the one that was asked for before.
    pub(super) fn get(&mut self, key: &K) -> Option<&'a V> {
        while self.rest.next_if(|(known, _)| *known < key).is_some() {}
        self.rest.peek().filter(|(known, _)| *known == key).map(|(_, value)| *value)
    }
}

/// What each backend lists, for the jobs in our hands in their order.
pub(super) struct Listings<'a>(Vec<(&'a BackendName, Listing<'a>)>);

type Listing<'a> = Alongside<'a, (JobId, u32), Arc<MachineSeen>>;

impl<'a> Listings<'a> {
    pub(super) fn of(backends: &'a BTreeMap<BackendName, BackendSeen>) -> Self {
        Self(backends.iter().map(|(name, seen)| (name, Alongside::of(&seen.machines))).collect())
    }

    /// Leaves in `shown` what is listed of the job's attempts that hold something.
    pub(super) fn show(&mut self, entry: &Entry, shown: &mut Vec<(u32, &'a MachineSeen)>) {
        shown.clear();
        for attempt in entry.attempts.iter().filter(|attempt| attempt.holds()) {
            let mut listings = self.0.iter_mut();
            let listing = listings.find(|(name, _)| **name == attempt.backend);
            let machine = listing.and_then(|(_, of)| of.get(&(entry.job, attempt.number)));
            shown.extend(machine.map(|machine| (attempt.number, &**machine)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_their_order_however_often_and_absent_ones_are_not() {
        let map = BTreeMap::from([(1, 'a'), (3, 'c'), (4, 'd')]);
        let mut alongside = Alongside::of(&map);
        let found = [0, 1, 1, 2, 4, 5].map(|key| alongside.get(&key).copied());
        assert_eq!(found, [None, Some('a'), Some('a'), None, Some('d'), None]);
    }
}
