//! Why a pipeline was refused: words for a person, and the place where there is one.

/// A pipeline that the sandbox cannot honour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{words}", place(*.line, *.column))]
pub struct Error {
    /// What is wrong, in which step, and what would be right.
    pub words: String,
    /// Counted from 1; 0 where there is no text (an uploaded pipeline).
    pub line: u64,
    pub column: u64,
}

fn place(line: u64, column: u64) -> String {
    if line == 0 { String::new() } else { format!("line {line}, column {column}: ") }
}

impl Error {
    pub(super) fn at(place: super::node::Place, words: impl Into<String>) -> Self {
        Self { words: words.into(), line: place.line, column: place.column }
    }

    /// Puts the name of the step in front, for whoever reads only the message.
    pub(super) fn in_step(mut self, step: &str) -> Self {
        self.words = format!("{step}: {}", self.words);
        self
    }
}
