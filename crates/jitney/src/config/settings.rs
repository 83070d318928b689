//! What every setting of a configuration came to, as digests that can be compared and not read.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

/// By path: `queues.jit.attempts`. Defaults are there too, so that writing one down is no change.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Settings(BTreeMap<String, [u8; 32]>);

impl Settings {
    pub(super) fn record(&mut self, path: &str, value: &str) {
        self.0.insert(path.to_owned(), Sha256::digest(value).into());
    }

    /// The paths that are in only one of the two, or are not the same in both; sorted.
    pub(super) fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let changed = self.0.iter().filter(|(path, value)| other.0.get(*path) != Some(value));
        let added = other.0.keys().filter(|path| !self.0.contains_key(*path));
        let mut paths: Vec<&str> =
            changed.map(|(path, _)| path).chain(added).map(String::as_str).collect();
        paths.sort_unstable();
        paths
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({})", self.0.len())
    }
}
