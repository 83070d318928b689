//! Tells developers, in batches: what comes within a moment goes in one call, and what could not be
//! sent is sent again for a minute, with the time at which it was true.

use std::time::Duration;

use buildkite::StackClient;
use buildkite::wire::Notification;
use planner::{JobId, Notice, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::to_jiff;
use crate::sources::Pauses;

/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_millis(50);
const MOST: usize = 1_000;
/// How long a batch is tried: after that the words are old.
const TRY_FOR: Duration = Duration::from_secs(60);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Notices(mpsc::UnboundedSender<Message>);

#[derive(Debug)]
enum Message {
    Note(StackClient, Notification),
    Flush(oneshot::Sender<()>),
}

impl Notices {
    pub(super) fn start(tasks: &mut JoinSet<()>) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        tasks.spawn(deliver(inbox));
        Self(sender)
    }

    pub(super) fn send(&self, stack: StackClient, job: JobId, notice: &Notice, at: Timestamp) {
        let note = Notification {
            job_uuid: job.0,
            detail: notice.sentence(at),
            timestamp: Some(to_jiff(at)),
        };
        if self.0.send(Message::Note(stack, note)).is_err() {
            tracing::error!(%job, "the task that sends notifications has ended");
        }
    }

    /// Waits until everything that was handed in has been sent or given up.
    pub(super) async fn flush(&self, patience: Duration) {
        let (reply, done) = oneshot::channel();
        if self.0.send(Message::Flush(reply)).is_ok() && timeout(patience, done).await.is_err() {
            tracing::warn!("left while notifications were still to be sent");
        }
    }
}

async fn deliver(mut inbox: mpsc::UnboundedReceiver<Message>) {
    let mut batches = JoinSet::new();
    while let Some(message) = inbox.recv().await {
        let (stack, note) = match message {
            Message::Flush(done) => {
                while batches.join_next().await.is_some() {}
                // Whoever waited may have lost patience.
                let _ = done.send(());
                continue;
            }
            Message::Note(stack, note) => (stack, note),
        };
        let mut gathered = vec![(stack, note)];
        let mut flush = None;
        let until = Instant::now() + GATHER;
        while gathered.len() < MOST {
            match tokio::time::timeout_at(until, inbox.recv()).await {
                Ok(Some(Message::Note(stack, note))) => gathered.push((stack, note)),
                Ok(Some(Message::Flush(done))) => {
                    flush = Some(done);
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
        for (stack, notes) in by_stack(gathered) {
            batches.spawn(send_batch(stack, notes));
        }
        while batches.try_join_next().is_some() {}
        if let Some(done) = flush {
            while batches.join_next().await.is_some() {}
            let _ = done.send(());
        }
    }
}

fn by_stack(gathered: Vec<(StackClient, Notification)>) -> Vec<(StackClient, Vec<Notification>)> {
    let mut stacks: Vec<(StackClient, Vec<Notification>)> = Vec::new();
    for (stack, note) in gathered {
        match stacks.iter_mut().find(|(known, _)| known.key() == stack.key()) {
            Some((_, notes)) => notes.push(note),
            None => stacks.push((stack, vec![note])),
        }
    }
    stacks
}

async fn send_batch(stack: StackClient, mut notes: Vec<Notification>) {
    let give_up = Instant::now() + TRY_FOR;
    let mut pauses = Pauses::new(Duration::from_millis(500), Duration::from_secs(10));
    loop {
        let Ok(batch) = timeout(CALL_TIMEOUT, stack.notify(notes.clone())).await else {
            tracing::warn!(notes = notes.len(), "notifications got no answer");
            return;
        };
        let mut again: Vec<Notification> = Vec::new();
        for refused in &batch.value {
            for note in refused.indexes.iter().filter_map(|index| notes.get(*index)) {
                tracing::warn!(
                    job = %note.job_uuid, error = refused.error, "Buildkite refused a notification"
                );
                if note.timestamp.is_some() {
                    // Our clock may be ahead of theirs: they take their own time then.
                    again.push(Notification { timestamp: None, ..note.clone() });
                }
            }
        }
        let failure = batch.failures.first().map(|failure| failure.error.clone());
        for failed in &batch.failures {
            again.extend(failed.items.iter().filter_map(|index| notes.get(*index)).cloned());
        }
        if again.is_empty() {
            return;
        }
        let pause = failure.as_ref().map_or(Duration::ZERO, |error| pauses.next(error.retry_after));
        if Instant::now() + pause > give_up {
            let error = failure.map(|error| error.to_string());
            tracing::warn!(notes = again.len(), error, "gave up sending notifications");
            return;
        }
        sleep(pause).await;
        notes = again;
    }
}
