//! The thread that writes: one commit for all that has come in meanwhile, and what could not be
//! written is kept and tried again. It does not know what the events mean.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use planner::{JobId, Timestamp};
use tokio::sync::{oneshot, watch};

use super::files::Lock;
use super::store::Store;
use super::{Batch, Closed, Kept};
use crate::clock::Clock;

/// How often a file that took no writes is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How often history is pruned.
/// As long as the ledger remembers it.
const LASTING: Duration = planner::RETRIES_REMEMBERED;
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// How many batches are kept in memory while the file takes none; then the oldest are dropped.
const KEPT_MOST: usize = 100_000;

#[derive(Debug)]
pub(super) enum Request {
    Append(Batch, oneshot::Sender<Kept>),
    History(JobId, oneshot::Sender<Option<Closed>>),
    Recent(u32, oneshot::Sender<Vec<Closed>>),
}

pub(super) struct Writer {
    store: Store,
    _lock: Lock,
    keep: Duration,
    clock: Clock,
    full: watch::Sender<bool>,
    waiting: VecDeque<Batch>,
    replies: Vec<oneshot::Sender<Kept>>,
    /// Not to be tried again before: all that waits is in each try, and the loop waits for it.
    try_at: Option<Timestamp>,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        lock: Lock,
        keep: Duration,
        clock: Clock,
        full: watch::Sender<bool>,
    ) -> Self {
        let (waiting, replies) = (VecDeque::new(), Vec::new());
        Self { store, _lock: lock, keep, clock, full, waiting, replies, try_at: None }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Request>) {
        self.prune();
        let mut prune_at = self.clock.now().plus(PRUNE_EVERY);
        loop {
            let patience = if self.waiting.is_empty() { PRUNE_EVERY } else { TRY_AGAIN };
            match inbox.recv_timeout(patience) {
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while let Ok(request) = inbox.try_recv() {
                self.take(request);
            }
            self.write();
            if self.clock.now() >= prune_at {
                self.prune();
                prune_at = self.clock.now().plus(PRUNE_EVERY);
            }
        }
        self.try_at = None;
        self.write();
        if !self.waiting.is_empty() {
            tracing::error!(
                batches = self.waiting.len(),
                "left without writing down the last events"
            );
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Append(batch, reply) => {
                self.waiting.push_back(batch);
                self.replies.push(reply);
            }
            Request::History(job, reply) => {
                self.write();
                let found = self.store.history(job);
                // Whoever asked may have left.
                let _ = reply.send(found.unwrap_or_else(|error| {
                    tracing::warn!(%error, %job, "failed to read the history of a job");
                    None
                }));
            }
            Request::Recent(most, reply) => {
                self.write();
                let found = self.store.recent(most);
                let _ = reply.send(found.unwrap_or_else(|error| {
                    tracing::warn!(%error, "failed to read the history");
                    Vec::new()
                }));
            }
        }
    }

    fn write(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let now = self.clock.now();
        if self.try_at.is_some_and(|at| now < at) {
            self.drop_oldest();
            return self.reply(Kept::InMemory);
        }
        let was_full = self.try_at.take().is_some() || *self.full.borrow();
        let kept = match self.try_write() {
            Ok(()) => {
                self.waiting.clear();
                if was_full {
                    tracing::info!("the journal takes writes again; what was kept is written");
                }
                Kept::Written
            }
            Err(error) => {
                if !was_full {
                    tracing::error!(
                        %error,
                        "failed to write to the journal; nothing new is taken until it works \
                         again, what runs goes on"
                    );
                }
                self.try_at = Some(self.clock.now().plus(TRY_AGAIN));
                self.drop_oldest();
                Kept::InMemory
            }
        };
        self.full.send_if_modified(|full| {
            let now = kept == Kept::InMemory;
            std::mem::replace(full, now) != now
        });
        self.reply(kept);
    }

    /// A file that has grown to its limit makes room: history is worth less than work.
    fn try_write(&mut self) -> rusqlite::Result<()> {
        let Err(error) = self.store.write(self.waiting.iter()) else { return Ok(()) };
        let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        if !full || self.store.make_room()? == 0 {
            return Err(error);
        }
        tracing::debug!("dropped the oldest history: the journal has grown to its limit");
        self.store.write(self.waiting.iter())
    }

    fn reply(&mut self, kept: Kept) {
        for reply in self.replies.drain(..) {
            // Whoever asked may have left.
            let _ = reply.send(kept);
        }
    }

    fn drop_oldest(&mut self) {
        if self.waiting.len() > KEPT_MOST {
            let most = self.waiting.len() - KEPT_MOST;
            self.waiting.drain(..most);
            tracing::error!(batches = most, "dropped events that could not be written for long");
        }
    }

    fn prune(&self) {
        let now = self.clock.now();
        if let Err(error) = self.store.prune_lasting(now.minus(LASTING)) {
            tracing::warn!(%error, "failed to prune what is kept of retries");
        }
        match self.store.prune(now.minus(self.keep)) {
            Ok(0) => {}
            Ok(jobs) => tracing::debug!(jobs, "pruned the history"),
            Err(error) => tracing::warn!(%error, "failed to prune the history"),
        }
    }
}
