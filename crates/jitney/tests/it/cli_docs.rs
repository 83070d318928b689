//! What the pages for operators have to name: every reason to wait, every alarm, every class of
//! failure, every command and every exit code.

use std::fs;

use crate::rules::{expect_none, repository};

/// The keys that a file of the planner's words maps its variants to.
fn keys(file: &str) -> Vec<String> {
    let path = repository().join("crates/planner/src/words").join(file);
    let text = fs::read_to_string(&path).expect("the planner's words are there");
    let functions = text.split("fn key(").skip(1);
    let bodies = functions.filter_map(|rest| rest.split("\n    }\n").next());
    let arms = bodies.flat_map(|body| body.lines().filter_map(|line| line.split_once("=> \"")));
    arms.filter_map(|(_, rest)| Some(rest.split_once('"')?.0.to_owned())).collect()
}

fn page(name: &str) -> String {
    fs::read_to_string(repository().join("docs").join(name)).expect("the page is there")
}

#[test]
fn troubleshooting_names_every_reason_alarm_and_failure() {
    let page = page("troubleshooting.md");
    let reasons = keys("reason.rs");
    assert!(reasons.len() >= 18 && reasons.contains(&"lease_lapsing".to_owned()), "{reasons:?}");
    // Scopes and notices have keys there too; they are no reasons.
    let no_reasons = [
        "waiting",
        "made",
        "assumed",
        "replaced",
        "not_retried",
        "retrying",
        "cut_short",
        "all",
        "queue",
        "policy",
        "backend",
    ];
    let wanted = reasons.into_iter().filter(|key| !no_reasons.contains(&key.as_str()));
    let wanted = wanted.chain(keys("failure.rs"));
    let missing = wanted.filter(|key| !page.contains(&format!("| `{key}` |")));
    expect_none("a row of docs/troubleshooting.md", missing);
}

#[test]
fn fleets_names_every_hold() {
    let page = page("fleets.md");
    let rows = planner::fleet::Hold::KEYS.map(|key| format!("| `{key}` |"));
    expect_none("a row of docs/fleets.md", rows.into_iter().filter(|row| !page.contains(row)));
}

#[test]
fn commands_are_all_described() {
    let page = page("commands.md");
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_jitney")).arg("--help").output();
    let help = String::from_utf8(help.expect("it was built").stdout).expect("help is text");
    let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let commands: Vec<&str> = list
        .expect("help lists commands")
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        // A line that goes on from the one above is indented deeper.
        .filter(|word| !word.is_empty())
        .collect();
    assert!(commands.contains(&"explain"), "{commands:?}");
    let codes = (0..5).map(|code| format!("| {code} |"));
    let sections = commands.iter().map(|command| format!("\n## {command}\n"));
    expect_none("docs/commands.md has", codes.chain(sections).filter(|part| !page.contains(part)));
}
