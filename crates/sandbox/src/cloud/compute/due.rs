//! What happens by itself when its time has come.

use std::cmp::Reverse;
use std::time::Duration;

use jiff::Timestamp;

use super::Compute;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// An operation turns from PENDING to RUNNING.
    OperationRuns(String),
    /// An insert comes to its end, good or bad.
    Inserted(String),
    /// What was left of a machine that could not be had goes away.
    LeftoverGone(u64),
    /// A machine that runs starts its script.
    Boots(u64),
    /// The notice of a preemption is over.
    NoticeOver(u64),
    /// A machine has run as long as it may.
    RunOver(u64),
    /// A machine has been `STOPPING` long enough.
    MayStop(u64),
    /// An operation ends, as it was to.
    Done(String),
    /// A machine and the operation that deletes it.
    Deleted(u64, String),
    DiskDeleted(String, String, String),
    /// Nobody remembers the operation any more.
    Forgotten(String),
}

pub(super) fn after(now: Timestamp, millis: u64) -> Timestamp {
    now.checked_add(Duration::from_millis(millis)).unwrap_or(Timestamp::MAX)
}

impl Compute {
    pub(super) fn push_due(&mut self, at: Timestamp, due: Due) {
        let sequence = self.next_sequence();
        self.due.push(Reverse((at, sequence, due)));
    }

    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Does what was due until now, each at its own time.
    pub fn advance(&mut self, now: Timestamp) {
        while self.next_due().is_some_and(|at| at <= now) {
            let Some(Reverse((at, _, due))) = self.due.pop() else { return };
            self.come(due, at);
        }
    }

    fn come(&mut self, due: Due, at: Timestamp) {
        match due {
            Due::OperationRuns(operation) => self.operation_runs(&operation, at),
            Due::Inserted(operation) => self.inserted(&operation, at),
            Due::LeftoverGone(id) => self.leftover_gone(id, at),
            Due::Boots(id) => self.boots(id),
            Due::NoticeOver(id) => self.notice_over(id, at),
            Due::RunOver(id) => self.run_over(id, at),
            Due::MayStop(id) => self.may_stop(id, at),
            Due::Done(operation) => {
                let failure = self.operations.get(&operation).and_then(|it| it.failure.clone());
                self.end_operation(&operation, failure, at);
            }
            Due::Deleted(id, operation) => self.deleted(id, &operation, at),
            Due::DiskDeleted(zone, name, operation) => {
                self.disk_deleted(&zone, &name, &operation, at)
            }
            Due::Forgotten(operation) => {
                self.operations.remove(&operation);
            }
        }
    }
}
