//! A step's `branches`: names with `*` for any part of one, and `!` before those that are not
//! meant.

/// Patterns of branches, as a step has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branches(Vec<String>);

impl Branches {
    /// Patterns with spaces between them, in one text or several.
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let patterns = texts.into_iter().flat_map(str::split_whitespace);
        Self(patterns.map(str::to_owned).collect())
    }

    /// Whether a build of this branch has the step: one of the wanted ones fits, if there are any,
    /// and none of the unwanted.
    #[must_use]
    pub fn include(&self, branch: &str) -> bool {
        let mut wanted = self.0.iter().filter(|pattern| !pattern.starts_with('!')).peekable();
        let mut unwanted = self.0.iter().filter_map(|pattern| pattern.strip_prefix('!'));
        let fits = wanted.peek().is_none() || wanted.any(|pattern| matches(pattern, branch));
        fits && !unwanted.any(|pattern| matches(pattern, branch))
    }

    /// As they were written, with one space between them.
    #[must_use]
    pub fn written(&self) -> String {
        self.0.join(" ")
    }
}

/// The pieces between the stars must come in their order, the first at the beginning and the last
/// at the end.
fn matches(pattern: &str, branch: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == branch };
    let Some(mut left) = branch.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &str, included: &[&str], left_out: &[&str]) {
        let branches = Branches::new([patterns]);
        for branch in included {
            assert!(branches.include(branch), "{patterns} leaves {branch} out");
        }
        for branch in left_out {
            assert!(!branches.include(branch), "{patterns} includes {branch}");
        }
    }

    #[test]
    fn the_documented_examples() {
        check("main", &["main"], &["mainline", "main/x", ""]);
        check("!production", &["main", "productions"], &["production"]);
        check("main features/*", &["main", "features/a/b"], &["features", "feature/a"]);
        check("*-test", &["rails-update-test"], &["rails-test-update"]);
        check("stages/* !stages/production", &["stages/demo"], &["stages/production", "main"]);
        check("v*.0", &["v1.0", "v.0"], &["v1.1", "1.0", "v0"]);
        check("v* !v1.*", &["v2.3"], &["v1.1", "x"]);
    }

    #[test]
    fn stars_in_the_middle_do_not_overlap() {
        check("a*b*c", &["abc", "a-b-b-c"], &["ac", "acb", "abcd"]);
        check("ab*ba", &["abba", "ab-ba"], &["aba"]);
        check("*", &["anything", ""], &[]);
        check("ü*", &["ü☃"], &["u"]);
        check("", &["anything"], &[]);
    }
}
