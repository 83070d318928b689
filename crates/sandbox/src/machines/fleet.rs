//! The machines that there are, and the record of what was asked. It waits for nothing and does
//! no I/O: the lives of machines are tasks elsewhere, which tell it what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use backends::http::wire::{CreateRequest, Failure, ListReply};
use backends::{Class, Machine, MachineEnd, Phase};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::faults::{Fate, Faults, strike};

/// What the log holds at the most; later calls are only counted.
const LONGEST_LOG: usize = 200_000;

/// One create or delete, as it was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    pub call: &'static str,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Uuid>,
    /// When the call arrived, and when it had its effect.
    pub at: Timestamp,
    pub done_at: Timestamp,
    /// Of a delete: when the machine had ended, if it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// `made`, `there`, `refused`, `deleted`, `gone` or `failed`; `… (reply lost)` after it.
    pub outcome: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counters {
    pub alive: usize,
    pub most_alive: usize,
    pub lists: u64,
    pub creates: u64,
    pub made: u64,
    pub refused: u64,
    pub deletes: u64,
    pub deleted: u64,
    pub ended: u64,
    /// Entries that the log had no room for.
    pub not_logged: u64,
}

/// How to reach one machine's life.
#[derive(Clone, Debug, Default)]
pub(super) struct Reins {
    /// Its agent is to stop, and may say so.
    pub(super) stop: CancellationToken,
    /// It dies on the spot.
    pub(super) kill: CancellationToken,
}

#[derive(Debug)]
struct Record {
    request_id: Uuid,
    machine: Machine,
    reins: Reins,
}

#[derive(Debug)]
struct Inner {
    records: BTreeMap<String, Record>,
    /// Another one for each start of the service, so that no caller takes it for the old one.
    epoch: Uuid,
    version: u64,
    requests: BTreeSet<Uuid>,
    faults: Faults,
    faults_since: Timestamp,
    frozen: Option<(u64, Vec<Machine>)>,
    counters: Counters,
    log: Vec<Entry>,
}

#[derive(Debug)]
pub(super) struct Fleet {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

/// What came of a create.
#[derive(Debug)]
pub(super) enum Made {
    New { fate: Fate, reins: Reins, boot_delay_ms: u64 },
    There,
    Refused(Failure),
}

/// What a call is answered with, and whether the answer gets lost.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) what: T,
    pub(super) lost: bool,
}

impl Fleet {
    pub(super) fn new(faults: Faults, now: Timestamp) -> Self {
        let inner = Inner {
            records: BTreeMap::new(),
            epoch: Uuid::new_v4(),
            version: 0,
            requests: BTreeSet::new(),
            faults,
            faults_since: now,
            frozen: None,
            counters: Counters::default(),
            log: Vec::new(),
        };
        Self { inner: Mutex::new(inner), changed: watch::Sender::new(0) }
    }

    pub(super) fn create(
        &self,
        name: &str,
        request: &CreateRequest,
        at: Timestamp,
        now: Timestamp,
    ) -> Answer<Made> {
        let mut inner = self.lock();
        inner.counters.creates += 1;
        let what = inner.make(name, request, now);
        let outcome = match &what {
            Made::New { .. } => "made",
            Made::There => "there",
            Made::Refused(_) => "refused",
        };
        let lost = !matches!(what, Made::Refused(_)) && strike(&mut inner.faults.lose_create_reply);
        inner.note(Entry {
            call: "create",
            name: name.to_owned(),
            job: Some(request.labels.job),
            at,
            done_at: now,
            ended_at: None,
            outcome: outcome_of(outcome, lost),
        });
        drop(inner);
        self.tell();
        Answer { what, lost }
    }

    /// Whether it was done; it is, too, when there is no such machine.
    pub(super) fn delete(&self, name: &str, at: Timestamp, now: Timestamp) -> Answer<bool> {
        let mut inner = self.lock();
        inner.counters.deletes += 1;
        let failed = strike(&mut inner.faults.fail_delete);
        let lost = !failed && strike(&mut inner.faults.lose_delete_reply);
        let gone = if failed { None } else { inner.remove(name) };
        let outcome = match &gone {
            Some(_) => "deleted",
            None if failed => "failed",
            None => "gone",
        };
        let machine = gone.as_ref().map(|record| &record.machine);
        inner.note(Entry {
            call: "delete",
            name: name.to_owned(),
            job: machine.map(|machine| machine.labels.job),
            at,
            done_at: now,
            ended_at: machine.and_then(|machine| Some(machine.ended.as_ref()?.at)),
            outcome: outcome_of(outcome, lost),
        });
        if let Some(record) = gone {
            inner.counters.deleted += 1;
            record.reins.stop.cancel();
        }
        drop(inner);
        self.tell();
        Answer { what: !failed, lost }
    }

    pub(super) fn list(&self, mark: &str, now: Timestamp) -> ListReply {
        let mut inner = self.lock();
        inner.counters.lists += 1;
        let complete = !strike(&mut inner.faults.incomplete_lists);
        let version = inner.version_now(now);
        let ours = |machine: &&Machine| *machine.labels.mark == *mark;
        let mut machines: Vec<Machine> = match &inner.frozen {
            Some((_, machines)) => machines.iter().filter(ours).cloned().collect(),
            None => inner.records.values().map(|r| &r.machine).filter(ours).cloned().collect(),
        };
        if !complete {
            let mut keep = false;
            machines.retain(|_| {
                keep = !keep;
                keep
            });
        }
        ListReply { version, complete, machines }
    }

    pub(super) fn version(&self, now: Timestamp) -> String {
        self.lock().version_now(now)
    }

