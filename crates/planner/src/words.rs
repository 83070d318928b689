//! Reasons, notices and dooms as sentences: the one place in which words for people are made.

use crate::{Doom, Entry};

/// The text that a failed job shows in Buildkite.
pub(crate) fn detail(entry: &Entry, doom: &Doom) -> String {
    let _ = entry;
    format!("{doom:?}")
}

/// One line without control characters, of at most `most` bytes: what is cut ends in `…`.
pub(crate) fn crop(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.len() <= most {
        return text.chars().map(clean).collect();
    }
    let mark = '…';
    let mut end = most.saturating_sub(mark.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(clean).chain([mark]).collect()
}

/// The text as the beginning of a sentence.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
