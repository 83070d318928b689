//! Patterns of pipelines, branches, queues and images.

use planner::Glob;
use proptest::prelude::*;

#[test]
fn a_star_stands_for_any_run_of_characters() {
    for (pattern, yes, no) in [
        ("main", vec!["main"], vec!["", "mai", "main2", "amain"]),
        ("deploy-*", vec!["deploy-", "deploy-web"], vec!["deploy", "a-deploy-web"]),
        ("*-web", vec!["-web", "a-web"], vec!["web", "a-web-b"]),
        ("a*b*c", vec!["abc", "aXbYc", "abbcc"], vec!["ab", "acb", "abcd"]),
        ("ab*ba", vec!["abba", "ab-ba"], vec!["aba"]),
        ("*", vec!["", "x"], vec![]),
        ("**", vec!["", "x"], vec![]),
        ("", vec![""], vec!["x"]),
    ] {
        let glob = Glob::new(pattern);
        for text in yes {
            assert!(glob.matches(text), "{pattern} matches {text:?}");
        }
        for text in no {
            assert!(!glob.matches(text), "{pattern} does not match {text:?}");
        }
    }
}

/// The plainest way to say it, far too slow for use.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        [first, rest @ ..] => text.first() == Some(first) && matches(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn as_the_plainest_matcher_does(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
        let letters = |text: &str| text.chars().collect::<Vec<char>>();
        prop_assert_eq!(
            Glob::new(&pattern).matches(&text),
            matches(&letters(&pattern), &letters(&text))
        );
    }
}
