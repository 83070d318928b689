//! What `doctor` found, for people and for scripts.

use std::path::Path;

use serde_json::{Value, json};

use super::{Finding, Level};
use crate::cli::Screen;

pub(super) fn text(path: &Path, findings: &[Finding], screen: Screen) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = format!("{}\n\n", screen.strong(path.display()));
    for Finding { check, level, found, remedy } in findings {
        let word = match level {
            Level::Ok => screen.good("ok     "),
            Level::Warning => screen.warn("warning"),
            Level::Wrong => screen.bad("wrong  "),
        };
        text.push_str(&format!("{word}  {check:width$}  {found}\n"));
        if let Some(remedy) = remedy {
            text.push_str(&format!("         {:width$}  {} {remedy}\n", "", screen.faint("->")));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    text.push_str(&match (count(Level::Wrong), count(Level::Warning)) {
        (0, 0) => "\nAll is well.\n".to_owned(),
        (0, warnings) => format!("\nIt will work; warnings: {warnings}.\n"),
        (wrong, warnings) => format!("\nWrong: {}; warnings: {warnings}.\n", screen.bad(wrong)),
    });
    text
}

pub(super) fn json(path: &Path, findings: &[Finding]) -> Value {
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    json!({ "file": path.display().to_string(), "worst": worst, "findings": findings })
}
