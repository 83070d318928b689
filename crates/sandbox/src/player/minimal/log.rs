//! A job's log on its way to the server: gathered, cut into pieces, sent in order. A piece that
//! the server refuses is counted and left behind; the job goes on.

use std::time::Duration;

use uuid::Uuid;

use crate::player::client::{Session, patiently};
use crate::player::play::TRIES;
use crate::player::wire::Job;

pub(super) struct Log {
    session: Session,
    job: Uuid,
    /// The server's limit for one piece.
    piece: usize,
    pub(super) every: Duration,
    buffer: Vec<u8>,
    sequence: u64,
    offset: u64,
    lost: u64,
}

impl Log {
    pub(super) fn new(session: Session, job: Uuid, taken: &Job) -> Self {
        Self {
            session,
            job,
            piece: taken.chunks_max_size_bytes.max(1),
            every: Duration::from_secs(taken.chunks_interval_seconds.max(1)),
            buffer: Vec::new(),
            sequence: 0,
            offset: 0,
            lost: 0,
        }
    }

    pub(super) fn say(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    /// What is read into, from the job's own output.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Sends whole pieces, so that what is gathered stays small.
    pub(super) async fn relieve(&mut self) {
        while self.buffer.len() >= self.piece {
            self.send(self.piece).await;
        }
    }

    /// Sends all that there is.
    pub(super) async fn close(&mut self) {
        while !self.buffer.is_empty() {
            self.send(self.piece).await;
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    async fn send(&mut self, most: usize) {
        let rest = self.buffer.split_off(most.min(self.buffer.len()));
        let piece = std::mem::replace(&mut self.buffer, rest);
        self.sequence += 1;
        let (session, job, sequence, offset) =
            (&self.session, self.job, self.sequence, self.offset);
        let sent = patiently(TRIES, || session.chunk(job, sequence, offset, &piece)).await;
        self.offset += u64::try_from(piece.len()).expect("a length fits 64 bits");
        if let Err(error) = sent {
            eprintln!("buildkite-agent (minimal): a piece of the log is lost: {error}");
            self.lost += 1;
        }
    }
}
