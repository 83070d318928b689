//! Regular expressions that pipelines bring along. They match in linear time, so a pipeline cannot
//! make the server think for long; what needs more than that (a look ahead) is refused.

use regex::{Regex, RegexBuilder};

/// Of one compiled expression; a pipeline may bring many.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// One expression. Two are equal when they were written alike.
#[derive(Clone, Debug)]
pub struct Pattern {
    written: String,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Pattern {
    /// An expression that may match anywhere in a text, written `/…/` or `/…/i`.
    pub(crate) fn anywhere(source: &str, ignore_case: bool) -> Result<Self, String> {
        let flag = if ignore_case { "i" } else { "" };
        Self::new(format!("/{source}/{flag}"), source, ignore_case)
    }

    /// An expression that must match a text from its beginning to its end, as in HTML's `pattern`.
    pub(crate) fn whole(source: &str) -> Result<Self, String> {
        // Alone first: what is wrong with it must not be blamed on what is put around it.
        Self::new(source.to_owned(), source, false)?;
        Self::new(source.to_owned(), &format!("^(?:{source})$"), false)
    }

    fn new(written: String, source: &str, ignore_case: bool) -> Result<Self, String> {
        let regex = RegexBuilder::new(source)
            .case_insensitive(ignore_case)
            .size_limit(MAX_COMPILED_BYTES)
            .build()
            .map_err(|error| reason(&error))?;
        Ok(Self { written, regex })
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// As it was written.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }
}

/// The parser's own report draws the expression with a mark under it; its last line has the reason.
fn reason(error: &regex::Error) -> String {
    let report = error.to_string();
    let last = report.lines().last().unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_match_has_no_rest() {
        let hex = Pattern::whole("[0-9a-f]+|none").unwrap();
        assert!(hex.matches("c0ffee") && hex.matches("none"));
        assert!(!hex.matches("c0ffee!") && !hex.matches("") && !hex.matches("c0ffee\n"));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let check = |source: &str, expected: &str| {
            assert_eq!(Pattern::whole(source).unwrap_err(), expected);
        };
        check("(a", "unclosed group");
        check("a)(b", "unopened group");
        check("a(?=b)", "look-around, including look-ahead and look-behind, is not supported");
        check("a{9999}{9999}", "Compiled regex exceeds size limit of 1048576 bytes.");
    }
}
