//! The event log, when `run` is asked for one: what each round saw and decided, as lines of JSON in
//! a file, for `replay`. The loop never waits for it: where the lines come faster than they can be
//! written it leaves rounds out, says how many, and begins anew. What the lines mean is the
//! planner's.

mod file;
pub(crate) mod reading;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use planner::{Event, Ledger, LogLine, Observation, Plan, Policy, Recorder, Timestamp};
use tokio::sync::mpsc::{Sender, channel, error::TrySendError};

use file::LogFile;
use writer::Writer;

/// How many rounds may wait for the disk.
const WAITING_MOST: usize = 256;
/// How long a stop waits for the last lines.
const LEAVE_MOST: Duration = Duration::from_secs(1);

/// Which file, and how large it may become.
#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    /// At this size the file is put aside, in place of the one that was put aside before: there are
    /// never more than two, and each can be read without the other.
    pub most_bytes: u64,
}

impl Options {
    pub const MOST_BYTES: u64 = 512 << 20;

    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, most_bytes: Self::MOST_BYTES }
    }
}

/// Why there is no event log. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "failed to write the event log {path}: {words}; name a file with --event-log in a folder that we may write to"
    )]
    Unusable { path: PathBuf, words: String },
    #[error(
        "the event log {path} is being written by another process; give this one another file with --event-log"
    )]
    InUse { path: PathBuf },
    #[error(
        "{path} holds something else than an event log, and is left as it is; give --event-log a file that is not there yet"
    )]
    NotALog { path: PathBuf },
}

/// The way to the thread that writes. Dropping it writes what is left, if that takes no time.
#[derive(Debug)]
pub(crate) struct EventLog {
    recorder: Recorder,
    /// None when we are about to leave.
    lines: Option<Sender<Vec<LogLine>>>,
    /// The thread wants the next round to begin anew.
    anew: Arc<AtomicBool>,
    /// Closed when the thread has left.
    gone: Receiver<()>,
}

impl EventLog {
    /// Opens the file, or goes on at its end.
    pub(crate) fn open(options: &Options) -> Result<Self, Error> {
        let file = LogFile::open(&options.path)?;
        let (lines, inbox) = channel(WAITING_MOST);
        let anew = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(file, options.most_bytes, Arc::clone(&anew));
        let (here, gone) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("event-log".into())
            .spawn(move || {
                let _here = here;
                writer.run(inbox);
            })
            .map_err(|error| unusable(&options.path, &error))?;
        tracing::info!(
            event_log = %options.path.display(),
            most_bytes = options.most_bytes,
            "writing down what every round sees and decides"
        );
        let recorder = Recorder::new(env!("CARGO_PKG_VERSION"));
        Ok(Self { recorder, lines: Some(lines), anew, gone })
    }

    /// To be called for each event that the ledger takes in.
    pub(crate) fn record(&mut self, event: &Event) {
        self.recorder.record(event);
    }

    /// To be called for each decision, before anything of it is recorded.
    pub(crate) fn decided(
        &mut self,
        ledger: &Ledger,
        seen: &Observation,
        policy: &Arc<Policy>,
        now: Timestamp,
        plan: &Plan,
    ) {
        let Some(lines) = &self.lines else { return };
        match lines.try_reserve() {
            Ok(place) => {
                if self.anew.swap(false, Ordering::Relaxed) {
                    self.recorder.begin_anew();
                }
                self.recorder.decided(ledger, seen, policy, now, plan);
                place.send(self.recorder.take());
            }
            // Either the thread is behind, or it has left and said why.
            Err(TrySendError::Full(()) | TrySendError::Closed(())) => self.recorder.lost(),
        }
    }

    /// A stop in good order: whoever reads the log knows that nothing is missing at its end.
    pub(crate) fn end(mut self, at: Timestamp) {
        self.recorder.end(at);
        let rest = self.recorder.take();
        if let Some(lines) = &self.lines
            && !rest.is_empty()
            && lines.try_send(rest).is_err()
        {
            tracing::warn!("the event log's last lines could not be written");
        }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.lines = None;
        // A disk that does not answer holds no stop up.
        if self.gone.recv_timeout(LEAVE_MOST) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("left without waiting any longer for the event log's last lines");
        }
    }
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Unusable { path: path.to_owned(), words: error.to_string() }
}
