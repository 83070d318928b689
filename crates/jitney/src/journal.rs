//! What we took on and are about to do, written down before it is done: SQLite on a thread of its
//! own. It decides nothing, and losing it costs history and the rest of a few leases, no more:
//! correctness rests on Buildkite's reservations and on the backends' names and labels.

mod files;
mod history;
mod store;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use planner::{Event, JobId, Ledger, Timestamp};
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use files::Lock;
pub use history::{Closed, Phases};
use store::{Broken, Replayed, Store};
use writer::{Request, Writer};

/// Where the journal is, and how much it may hold.
#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    /// How long the history of jobs is kept.
    pub keep: Duration,
    /// The file grows to this and no further; then it counts as full.
    pub most_bytes: u64,
}

impl Options {
    pub const MOST_BYTES: u64 = 8 << 30;

    #[must_use]
    pub fn new(path: PathBuf, keep: Duration) -> Self {
        Self { path, keep, most_bytes: Self::MOST_BYTES }
    }
}

/// Why there is no journal. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "failed to use {path} as the journal: {words}; name a file with store.journal, in a folder that we may write to and on a disk that is not full"
    )]
    Unusable { path: PathBuf, words: String },
    #[error(
        "the journal {path} is in use by process {pid}; stop that one, or give this one another store.journal and another name"
    )]
    InUse { path: PathBuf, pid: String },
    #[error(
        "the journal {path} was written by a newer version (its form is {found}, this one knows {known}); run the newer version, or move the file away to begin without its history"
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
}

/// What was found at the start.
#[derive(Debug)]
pub struct Opened {
    pub journal: Journal,
    pub ledger: Ledger,
    /// When it was last written to, by the clock of that process: the newest event, or its begin.
    pub written_at: Timestamp,
    /// When the journal was begun; zero where that is not known.
    pub begun_at: Timestamp,
    /// The mark of this installation on its machines; made once, and never changed.
    pub instance: String,
    /// Where a corrupt journal was moved to.
    pub moved_aside: Option<PathBuf>,
}

/// One commit: events, the round that caused them, and jobs that are done with.
#[derive(Debug, Default)]
pub struct Batch {
    pub events: Vec<Event>,
    pub dispatch: String,
    pub at: Timestamp,
    pub closed: Vec<Closed>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the file.
    Written,
    /// The file takes no writes; it is in memory, and written when it does.
    InMemory,
}

/// The way to the thread that writes. Dropping it writes what is left and closes the file.
#[derive(Debug)]
pub struct Journal {
    requests: Option<Sender<Request>>,
    full: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens the journal, or begins one, and reads what it says.
    ///
    /// # Errors
    /// Where the file cannot be used, another process uses it, or it is of a newer version. A
    /// corrupt one is no error: it is moved aside.
    pub fn open(options: &Options, clock: Clock) -> Result<Opened, Error> {
        files::make_folder(&options.path)?;
        let lock = Lock::take(&options.path)?;
        let instance = files::instance(&options.path)?;
        let (store, Replayed { ledger, written_at, begun_at }, moved_aside) =
            open_or_move(options, clock)?;
        let (requests, inbox) = channel();
        let (told, full) = watch::channel(false);
        let writer = Writer::new(store, lock, options.keep, clock, told);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&inbox))
            .map_err(|error| unusable(&options.path, &error))?;
        let journal = Self { requests: Some(requests), full, thread: Some(thread) };
        Ok(Opened { journal, ledger, written_at, begun_at, instance, moved_aside })
    }

    /// Writes one batch down. Resolves when it is in the file, or known not to be.
    pub async fn append(&self, batch: Batch) -> Kept {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Append(batch, reply));
        answer.await.unwrap_or(Kept::InMemory)
    }

    /// Whether the file takes no writes; changes when that does.
    #[must_use]
    pub fn full(&self) -> watch::Receiver<bool> {
        self.full.clone()
    }

    /// How the job went, if it is done with and still remembered.
    pub async fn history(&self, job: JobId) -> Option<Closed> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::History(job, reply));
        answer.await.ok().flatten()
    }

    /// The jobs that were done with last, newest first.
    pub async fn recent(&self, most: u32) -> Vec<Closed> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Recent(most, reply));
        answer.await.unwrap_or_default()
    }

    /// As `history`, for whoever waits for the reply.
    pub(crate) fn ask_history(&self, job: JobId, reply: oneshot::Sender<Option<Closed>>) {
        self.send(Request::History(job, reply));
    }

    /// As `recent`, for whoever waits for the reply.
    pub(crate) fn ask_recent(&self, most: u32, reply: oneshot::Sender<Vec<Closed>>) {
        self.send(Request::Recent(most, reply));
    }

    fn send(&self, request: Request) {
        if let Some(requests) = &self.requests
            && requests.send(request).is_err()
        {
            tracing::error!("the journal's thread has ended; nothing is written down any more");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread had panicked");
        }
    }
}

fn open_or_move(
    options: &Options,
    clock: Clock,
) -> Result<(Store, Replayed, Option<PathBuf>), Error> {
    match open_store(options, clock.now()) {
        Ok((store, replayed)) => Ok((store, replayed, None)),
        Err(Broken::Other(error)) => Err(error),
        Err(Broken::Corrupt(words)) => {
            let moved = files::move_aside(&options.path, clock.now())?;
            tracing::error!(
                journal = %options.path.display(),
                moved_to = %moved.display(),
                problem = words,
                "the journal is corrupt; it was moved aside and a new one begun: history is lost, \
                 and jobs that were reserved and had no machine yet wait for the rest of their lease"
            );
            match open_store(options, clock.now()) {
                Ok((store, replayed)) => Ok((store, replayed, Some(moved))),
                Err(Broken::Other(error)) => Err(error),
                Err(Broken::Corrupt(words)) => {
                    Err(Error::Unusable { path: options.path.clone(), words })
                }
            }
        }
    }
}

fn open_store(options: &Options, now: Timestamp) -> Result<(Store, Replayed), Broken> {
    let store = Store::open(&options.path, options.most_bytes, now)?;
    let replayed = store.replay()?;
    Ok((store, replayed))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Unusable { path: path.to_owned(), words: error.to_string() }
}
