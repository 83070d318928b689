//! Which strikes of bad luck there are, and which of them are let through: all, or only some by
//! their number, so that a failing seed can be told with as few as it needs. Each kind has dice of
//! its own: without one kind, the others strike as before.

use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;
use super::faults::{KINDS, Kind};

#[derive(Clone, Debug, Default)]
pub(crate) struct Mask {
    dice: BTreeMap<Kind, Dice>,
    /// How many strikes there have been, let through or not.
    count: u64,
    /// None: all are let through.
    only: Option<BTreeSet<u64>>,
}

impl Mask {
    pub(crate) fn of(seed: u64, only: Option<BTreeSet<u64>>) -> Self {
        let mut seeds = Dice::new(seed);
        let dice = KINDS.into_iter().map(|kind| (kind, Dice::new(seeds.next()))).collect();
        Self { dice, only, ..Self::default() }
    }

    /// Whether this kind strikes now, as it does so many times of so many.
    pub(crate) fn strikes(&mut self, kind: Kind, times: u64, of: u64) -> bool {
        if !self.dice.get_mut(&kind).is_some_and(|dice| dice.chance_of(times, of)) {
            return false;
        }
        let number = self.count;
        self.count += 1;
        self.only.as_ref().is_none_or(|only| only.contains(&number))
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}
