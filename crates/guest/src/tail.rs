//! The agent's own log: its last lines for the report, and what they say about how far it is.
//! Best effort: the words differ between versions, so nothing rests on them but times and nudges.

use std::collections::VecDeque;

/// How much of the agent's log a report keeps.
const KEPT: usize = 8 << 10;
/// The longest line that is looked at; the rest of it is only kept.
const LONGEST_LINE: usize = 4 << 10;

/// What a line told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The agent asks Buildkite for a session, and cannot have a job before it has one.
    Registering,
    /// The agent has registered.
    Registered,
    /// The agent has told Buildkite how its job ended and has nothing left to do.
    JobFinished,
    /// It leaves by itself.
    Leaving,
}

#[derive(Debug)]
pub(crate) struct Tail {
    kept: VecDeque<u8>,
    line: Vec<u8>,
    secret: String,
}

impl Tail {
    /// `secret` is taken out wherever the agent should have printed it.
    pub(crate) fn new(secret: String) -> Self {
        Self { kept: VecDeque::new(), line: Vec::new(), secret }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Sign> {
        let mut signs = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                signs.extend(sign_of(&String::from_utf8_lossy(&self.line)));
                self.line.clear();
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(byte);
            }
        }
        self.kept.extend(bytes);
        // The secret's length more than is shown, so that none is cut in half at the front.
        let room = KEPT + self.secret.len();
        let excess = self.kept.len().saturating_sub(room);
        self.kept.drain(..excess);
        signs
    }

    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if !self.secret.is_empty() {
            text = text.replace(&self.secret, "[redacted]");
        }
        let from = text.len().saturating_sub(KEPT);
        let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text.split_off(from)
    }
}

fn sign_of(line: &str) -> Option<Sign> {
    if line.contains("Successfully registered agent") {
        Some(Sign::Registered)
    } else if line.contains("Registering agent with Buildkite") {
        Some(Sign::Registering)
    } else if line.contains("Finished job") {
        Some(Sign::JobFinished)
    } else if line.contains("Disconnecting...") {
        Some(Sign::Leaving)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_read_from_both_agents_lines() {
        let mut tail = Tail::new("bkjat_1".to_owned());
        let new = "2026-11-23 04:00:00 INFO   Successfully registered agent \"a-1\" with tags []\n";
        let old = "\u{1b}[0m\u{1b}[38;5;48mSuccessfully registered agent \"a\" with tags [queue=x]";
        assert_eq!(tail.push(new.as_bytes()), [Sign::Registered]);
        assert_eq!(tail.push(old.as_bytes()), [], "the line is not complete yet");
        assert_eq!(tail.push(b"\n"), [Sign::Registered]);
        assert_eq!(tail.push(b"Registering agent with Buildkite...\n"), [Sign::Registering]);
        assert_eq!(tail.push(b"INFO Finished job at https://x\n"), [Sign::JobFinished]);
        assert_eq!(tail.push(b"INFO Finished job 0199\nother\n"), [Sign::JobFinished]);
        assert_eq!(tail.push(b"INFO Disconnecting...\n"), [Sign::Leaving]);
    }

    #[test]
    fn the_secret_is_never_in_the_text_not_even_a_piece_at_the_front() {
        for before in 0..40 {
            let mut tail = Tail::new("bkjat_secret".to_owned());
            tail.push(&vec![b'x'; before]);
            tail.push(b"bkjat_secret");
            tail.push(&vec![b'y'; KEPT - 5]);
            let text = tail.text();
            assert!(!text.contains("cret"), "{before}: {}", &text[..20]);
            assert!(text.len() <= KEPT, "{}", text.len());
        }
    }

    #[test]
    fn the_last_lines_are_kept_and_broken_characters_do_no_harm() {
        let mut tail = Tail::new(String::new());
        tail.push("ü".repeat(KEPT).as_bytes());
        tail.push(b"\xff the end");
        let text = tail.text();
        assert!(text.ends_with("the end") && text.len() <= KEPT, "{}", text.len());
    }
}