    /// Resolves whenever something may have changed.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn connected(&self, name: &str, request_id: Uuid, now: Timestamp) {
        self.update(name, request_id, |machine, _| {
            machine.phase = Phase::Connected;
            machine.connected_at = Some(now);
        });
    }

    /// Called once in a life.
    pub(super) fn ended(&self, name: &str, request_id: Uuid, cause: String, now: Timestamp) {
        self.update(name, request_id, |machine, counters| {
            counters.ended += 1;
            counters.alive -= 1;
            machine.phase = Phase::Ended;
            machine.ended = Some(Box::new(MachineEnd {
                at: now,
                log_tail: format!("{cause}\n"),
                cause,
                cpu_seconds: None,
                peak_memory_bytes: None,
                oom_killed: false,
                ran: None,
                refused: None,
                fields: BTreeMap::new(),
                deadline_reached: false,
                taken: false,
            }));
        });
    }

    /// What a machine's own deadline does, when nobody else has.
    pub(super) fn expire(&self, name: &str, request_id: Uuid) {
        let mut inner = self.lock();
        if inner.records.get(name).is_some_and(|record| record.request_id == request_id) {
            inner.remove(name);
        }
        drop(inner);
        self.tell();
    }

    /// Whether there is such a machine to kill.
    pub(super) fn kill(&self, name: &str) -> bool {
        let inner = self.lock();
        let record = inner.records.get(name);
        record.inspect(|record| record.reins.kill.cancel()).is_some()
    }

    pub(super) fn stop_all(&self) {
        self.lock().records.values().for_each(|record| record.reins.stop.cancel());
    }

    pub(super) fn faults(&self) -> Faults {
        self.lock().faults.clone()
    }

    pub(super) fn set_faults(&self, faults: Faults, now: Timestamp) {
        let mut inner = self.lock();
        inner.frozen = (faults.stale_ms > 0).then(|| {
            (inner.version, inner.records.values().map(|record| record.machine.clone()).collect())
        });
        inner.faults = faults;
        inner.faults_since = now;
        drop(inner);
        self.tell();
    }

    /// What the three calls answer while there is an outage: a status, or nothing at all.
    pub(super) fn outage(&self, now: Timestamp) -> Option<Option<u16>> {
        let inner = self.lock();
        let until = inner.faults.outage_until(inner.faults_since);
        (now < until).then_some(inner.faults.outage_status)
    }

    pub(super) fn counters(&self) -> Counters {
        self.lock().counters.clone()
    }

    pub(super) fn log(&self) -> Vec<Entry> {
        self.lock().log.clone()
    }

    pub(super) fn clear_log(&self) {
        let mut inner = self.lock();
        inner.log.clear();
        let alive = inner.counters.alive;
        inner.counters = Counters { alive, most_alive: alive, ..Counters::default() };
    }

    fn update(
        &self,
        name: &str,
        request_id: Uuid,
        change: impl FnOnce(&mut Machine, &mut Counters),
    ) {
        let mut inner = self.lock();
        let Inner { records, counters, version, .. } = &mut *inner;
        let Some(record) = records.get_mut(name) else { return };
        if record.request_id != request_id {
            return;
        }
        change(&mut record.machine, counters);
        *version += 1;
        drop(inner);
        self.tell();
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }
}

impl Inner {
    fn make(&mut self, name: &str, request: &CreateRequest, now: Timestamp) -> Made {
        // Asked again: the machine that there is, whatever refuses others now.
        if self.records.contains_key(name) || self.requests.contains(&request.request_id) {
            return Made::There;
        }
        if let Some(failure) = self.faults.refusal(&request.place) {
            self.counters.refused += 1;
            return Made::Refused(failure);
        }
        if request.deadline_s == 0 {
            self.counters.refused += 1;
            let message = "`deadline_s` is 0: the machine would end before it begins".to_owned();
            return Made::Refused(Failure { class: Class::Rejected, message, retry_after_s: None });
        }
        let machine = Machine {
            name: name.to_owned(),
            labels: request.labels.clone(),
            phase: Phase::Booting,
            created_at: now,
            connected_at: None,
            deadline_at: request.deadline_at(now),
            ended: None,
            note: None,
            silent: None,
            leaving: None,
        };
        let reins = Reins::default();
        let record = Record { request_id: request.request_id, machine, reins: reins.clone() };
        self.records.insert(name.to_owned(), record);
        self.requests.insert(request.request_id);
        self.version += 1;
        self.counters.made += 1;
        self.counters.alive += 1;
        self.counters.most_alive = self.counters.most_alive.max(self.counters.alive);
        Made::New { fate: self.faults.fate(), reins, boot_delay_ms: self.faults.boot_delay_ms }
    }

    fn remove(&mut self, name: &str) -> Option<Record> {
        let record = self.records.remove(name)?;
        self.requests.remove(&record.request_id);
        self.version += 1;
        if record.machine.ended.is_none() {
            self.counters.alive -= 1;
        }
        Some(record)
    }

    fn version_now(&mut self, now: Timestamp) -> String {
        if now >= self.faults.stale_until(self.faults_since) {
            self.frozen = None;
        }
        let version = self.frozen.as_ref().map_or(self.version, |(version, _)| *version);
        format!("{}-{version}", self.epoch.simple())
    }

    fn note(&mut self, entry: Entry) {
        if self.log.len() >= LONGEST_LOG {
            self.counters.not_logged += 1;
        } else {
            self.log.push(entry);
        }
    }
}

fn outcome_of(outcome: &str, lost: bool) -> String {
    if lost { format!("{outcome} (reply lost)") } else { outcome.to_owned() }
}
