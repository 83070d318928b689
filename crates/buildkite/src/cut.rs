//! Cuts texts to the lengths that Buildkite takes, never inside a character.

/// What stands at the end of a text that was cut.
const ELLIPSIS: char = '…';

/// At most `limit` bytes (at least 3, for the ellipsis).
pub(crate) fn bytes(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(ELLIPSIS.len_utf8()));
    let mut cut = text[..end].to_owned();
    cut.push(ELLIPSIS);
    cut
}

/// At most `limit` characters (at least 1, for the ellipsis).
pub(crate) fn chars(text: &str, limit: usize) -> String {
    if text.chars().nth(limit).is_none() {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(limit.saturating_sub(1)).collect();
    cut.push(ELLIPSIS);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_end_on_a_character() {
        assert_eq!(bytes("short", 5), "short");
        assert_eq!(bytes("abcdefgh", 6), "abc…");
        for limit in 3..20 {
            let cut = bytes("äöüäöüäöüäöü", limit);
            assert!(cut.len() <= limit, "{cut:?} is longer than {limit}");
            assert!(cut.ends_with(ELLIPSIS));
        }
    }

    #[test]
    fn chars_count_characters_and_not_bytes() {
        assert_eq!(chars("äöü", 3), "äöü");
        assert_eq!(chars("äöüä", 3), "äö…");
        assert_eq!(chars("", 3), "");
    }
}
