//! Two maps in the order of the same keys, gone through side by side: of thousands of entries each
//! look-up costs a step, and not a search through memory that is not at hand.

use std::collections::{BTreeMap, btree_map::Iter};
use std::iter::Peekable;

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
