//! The record of what was done with machines, for assertions and figures.

use jiff::Timestamp;
use serde::Serialize;

use super::{Instance, Status};

/// What the log holds at the most; later entries are only counted.
const LONGEST_LOG: usize = 200_000;

/// One thing that happened to a machine or a disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    pub at: Timestamp,
    /// `insert`, `runs`, `boots`, `failed`, `delete`, `deleted`, `preempted`, `terminated`,
    /// `leftover gone`, `disk reused`, `disk leaked`, `disk deleted`.
    pub what: &'static str,
    pub zone: String,
    pub name: String,
    /// The code of a failure, the machine type of an insert.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counters {
    /// Machines by what they are doing.
    pub provisioning: usize,
    pub running: usize,
    pub stopping: usize,
    pub terminated: usize,
    pub disks: usize,
    /// Since the start or the log was cleared.
    pub inserts: u64,
    pub failed: u64,
    pub deletes: u64,
    pub preempted: u64,
    /// The most that were there at once, whatever they did.
    pub most_at_once: usize,
    /// Entries that the log had no room for.
    pub not_logged: u64,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<Entry>,
    counts: Counters,
}

impl Log {
    pub(super) fn push(&mut self, entry: Entry) {
        match entry.what {
            "insert" => self.counts.inserts += 1,
            "failed" => self.counts.failed += 1,
            "delete" => self.counts.deletes += 1,
            "preempted" => self.counts.preempted += 1,
            _ => {}
        }
        if self.entries.len() < LONGEST_LOG {
            self.entries.push(entry);
        } else {
            self.counts.not_logged += 1;
        }
    }

    pub(super) fn saw(&mut self, machines: usize) {
        self.counts.most_at_once = self.counts.most_at_once.max(machines);
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn counters<'a>(
        &self,
        instances: impl Iterator<Item = &'a Instance>,
        disks: usize,
    ) -> Counters {
        let mut counters = Counters { disks, ..self.counts.clone() };
        for instance in instances {
            match instance.status {
                Status::Provisioning | Status::Staging => counters.provisioning += 1,
                Status::Running => counters.running += 1,
                Status::Stopping => counters.stopping += 1,
                Status::Terminated => counters.terminated += 1,
            }
        }
        counters
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
