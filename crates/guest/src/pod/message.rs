//! A container's last words: the guest's report, short enough to be kept in the pod's status. They
//! are said again and again while it runs, since where memory runs out the kernel kills the guest
//! with all the rest.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::image::Image;
use super::memory::Memory;
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
    /// Of a guest that did not live to report its end, or something of whose was killed.
    #[serde(default, skip_serializing_if = "Memory::is_empty")]
    pub memory: Memory,
}

impl Message {
    /// The message that a container has left, if it is one of ours.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
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
                if self.memory.forget_one() {
                    continue;
                }
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

/// Where the last words stand: the kubelet reads the file once the container has ended.
#[derive(Debug)]
pub(super) struct LastWords {
    file: File,
    /// What stands there of earlier ones.
    length: usize,
}

impl LastWords {
    /// The file is there before the container is.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        Ok(Self { file, length: length.min(LONGEST_MESSAGE) })
    }

    /// In one write of less than a page, which no kill can cut: the words before, or these. Blanks
    /// cover what stood there before.
    pub(super) fn say(&mut self, message: Message) -> io::Result<()> {
        let text = message.fitted()?;
        let covering = format!("{text:<length$}", length = self.length);
        self.file.write_all_at(covering.as_bytes(), 0)?;
        self.length = covering.len();
        Ok(())
    }

    /// So that the kubelet takes the container's log instead.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        self.length = 0;
        self.file.set_len(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Look;
    use super::*;

    fn message(tail: &str) -> Message {
        let report = format!(
            r#"{{"phase":"ended","started_at":"2026-11-27T08:00:00Z","connected_at":"2026-11-27T08:00:02Z",
                "ended":{{"at":"2026-11-27T08:00:09Z","cause":{{"kind":"exited","code":0}},"log_tail":{}}}}}"#,
            serde_json::Value::from(tail)
        );
        let report = serde_json::from_str(&report).expect("a report");
        Message { report, image: Image::default(), memory: Memory::default() }
    }

    /// Three looks at three programs with the worst names there are.
    fn looks() -> Memory {
        let mut memory = Memory::default();
        for second in 0..3 {
            let at = jiff::Timestamp::from_second(1_800_000_000 + second).expect("a time");
            let programs =
                ["\u{1f600}", "\"", "\\"].map(|letter| (letter.repeat(20), u64::MAX / 4));
            memory.take(Look::new(at, Some(u64::MAX), programs));
        }
        memory
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
    fn looks_at_the_memory_fit_beside_a_log_and_stay_when_lines_go() {
        let mut long = message(&"plain\n".repeat(1000));
        long.memory = looks();
        let text = long.fitted().expect("it fits");
        assert!(text.len() <= LONGEST_MESSAGE, "{}", text.len());
        let read = Message::read(&text).expect("it is read back");
        assert_eq!(read.memory, looks(), "{text}");
        assert!(read.report.ended.expect("an end").log_tail.len() > 100, "{text}");
    }

    #[test]
    fn newer_words_cover_the_older_and_can_be_taken_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("termination-log");
        assert!(LastWords::open(&path).is_err(), "outside a pod there is no such file");
        std::fs::write(&path, "").expect("written");
        let read = || std::fs::read_to_string(&path).expect("it is there");
        let mut words = LastWords::open(&path).expect("it is there");
        let (long, short) = (message(&"a line\n".repeat(50)), message("a line\n"));
        for said in [&long, &short, &long, &short] {
            words.say(said.clone()).expect("said");
            assert_eq!(Message::read(&read()).as_ref(), Some(said));
        }
        // Whoever opens it anew has as much to cover.
        let mut again = LastWords::open(&path).expect("it is there");
        again.say(short.clone()).expect("said");
        assert_eq!(Message::read(&read()), Some(short));
        words.take_back().expect("taken back");
        assert_eq!(read(), "");
    }

    #[test]
    fn what_others_leave_is_no_message_of_ours() {
        assert_eq!(Message::read("panic: out of luck"), None);
        assert_eq!(Message::read(r#"{"report":1}"#), None);
    }
}
