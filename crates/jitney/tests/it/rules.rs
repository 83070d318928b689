//! Rules about the code base: what a crate may know, how files begin and how long they are, and
//! words that must not be in them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's own directory.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("it is there")
}

/// Every text file that is tracked, or would be, with its path from the repository's directory.
pub(crate) fn files() -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"])
        .current_dir(repository())
        .output()
        .expect("git is there");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("paths are texts");
    let paths = listed.split('\0').filter(|path| !path.is_empty());
    let files: Vec<(String, String)> = paths
        .filter_map(|path| {
            let text = std::fs::read_to_string(repository().join(path)).ok()?;
            Some((path.to_owned(), text))
        })
        .collect();
    assert!(files.iter().any(|(path, _)| path == "Cargo.toml"), "the listing is of another place");
    files
}

fn rust_files() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|(path, _)| path.ends_with(".rs"))
}

/// All findings of a rule at once, so that one run shows what is to be done.
#[track_caller]
pub(crate) fn expect_none(rule: &str, findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// The names under `[dependencies]` of a crate.
fn dependencies(name: &str) -> Vec<String> {
    let path = repository().join("crates").join(name).join("Cargo.toml");
    let text = std::fs::read_to_string(path).expect("the crate is there");
    let section = text.split("[dependencies]").nth(1).expect("it has dependencies");
    section
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn check_only(name: &str, allowed: &[&str]) {
    let found = dependencies(name);
    assert!(!found.is_empty());
    let more = found.into_iter().filter(|found| !allowed.contains(&found.as_str()));
    expect_none(&format!("{name} may only depend on {allowed:?}"), more);
}

#[track_caller]
fn check_not(name: &str, forbidden: &[&str]) {
    let found = dependencies(name).into_iter().filter(|found| forbidden.contains(&found.as_str()));
    expect_none(&format!("{name} may not know"), found);
}

#[test]
fn what_each_crate_may_know() {
    check_only("planner", &["serde", "strsim", "uuid"]);
    let guest = ["jiff", "rustix", "serde", "serde_json", "signal-hook", "thiserror", "uuid"];
    check_only("guest", &guest);
    check_not("buildkite", &["planner", "backends", "guest", "sandbox", "jitney"]);
    check_not("backends", &["planner", "sandbox", "jitney"]);
    check_not("sandbox", &["planner", "jitney"]);
    check_not("cluster", &["planner", "buildkite", "backends", "guest", "sandbox", "jitney"]);
}

/// Whether a word stands in a line of code by itself, comments apart.
fn has_word(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        !is_part(code[..at].chars().next_back()) && !is_part(code[at + word.len()..].chars().next())
    })
}

#[test]
fn the_core_is_pure() {
    let impure = [
        "SystemTime",
        "Instant",
        "HashMap",
        "HashSet",
        "RandomState",
        "async",
        "unsafe",
        "println",
        "eprintln",
        "std::env",
        "std::fs",
        "std::io",
        "std::net",
        "std::process",
        "std::thread",
    ];
    let findings = rust_files()
        .filter(|(path, _)| path.starts_with("crates/planner/src/"))
        .flat_map(|(path, text)| {
            let lines = text.lines().enumerate();
            let found = lines.flat_map(|(at, line)| {
                impure
                    .iter()
                    .filter(move |word| has_word(line, word))
                    .map(move |word| (at + 1, word))
            });
            found.map(|(at, word)| format!("{path}:{at} {word}")).collect::<Vec<_>>()
        });
    expect_none("the planner does no I/O, reads no clock and draws no random number", findings);
}

#[test]
fn the_heart_cannot_fail() {
    let (_, text) = rust_files()
        .find(|(path, _)| path == "crates/planner/src/decide.rs")
        .expect("decide has a file of its own");
    let (_, after) = text.split_once("pub fn decide(").expect("decide is public");
    let (signature, _) = after.split_once('{').expect("it has a body");
    let (_, result) = signature.split_once("->").expect("it gives something");
    assert_eq!(result.trim(), "Plan");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = rust_files().filter(|(_, text)| !text.starts_with("//! "));
    expect_none("the first line says what the file is for (//!)", silent.map(|(path, _)| path));
}

#[test]
fn files_are_short() {
    const MOST: usize = 500;
    let long = rust_files()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MOST)
        .map(|(path, lines)| format!("{path}: {lines}"));
    expect_none("a file has at most 500 lines", long);
}

#[test]
fn files_are_named_after_what_they_are() {
    let vague = [
        "manager", "managers", "handler", "handlers", "helper", "helpers", "util", "utils",
        "common", "misc", "data", "info", "types",
    ];
    let found = rust_files()
        .map(|(path, _)| path)
        .filter(|path| path.trim_end_matches(".rs").split('/').any(|part| vague.contains(&part)));
    expect_none("a name says what is in it", found);
}

#[test]
fn no_test_is_left_out() {
    let mark = concat!("#[", "ignore");
    let found = rust_files().filter(|(_, text)| text.contains(mark)).map(|(path, _)| path);
    expect_none("tests run, or are not there", found);
}

#[test]
fn every_crate_keeps_the_lints() {
    let found = files().into_iter().filter(|(path, text)| {
        path.starts_with("crates/")
            && path.ends_with("/Cargo.toml")
            && !text.contains("[lints]\nworkspace = true")
    });
    expect_none("a crate has the workspace's lints", found.map(|(path, _)| path));
}

/// Words that would only mean something on the machine where they were written.
#[test]
fn nothing_points_at_somebodys_machine() {
    let forbidden = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/runner"),
        concat!("/us", "ers/"),
        concat!("index.cra", "tes.io"),
        concat!("registry.npm", "js.org"),
        concat!("proxy.go", "lang.org"),
        concat!("pypi", ".org"),
        concat!("cla", "ude"),
        concat!("anth", "ropic"),
        concat!("chat", "gpt"),
    ];
    let found = files().into_iter().flat_map(|(path, text)| {
        let lines = text.lines().enumerate();
        let found = lines.filter_map(|(at, line)| {
            let lower = line.to_ascii_lowercase();
            let word = forbidden.iter().find(|word| lower.contains(**word))?;
            Some(format!("{path}:{} {word}", at + 1))
        });
        found.collect::<Vec<_>>()
    });
    expect_none("tracked files hold no paths of one machine and no registry's host", found);
}
