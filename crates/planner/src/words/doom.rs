//! The text that a job shows which we failed: what happened, why, what to do, and what its machines
//! said. Buildkite shows nothing else of such a job, so it has to be the whole story.

use crate::shape::spell_duration;
use crate::{Attempt, Doom, Entry, Failure};

use super::{capital, crop, line, open_ended};

/// Buildkite takes 4,096 bytes and clients cut blindly; we cut where it makes sense.
const DETAIL: usize = 4096;
/// The newest ones: whoever configures more attempts than this knows why.
const ATTEMPTS_TOLD: usize = 10;
/// Why it failed is said within this, so that there is room for the rest.
const REMEDY: usize = 1800;

impl Doom {
    /// As metrics and JSON name it: the same word that it has where it is serialized.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::AttemptsUsedUp { .. } => "attempts_used_up",
            Self::Rejected { .. } => "rejected",
        }
    }

    /// What happened and why: one line, at most 255 bytes.
    #[must_use]
    pub fn sentence(&self) -> String {
        line(&match self {
            Self::Invalid { invalid } => {
                format!("No machine can be made for this job: {}", open_ended(&invalid.problem()))
            }
            Self::AttemptsUsedUp { attempts: 1, last } => {
                format!("The one machine made for this job came to nothing: {last}")
            }
            Self::AttemptsUsedUp { attempts, last } => {
                format!("{attempts} machines made for this job came to nothing, the last: {last}")
            }
            Self::Rejected { backend, failure } => {
                format!("Backend {backend} does not make such a machine: {}", words_of(failure))
            }
        })
    }

    /// The text that a failed job shows in Buildkite: at most 4,096 bytes.
    #[must_use]
    pub fn detail(&self, entry: &Entry) -> String {
        let mut text = self.sentence();
        text.push_str("\n\n");
        text.push_str(&self.remedy());
        text.push('\n');
        if !entry.attempts.is_empty() {
            let told = entry.attempts.len().saturating_sub(ATTEMPTS_TOLD);
            text.push_str("\nWhat was tried:\n");
            for attempt in &entry.attempts[told..] {
                text.push_str(&crop(&tried(attempt), 200));
                text.push('\n');
            }
        }
        let last_words = entry.attempts.iter().rev().find_map(|attempt| {
            let tail = plain(&attempt.ended.as_ref()?.log_tail);
            (!tail.is_empty()).then_some((attempt.number, tail))
        });
        if let Some((number, tail)) = last_words {
            let title = format!("\nThe last lines of attempt {number}'s agent:\n");
            let room = DETAIL.saturating_sub(text.len() + title.len());
            if let Some(tail) = last_lines(&tail, room) {
                text.push_str(&title);
                text.push_str(tail);
            }
        }
        limit(text.trim_end(), DETAIL)
    }

    fn remedy(&self) -> String {
        match self {
            Self::Invalid { invalid } => limit(&plain(&invalid.remedy()), REMEDY),
            Self::AttemptsUsedUp { last, .. } => capital(last.class.remedy()),
            Self::Rejected { failure, .. } => capital(failure.class.remedy()),
        }
    }
}

/// `1. jitney-…-1 on here, after 5m: no agent connected within 5m`.
fn tried(attempt: &Attempt) -> String {
    let Attempt { number, name, backend, .. } = attempt;
    let (after, why) = match (&attempt.failed, &attempt.ended) {
        (Some(failed), _) => (Some(failed.at), failed.failure.to_string()),
        (None, Some(end)) => (Some(end.at), end.cause.to_string()),
        (None, None) => (None, "nothing is known of its end".into()),
    };
    let after = after.map_or_else(String::new, |at| {
        let seconds = at.since(attempt.intended_at).as_secs();
        format!(", after {}", spell_duration(std::time::Duration::from_secs(seconds)))
    });
    let memory = match attempt.ended.as_ref() {
        Some(end) if end.oom_killed => " (it ran out of memory)",
        Some(_) | None => "",
    };
    format!("{number}. {name} on {backend}{after}: {}{memory}", open_ended(&why))
}

/// The backend's own words; its class where it had none.
fn words_of(failure: &Failure) -> String {
    match open_ended(&failure.words) {
        "" => failure.class.to_string(),
        words => words.to_string(),
    }
}

/// Lines without colours and other control characters.
fn plain(log: &str) -> String {
    let mut text = String::with_capacity(log.len());
    let mut letters = log.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => skip_escape(&mut letters),
            '\n' => text.push('\n'),
            '\t' => text.push(' '),
            control if control.is_control() => {}
            other => text.push(other),
        }
    }
    text.trim().to_string()
}

/// A terminal's escape sequence: `ESC [ … letter`, or one character after the escape.
fn skip_escape(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if letters.next_if_eq(&'[').is_none() {
        letters.next_if(|letter| *letter != '\n');
        return;
    }
    while let Some(letter) = letters.next_if(|letter| !letter.is_control()) {
        if ('@'..='~').contains(&letter) {
            return;
        }
    }
}

/// As many of the last lines as there is room for: whole ones, unless the last alone is too long.
fn last_lines(text: &str, room: usize) -> Option<&str> {
    if text.len() <= room {
        return Some(text);
    }
    let mut start = text.len() - room;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let cut = &text[start..];
    let whole = cut.find('\n').map_or(cut, |end| &cut[end + 1..]);
    (!whole.is_empty()).then_some(whole)
}

/// At most so many bytes, with lines kept; what is cut ends in `…`.
fn limit(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_string();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}
