//! What every setting of a configuration came to, as digests that can be compared and not read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sha2::{Digest, Sha256};

/// By path: `queues.jit.attempts`. Defaults are there too, so that writing one down is no change;
/// what has no value is not.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Settings(BTreeMap<String, [u8; 32]>);

impl Settings {
    pub(super) fn record(&mut self, path: &str, value: &str) {
        if !matches!(value, "" | "None") {
            self.0.insert(path.to_owned(), Sha256::digest(value).into());
        }
    }

    /// The paths that are in only one of the two, or are not the same in both; sorted. Of a section
    /// that came or went only the section's own path is named.
    pub(super) fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let both: BTreeSet<&str> =
            self.0.keys().chain(other.0.keys()).map(String::as_str).collect();
        let mut paths: Vec<&str> = Vec::new();
        let mut section = None;
        for path in both.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path)) {
            if section.is_some_and(|section| is_below(path, section)) {
                continue;
            }
            let came_or_went = self.0.contains_key(path) != other.0.contains_key(path);
            section = came_or_went.then_some(path).or(section);
            paths.push(path);
        }
        paths
    }
}

fn is_below(path: &str, section: &str) -> bool {
    path.strip_prefix(section).is_some_and(|rest| rest.starts_with(['.', '[']))
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({})", self.0.len())
    }
}
