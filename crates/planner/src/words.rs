//! Reasons, notices and dooms as sentences: the one place in which words for people are made.

use crate::{Doom, Entry};

/// The text that a failed job shows in Buildkite.
pub(crate) fn detail(entry: &Entry, doom: &Doom) -> String {
    let _ = entry;
    format!("{doom:?}")
}
