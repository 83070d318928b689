//! The example, broken in its lines in several ways: there is an error or none, never a panic,
//! and never a secret in what is shown.

use jitney::config::Config;

use crate::config::PLANTED;
use crate::rules::repository;

/// The example with a planted secret wherever one can stand.
fn example() -> String {
    let text = std::fs::read_to_string(repository().join("docs/jitney.yaml")).expect("it is there");
    let text = text
        .replace("bkct_example", PLANTED)
        .replace("${JITNEY_TOKEN:-}", PLANTED)
        .replace("${BUILDKITE_API_TOKEN:-}", PLANTED)
        .replace("${BUILDKITE_WEBHOOK_SECRET:-}", PLANTED)
        .replace("redis: null", "redis: \"redis://:bkct_planted@a\"")
        .replace("token: null", "token: bkct_planted");
    assert_eq!(text.matches(PLANTED).count(), 6, "every secret is planted");
    text
}

fn check(text: &str) -> bool {
    let Err(error) = Config::parse("jitney.yaml", text, &|_| None) else { return false };
    let json = error.to_json().to_string();
    for shown in [json, format!("{:?}", miette::Report::new(error))] {
        assert!(!shown.contains(PLANTED), "a secret is shown:\n{shown}\nof:\n{text}");
    }
    true
}

/// Every so many lines, each change beginning with another one: all of them together take long.
const STEP: usize = 3;

/// Applies a change to one line after the other; gives in how many there was an error.
fn break_lines(first: usize, change: &dyn Fn(&str) -> String) -> usize {
    let text = example();
    let lines: Vec<&str> = text.lines().collect();
    let broken = |at: usize| {
        let changed = lines
            .iter()
            .enumerate()
            .map(|(line, text)| if line == at { change(text) } else { (*text).to_owned() });
        changed.collect::<Vec<_>>().join("\n")
    };
    (first % STEP..lines.len()).step_by(STEP).filter(|at| check(&broken(*at))).count()
}

#[test]
fn the_planted_example_is_right() {
    assert!(!check(&example()));
}

#[test]
fn lines_broken_in_turn() {
    let key = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let changes: [&dyn Fn(&str) -> String; 11] = [
        &|_| String::new(),
        &|line| format!(" {line}"),
        &|line| format!("\t{line}"),
        &|line| format!("{line}\n{line}"),
        &|line| format!("{}: [x", key(line)),
        &|line| format!("{}: \"x", key(line)),
        &|line| line.replacen(": ", ":", 1),
        &|line| line.replacen(':', "x:", 1),
        &|line| line.replace('}', ""),
        &|line| format!("{}: é*&x", key(line)),
        &|line| format!("{line} }}"),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        assert!(break_lines(at, change) > 5, "change {at} breaks something");
    }
}
