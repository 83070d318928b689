//! A container's last words: the guest's report, short enough to be kept in the pod's status.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::image::Image;
use crate::report::Report;

/// A pod keeps 12 KiB for all its containers together, 4 KiB for one: with those of an operator's
/// template there may be six.
pub const LONGEST_MESSAGE: usize = 2 << 10;

/// What stands in a container's termination message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub report: Report,
    #[serde(default)]
    pub image: Image,
}

impl Message {
    pub(super) fn new(report: Report, image: Image) -> Self {
        Self { report, image }
    }

    /// The message that a container has left, if it is one of ours.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn leave(self, path: &Path) -> io::Result<()> {
        fs::write(path, self.fitted()?)
    }

    /// Cut at the front of the agent's lines, of which the last say most.
    fn fitted(mut self) -> io::Result<String> {
        loop {
            let text = serde_json::to_string(&self).map_err(io::Error::other)?;
            let Some(excess) = text.len().checked_sub(LONGEST_MESSAGE).filter(|more| *more > 0)
            else {
                return Ok(text);
            };
            let Some(ended) = self.report.ended.as_mut().filter(|end| !end.log_tail.is_empty())
            else {
                return Err(io::Error::other("the report is too long without any lines"));
            };
            // A character may be six in JSON, so this may take several rounds; each takes some.
            let tail = &mut ended.log_tail;
            let cut = (excess / 6).max(1).min(tail.len());
            let cut = (cut..tail.len()).find(|at| tail.is_char_boundary(*at)).unwrap_or(tail.len());
            *tail = tail.split_off(cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tail: &str) -> Message {
        let report = format!(
            r#"{{"phase":"ended","started_at":"2026-11-27T08:00:00Z","connected_at":"2026-11-27T08:00:02Z",
                "ended":{{"at":"2026-11-27T08:00:09Z","cause":{{"kind":"exited","code":0}},"log_tail":{}}}}}"#,
            serde_json::Value::from(tail)
        );
        Message::new(serde_json::from_str(&report).expect("a report"), Image::default())
    }

    #[test]
    fn any_log_fits_and_its_end_is_kept() {
        for line in ["plain\n", "ümläut \u{1}\u{2}\n", "\"quoted\"\\\n", "日本語\n"] {
            for count in [0, 1, 100, 2000] {
                let tail = format!("{}the end", line.repeat(count));
                let text = message(&tail).fitted().expect("it fits");
                assert!(text.len() <= LONGEST_MESSAGE, "{} of {line:?}", text.len());
                let read = Message::read(&text).expect("it is read back");
                let kept = read.report.ended.expect("an end").log_tail;
                assert!(kept.ends_with("the end") && tail.ends_with(&kept), "{kept}");
                assert!(count < 2000 || kept.len() > 200, "as much as fits is kept: {kept}");
            }
        }
    }

    #[test]
    fn what_others_leave_is_no_message_of_ours() {
        assert_eq!(Message::read("panic: out of luck"), None);
        assert_eq!(Message::read(r#"{"report":1}"#), None);
    }
}
