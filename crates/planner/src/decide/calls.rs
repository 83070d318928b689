//! Calls to Buildkite that are made for many jobs at once: who is in the next one, and when.

use std::time::Duration;

use super::Round;
use crate::{Action, Event, JobId, QueueKey, QueueSeen, Timestamp};

/// What the round has gathered for each queue.
#[derive(Default)]
pub(super) struct Calls {
    /// In the order of their keys.
    queues: Vec<(QueueKey, Gathered)>,
}

#[derive(Default)]
struct Gathered {
    ask: Vec<Due>,
    reserve: Vec<Due>,
    /// The intents of jobs that are reserved for the first time.
    taken: Vec<Event>,
    mint: Vec<(JobId, u32)>,
}

/// A job's place in a call: due at one moment, welcome in an earlier call from another.
/// The same job may have several; the soonest counts.
#[derive(Clone, Copy)]
struct Due {
    job: JobId,
    at: Timestamp,
    from: Timestamp,
}

impl Calls {
    fn of(&mut self, queue: &QueueKey) -> &mut Gathered {
        let index = match self.queues.binary_search_by(|(key, _)| key.cmp(queue)) {
            Ok(index) => index,
            Err(index) => {
                self.queues.insert(index, (queue.clone(), Gathered::default()));
                index
            }
        };
        &mut self.queues[index].1
    }
}

impl Round<'_> {
    /// Ask about the job at `at`; in an earlier call, if one is made within `early` of that.
    pub(super) fn ask(&mut self, queue: &QueueKey, job: JobId, at: Timestamp, early: Duration) {
        self.calls.of(queue).ask.push(Due { job, at, from: at.minus(early) });
    }

    /// Reserve the job, or extend its lease, at `at`; with others from `from` on.
    pub(super) fn reserve(&mut self, queue: &QueueKey, job: JobId, at: Timestamp, from: Timestamp) {
        self.calls.of(queue).reserve.push(Due { job, at, from });
    }

    /// Reserve a job for the first time, now; `taken` is in the journal before.
    pub(super) fn take(&mut self, queue: &QueueKey, job: JobId, taken: Event) {
        let (at, from) = (self.now, self.now);
        let gathered = self.calls.of(queue);
        gathered.taken.push(taken);
        gathered.reserve.push(Due { job, at, from });
    }

    pub(super) fn mint(&mut self, queue: &QueueKey, job: JobId, attempt: u32) {
        self.calls.of(queue).mint.push((job, attempt));
    }

    /// Turns what was gathered into steps.
    pub(super) fn send_calls(&mut self) {
        let now = self.now;
        for (queue, gathered) in std::mem::take(&mut self.calls.queues) {
            let unseen = QueueSeen::default();
            let seen = self.queue(&queue).unwrap_or(&unseen);
            let life = self.policy.lease(&queue);
            if let Some(jobs) = self.ready(gathered.reserve, seen.reserve_not_before) {
                let action = Action::Reserve { queue: queue.clone(), jobs, lease: life };
                self.step(gathered.taken, action);
            }
            if let Some(jobs) = self.ready(gathered.ask, seen.ask_not_before) {
                self.step(Vec::new(), Action::Ask { queue: queue.clone(), jobs });
            }
            if gathered.mint.is_empty() {
                continue;
            }
            if seen.mint_not_before > now {
                self.wake(seen.mint_not_before);
            } else {
                let action = Action::Mint { queue, jobs: gathered.mint, lifetime: life };
                self.step(Vec::new(), action);
            }
        }
    }

    /// The jobs of a call that is made now, or nothing if none is due yet.
    fn ready(&mut self, dues: Vec<Due>, not_before: Timestamp) -> Option<Vec<JobId>> {
        let first = dues.iter().map(|due| due.at).min()?.max(not_before);
        if !self.due(first) {
            return None;
        }
        let now = self.now;
        let (welcome, later): (Vec<Due>, Vec<Due>) =
            dues.into_iter().partition(|due| due.from <= now);
        // The answer may be long in coming.
        if let Some(at) = later.iter().map(|due| due.at).min() {
            self.wake(at.max(not_before));
        }
        let mut jobs: Vec<JobId> = welcome.iter().map(|due| due.job).collect();
        jobs.sort_unstable();
        jobs.dedup();
        Some(jobs)
    }
}
