//! The thread that writes the event log. What cannot be written ends the log, and nothing else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use planner::LogLine;
use tokio::sync::mpsc::Receiver;

use super::file::LogFile;

pub(super) struct Writer {
    file: LogFile,
    most_bytes: u64,
    anew: Arc<AtomicBool>,
    /// One line; kept for its room.
    text: Vec<u8>,
}

impl Writer {
    pub(super) fn new(file: LogFile, most_bytes: u64, anew: Arc<AtomicBool>) -> Self {
        Self { file, most_bytes, anew, text: Vec::new() }
    }

    pub(super) fn run(mut self, mut inbox: Receiver<Vec<LogLine>>) {
        while let Some(lines) = inbox.blocking_recv() {
            let written = self.write(&lines).and_then(|()| {
                // While more is waiting it is written together.
                if inbox.is_empty() { self.file.flush() } else { Ok(()) }
            });
            if let Err(error) = written {
                tracing::warn!(
                    %error,
                    event_log = %self.file.path().display(),
                    "failed to write to the event log; nothing more is written to it until the \
                     next start, all else goes on"
                );
                return;
            }
        }
    }

    fn write(&mut self, lines: &[LogLine]) -> io::Result<()> {
        for line in lines {
            if matches!(line, LogLine::Start(_)) && self.file.bytes() >= self.most_bytes {
                self.file.put_aside()?;
            }
            self.text.clear();
            serde_json::to_writer(&mut self.text, line)?;
            self.text.push(b'\n');
            self.file.write(&self.text)?;
        }
        if self.file.bytes() >= self.most_bytes {
            // Only what begins anew can stand at the beginning of a file.
            self.anew.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
