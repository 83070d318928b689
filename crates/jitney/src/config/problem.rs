//! What is wrong with a configuration: where, what, and what would be right.
//!
//! One type for terminals (through `miette`, with the place underlined) and for scripts (as JSON).
//! The text that is shown beside an error has every secret masked before it comes here.

use std::fmt;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde::Serialize;

use super::tree::Place;

/// All that is wrong with one configuration file; never empty.
#[derive(Debug)]
pub struct ConfigError {
    file: String,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    pub column: usize,
    /// The path of the key, as `queues.jit.start_timeout`; empty for the file as a whole.
    pub key: String,
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    #[serde(skip)]
    span: Option<SourceSpan>,
    #[serde(skip)]
    source: Option<Arc<NamedSource<String>>>,
}

impl Problem {
    pub(super) fn new(place: Option<Place>, key: &str, complaint: Complaint) -> Self {
        Self {
            line: place.map_or(0, |place| place.line),
            column: place.map_or(0, |place| place.column),
            key: key.to_owned(),
            message: complaint.message,
            remedy: complaint.remedy,
            span: place.map(|place| (place.offset, place.len.max(1)).into()),
            source: None,
        }
    }
}

/// Why a value is not right, in words that do not repeat its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) remedy: String,
    /// Whether the value is better not shown.
    pub(super) hide: bool,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into(), hide: false }
    }

    /// About a value that is better not shown, and that the message does not repeat.
    pub(super) fn hiding(self) -> Self {
        Self { hide: true, ..self }
    }
}

impl ConfigError {
    /// `shown` is the text of the file, secrets masked, byte for byte as long as the real one.
    pub(super) fn new(file: &str, shown: String, mut problems: Vec<Problem>) -> Self {
        let source = Arc::new(NamedSource::new(file, shown).with_language("yaml"));
        problems.sort_by_key(|problem| (problem.line, problem.column));
        for problem in &mut problems {
            problem.source = Some(Arc::clone(&source));
        }
        Self { file: file.to_owned(), problems }
    }

    /// A file that could not be read at all.
    pub(super) fn unreadable(file: &str, complaint: Complaint) -> Self {
        Self { file: file.to_owned(), problems: vec![Problem::new(None, "", complaint)] }
    }

    /// In the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// `{"file": …, "errors": [{"line", "column", "key", "message", "remedy"}]}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "file": self.file, "errors": self.problems })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "{} has an error", self.file),
            count => write!(f, "{} has {count} errors", self.file),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| -> &dyn Diagnostic { problem })))
    }
}

/// `queues.jit.attempts: 0 is not a number from 1 to 100`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.remedy))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.span?;
        self.source.as_deref().map(|source| -> &dyn SourceCode { source })
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span?;
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(
            Some("here".to_owned()),
            span,
        ))))
    }
}

/// The text with these places masked, byte for byte as long as it was. References are no secrets:
/// they stay.
pub(super) fn mask(text: &str, places: &[Place]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for place in places {
        let range = place.offset..place.offset + place.len;
        let shown = text.get(range.clone()).unwrap_or_default().trim_matches('"');
        let reference = shown.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if reference.is_some_and(|name| name.trim_end_matches(":-").chars().all(plain)) {
            continue;
        }
        for byte in bytes.get_mut(range).unwrap_or_default() {
            if *byte != b'\n' {
                *byte = b'*';
            }
        }
    }
    // Whole places are masked and places end between characters, so this is a text again.
    String::from_utf8(bytes).unwrap_or_default()
}

/// For a text that has no tree: what follows the name of a secret is masked to the line's end, and
/// below it what is indented deeper.
pub(super) fn mask_by_words(text: &str) -> String {
    const SECRETS: [&str; 4] = ["token", "secret", "password", "redis"];
    let mut out = String::with_capacity(text.len());
    let mut deeper_than = None;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        if deeper_than.is_some_and(|least| indent > least && !line.trim().is_empty()) {
            out.push_str(&stars(line));
            continue;
        }
        deeper_than = None;
        let at = SECRETS.iter().filter_map(|word| line.to_ascii_lowercase().find(word)).min();
        let colon = at.and_then(|at| Some(at + line.get(at..)?.find([':', '='])?));
        match colon.and_then(|colon| line.split_at_checked(colon + 1)) {
            Some((shown, hidden)) => {
                out.push_str(shown);
                out.push_str(&stars(hidden));
                deeper_than = Some(indent);
            }
            None => out.push_str(line),
        }
    }
    out
}

fn stars(text: &str) -> String {
    let star = |c: char| if c.is_whitespace() { c.to_string() } else { "*".repeat(c.len_utf8()) };
    text.chars().map(star).collect()
}
