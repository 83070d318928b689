//! Reads an event log line by line. A log may end in the middle of a line, and go on after it with
//! a new start: whoever wrote it was killed, or the disk was full. Anything else that is no line is
//! an error that names its place.

use std::io::{self, BufRead, Read};

use planner::{LOG_VERSION, LogLine};
use serde::Deserialize;

/// What every event log begins with, and every part of it that can be read alone.
pub(crate) const BEGINS: &str = r#"{"start":{"#;
/// A longer line is no line of ours.
const LINE_MOST: u64 = 1 << 30;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is empty: nothing has been written to it yet")]
    Empty,
    #[error(
        "it does not begin as an event log does; give a file that `jitney run --event-log` wrote, from its first line on"
    )]
    NotALog,
    #[error(
        "line {line}: it was written by jitney {program}, whose logs have the form {found}, and this one reads the form {LOG_VERSION}; replay it with that version"
    )]
    Newer { line: u64, found: u32, program: String },
    #[error(
        "line {line} is damaged ({words}); what is before it can be replayed: head -n {} LOG",
        line - 1
    )]
    Damaged { line: u64, words: String },
    #[error("line {line}: {words}")]
    Failed { line: u64, words: String },
}

/// A line with its number.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) line: LogLine,
}

/// The lines of a log, in order.
#[derive(Debug)]
pub(crate) struct Reading<R> {
    from: R,
    /// The number of the line in `next`.
    number: u64,
    next: Vec<u8>,
    /// Lines at which the log breaks off, at its end or before a new start.
    broken: Vec<u64>,
}

impl<R: BufRead> Reading<R> {
    pub(crate) fn new(mut from: R) -> Result<Self, Unreadable> {
        let next = raw_line(&mut from, 1, LINE_MOST)?;
        if next.is_empty() {
            return Err(Unreadable::Empty);
        }
        if !next.starts_with(BEGINS.as_bytes()) {
            return Err(Unreadable::NotALog);
        }
        Ok(Self { from, number: 1, next, broken: Vec::new() })
    }

    /// Where it breaks off, as far as it has been read.
    pub(crate) fn broken(&self) -> &[u64] {
        &self.broken
    }

    pub(crate) fn next_line(&mut self) -> Result<Option<Numbered>, Unreadable> {
        while !self.next.is_empty() {
            let number = self.number;
            let after = raw_line(&mut self.from, number + 1, LINE_MOST)?;
            let text = std::mem::replace(&mut self.next, after);
            self.number += 1;
            check_version(&text, number)?;
            match serde_json::from_slice(&text) {
                Ok(line) => return Ok(Some(Numbered { number, line })),
                Err(_) if self.breaks_off(&text) => self.broken.push(number),
                Err(error) => {
                    return Err(Unreadable::Damaged { line: number, words: error.to_string() });
                }
            }
        }
        Ok(None)
    }

    /// Whether a line that cannot be read is one that was never finished.
    fn breaks_off(&self, text: &[u8]) -> bool {
        let last = self.next.is_empty() && !text.ends_with(b"\n");
        last || self.next.starts_with(BEGINS.as_bytes())
    }
}

/// With the end of the line; nothing at the end of the file.
fn raw_line(from: &mut impl BufRead, line: u64, most: u64) -> Result<Vec<u8>, Unreadable> {
    let mut text = Vec::new();
    let read = from.take(most).read_until(b'\n', &mut text);
    let failed = |error: io::Error| Unreadable::Failed { line, words: error.to_string() };
    if u64::try_from(read.map_err(failed)?).is_ok_and(|length| length >= most) {
        let words = format!("it is longer than {} MiB", most >> 20);
        return Err(Unreadable::Damaged { line, words });
    }
    Ok(text)
}

/// The one thing about a line that every version can read.
#[derive(Deserialize)]
struct Form {
    start: FormStart,
}

#[derive(Deserialize)]
struct FormStart {
    version: u32,
    #[serde(default)]
    program: String,
}

fn check_version(text: &[u8], line: u64) -> Result<(), Unreadable> {
    if !text.starts_with(BEGINS.as_bytes()) {
        return Ok(());
    }
    match serde_json::from_slice::<Form>(text) {
        Ok(Form { start: FormStart { version: found, program } }) if found != LOG_VERSION => {
            Err(Unreadable::Newer { line, found, program })
        }
        // What is wrong with it otherwise is told when all of it is read.
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_an_end_is_not_read_for_ever() {
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        let error = raw_line(&mut endless, 7, 2 << 20).unwrap_err();
        assert!(
            error.to_string().starts_with("line 7 is damaged (it is longer than 2 MiB)"),
            "{error}"
        );
    }
}
