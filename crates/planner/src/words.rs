//! Reasons, notices and dooms as sentences: the one place in which words for people are made, and
//! the short keys by which machines know them. Each sentence is one line that says what its reader
//! can act on; when it is told, and how often, is decided elsewhere.

mod doom;
mod failure;
mod loss;
mod reason;
mod verdict;

/// What Buildkite takes as a notification is 256 characters; some clients count bytes, up to 255.
const LINE: usize = 255;

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

/// A whole sentence on one line, short enough for a notification.
fn line(text: &str) -> String {
    crop(text, LINE)
}

/// The text as the beginning of a sentence.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The text before which more follows: without the full stop that it may have.
fn open_ended(text: &str) -> &str {
    text.trim().trim_end_matches('.')
}
