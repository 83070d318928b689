//! Jobs on their way through the core, again and again: an event log is read and played, and each of
//! its rounds decided anew. The whole program would not do here: how many rounds it takes for a
//! thousand jobs depends on what else the machine does, by more than the gate allows.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use planner::{LogLine, Player};

use crate::Done;
use crate::process::thread_processor;

/// Of the log, each time: about as long as a round over 10,000 live jobs.
const TIMES: usize = 40;

#[derive(Debug)]
pub(super) struct Log(String);

impl Log {
    pub(super) fn read(path: &Path) -> Done<Self> {
        let text = std::fs::read_to_string(path);
        Ok(Self(text.map_err(|error| format!("{}: {error}", path.display()))?))
    }

    /// What it takes of a processor to play it some times, on this thread.
    pub(super) fn cost(&self) -> Done<Duration> {
        let before = thread_processor();
        for _ in 0..TIMES {
            self.play()?;
        }
        Ok(thread_processor().saturating_sub(before))
    }

    fn play(&self) -> Done<()> {
        let mut player = Player::default();
        for line in self.0.lines() {
            let line: LogLine = serde_json::from_str(line)?;
            if let Some(recorded) = player.take(line)? {
                black_box(player.decide(recorded.now));
            }
        }
        Ok(())
    }
}
