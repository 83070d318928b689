//! What the loop says of itself when somebody asks: plain data, made from the ledger and the last
//! observation.

use std::collections::BTreeMap;

use planner::{
    Alarm, BackendName, BackendSeen, Entry, JobId, Outcome, Timestamp, Verdict, WorstCost,
    worst_cost,
};

use super::state::{Held, State};
use crate::api::{self, JobPhase, Snapshot};
use crate::journal::Phases;

impl State {
    /// What is not there yet that serving everything takes.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (key, seen) in &self.seen.queues {
            if self.executor.stack(key).is_none() {
                missing.push(format!("the stack of queue {key} is not registered"));
            } else if seen.listed_at.is_none() {
                missing.push(format!("queue {key} has not been listed"));
            }
        }
        for (name, seen) in &self.seen.backends {
            if seen.listed_at.is_none() {
                let why = seen.failing.as_ref().map(|failure| format!(": {}", failure.words));
                let why = why.unwrap_or_default();
                missing.push(format!("backend {name} has not been listed{why}"));
            }
        }
        for fleet in self.fleets.iter().map(|fleet| fleet.borrow()) {
            if fleet.listed_at.is_none() {
                missing.push(format!("the dispatches of fleet {} have not been seen", fleet.name));
            } else if fleet.counted_at.is_none() {
                missing.push(format!("the queue of fleet {} has not been counted", fleet.name));
            }
        }
        // Before the first listing the queues have said it.
        if missing.is_empty() && self.seen.buildkite.failing_since.is_some() {
            missing.push("Buildkite cannot be reached".into());
        }
        missing
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let empty = self.ledger.entries().next().is_none();
        Snapshot {
            version: env!("CARGO_PKG_VERSION").into(),
            name: self.policy().name.to_string(),
            instance: self.seen.instance.to_string(),
            now: self.clock.now(),
            started_at: self.seen.started_at,
            missing: self.missing(),
            draining: self.seen.draining,
            drained: self.seen.draining && empty,
            journal_full: self.seen.journal_full,
            buildkite_failing_since: self.buildkite_failing_since(),
            queues: self.queues(),
            backends: self.backends(),
            fleets: self.fleets.iter().map(|fleet| fleet.borrow().clone()).collect(),
            jobs: {
                let mut entries: Vec<&Entry> = self.ledger.entries().collect();
                entries.sort_by_key(|entry| entry.taken_at);
                entries.into_iter().map(|entry| self.job(entry)).collect()
            },
            waiting: self.waiting(),
            alarms: self.alarm_list(),
            counts: self.counts(),
        }
    }

    pub(super) fn explain(&self, job: JobId) -> Option<Box<api::Explained>> {
        if let Some(entry) = self.ledger.entry(job) {
            return Some(Box::new(api::Explained::InHand(Box::new(self.job(entry)))));
        }
        let held = self.held.get(&job)?;
        let candidates = self.seen.queues.get(&held.queue).map(|seen| &seen.candidates);
        let of_job = candidates.and_then(|all| all.iter().find(|it| it.row.id == job));
        let row = of_job.map(|candidate| &candidate.row);
        let waiting = api::Waiting {
            pipeline: row.map(|row| row.pipeline.to_string()),
            build: row.map(|row| row.build),
            step: row.and_then(|row| row.step.as_deref().map(str::to_owned)),
            ..self.waiting_job(job, held)
        };
        Some(Box::new(api::Explained::Waiting(Box::new(waiting))))
    }

    /// Where there are only fleets, they know.
    fn buildkite_failing_since(&self) -> Option<Timestamp> {
        let fleets = self.fleets.iter();
        let fleets = fleets.filter_map(|fleet| fleet.borrow().buildkite_failing_since).min();
        self.seen.buildkite.failing_since.or(fleets)
    }

    fn queues(&self) -> Vec<api::Queue> {
        let mut in_hand: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in self.ledger.entries() {
            *in_hand.entry(entry.queue.as_str()).or_default() += 1;
        }
        let queue = |(key, seen): (&planner::QueueKey, &planner::QueueSeen)| api::Queue {
            key: key.to_string(),
            registered: self.executor.stack(key).is_some(),
            listed_at: seen.listed_at,
            paused: seen.paused,
            scheduled: seen.candidates.len(),
            foreign: seen
                .candidates
                .iter()
                .filter(|candidate| matches!(candidate.verdict, Verdict::Foreign(_)))
                .count(),
            in_hand: in_hand.get(key.as_str()).copied().unwrap_or_default(),
        };
        self.seen.queues.iter().map(queue).collect()
    }

    fn backends(&self) -> Vec<api::Backend> {
        let policy = self.policy();
        let backend = |(name, seen): (&BackendName, &BackendSeen)| {
            let attempts = self.ledger.entries().filter_map(Entry::current);
            let (cpu_millis, memory_bytes) = attempts
                .filter(|attempt| attempt.backend == *name)
                .fold((0_u32, 0_u64), |(cpu, memory), attempt| {
                    let cpu = cpu.saturating_add(attempt.cpu.millis());
                    (cpu, memory.saturating_add(attempt.memory.get()))
                });
            let bounds = policy.backends.get(name);
            let (capacity, limits) =
                bounds.map(|backend| (backend.capacity, backend.limits)).unwrap_or_default();
            let failing = seen.failing.as_ref().map(|failure| &failure.words);
            api::Backend {
                name: name.to_string(),
                listed_at: seen.listed_at,
                failing: failing.or_else(|| self.denied(name)).map(ToString::to_string),
                machines: seen.machines.len(),
                cpu_millis,
                memory_bytes,
                machines_most: least(capacity.machines, limits.machines),
                cpu_millis_most: least(capacity.cpu, limits.cpu).map(planner::Cpu::millis),
                memory_bytes_most: least(capacity.memory, limits.memory).map(planner::Bytes::get),
            }
        };
        self.seen.backends.iter().map(backend).collect()
    }

    /// Why it makes no machines until an operator puts something right.
    fn denied(&self, name: &BackendName) -> Option<&std::sync::Arc<str>> {
        self.alarms.keys().find_map(|alarm| match alarm {
            Alarm::Denied { backend, words } => (backend == name).then_some(words),
            Alarm::TwoInstallations { .. } | Alarm::ApiDenied { .. } => None,
        })
    }

    fn job(&self, entry: &Entry) -> api::Job {
        let (row, attempt) = (entry.row.as_deref(), entry.current());
        let held = self.held.get(&entry.job);
        api::Job {
            id: entry.job,
            queue: entry.queue.to_string(),
            pipeline: row.map(|row| row.pipeline.to_string()),
            build: row.map(|row| row.build),
            step: row.and_then(|row| row.step.as_deref()).map(str::to_owned),
            phase: phase(entry),
            attempt: attempt.map_or(0, |attempt| attempt.number),
            backend: attempt.map(|attempt| attempt.backend.to_string()),
            machine: attempt.map(|attempt| attempt.name.to_string()),
            cpu_millis: attempt.map(|attempt| attempt.cpu.millis()),
            memory_bytes: attempt.map(|attempt| attempt.memory.get()),
            waits: held.map(|held| held.reason.sentence(self.clock.now())),
            waits_since: held.map(|held| held.since),
            reason: held.map(|held| held.reason.clone()),
            replaces: entry.predecessor,
            last_failure: entry.last_failure.as_ref().map(|last| last.failure.words.to_string()),
            phases: Phases::of(entry),
            moments: entry.moments.clone(),
        }
    }

    fn waiting(&self) -> Vec<api::Waiting> {
        let mut waiting: Vec<(&JobId, &Held)> =
            self.held.iter().filter(|(job, _)| self.ledger.entry(**job).is_none()).collect();
        let foreign = |held: &Held| matches!(held.reason, planner::Reason::Foreign { .. });
        waiting.sort_by_key(|(_, held)| (foreign(held), held.ahead, held.since));
        waiting.truncate(api::HELD_MOST);
        waiting.into_iter().map(|(job, held)| self.waiting_job(*job, held)).collect()
    }

    fn waiting_job(&self, id: JobId, held: &Held) -> api::Waiting {
        api::Waiting {
            id,
            queue: held.queue.to_string(),
            pipeline: None,
            build: None,
            step: None,
            ahead: held.ahead,
            reason: held.reason.clone(),
            text: held.reason.sentence(self.clock.now()),
            since: held.since,
        }
    }

    fn alarm_list(&self) -> Vec<api::Alarm> {
        let mut alarms: Vec<api::Alarm> = self
            .alarms
            .iter()
            .map(|(alarm, since)| api::Alarm {
                kind: alarm.key().into(),
                text: alarm.to_string(),
                since: *since,
            })
            .collect();
        if let Some((words, since)) = &self.unwelcome {
            let text = format!("Buildkite does not know our token any more: {words}");
            alarms.push(api::Alarm { kind: "unauthorized".into(), text, since: *since });
        }
        for fleet in self.fleets.iter().map(|fleet| fleet.borrow()) {
            let named = fleet.alarms.iter().cloned().map(|alarm| api::Alarm {
                text: format!("fleet {}: {}", fleet.name, alarm.text),
                ..alarm
            });
            alarms.extend(named);
        }
        alarms
    }

    fn counts(&self) -> api::Counts {
        let mut by_phase: BTreeMap<String, usize> =
            JobPhase::ALL.iter().map(|phase| (phase.word().to_owned(), 0)).collect();
        for entry in self.ledger.entries() {
            *by_phase.entry(phase(entry).word().to_owned()).or_default() += 1;
        }
        let mut holds: BTreeMap<String, usize> = BTreeMap::new();
        for held in self.held.values() {
            *holds.entry(held.reason.key().to_owned()).or_default() += 1;
        }
        let owned = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(call, count)| ((*call).to_owned(), *count)).collect()
        };
        let machines = self.seen.backends.iter();
        let worst_cost = self.worst_cost();
        api::Counts {
            by_phase,
            holds,
            machines: machines
                .map(|(name, seen)| (name.to_string(), seen.machines.len()))
                .collect(),
            worst_cost_micros: worst_cost.micros,
            unpriced_machines: worst_cost.unpriced,
            rounds: self.counts.rounds,
            taken: self.counts.taken,
            forgotten: self.counts.forgotten,
            calls: owned(&self.counts.calls),
            calls_failed: owned(&self.counts.calls_failed),
        }
    }

    /// What a crash at this moment would cost at worst.
    pub(super) fn worst_cost(&self) -> WorstCost {
        worst_cost(&self.ledger, &self.seen, &self.policy(), self.clock.now())
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn phase(entry: &Entry) -> JobPhase {
    if entry.ended.is_some() {
        return JobPhase::Ended;
    }
    if entry.stopping_at.is_some() {
        return JobPhase::Stopping;
    }
    if entry.acquired_at.is_some() {
        return JobPhase::Acquired;
    }
    if entry.doom.is_some() {
        return JobPhase::Failing;
    }
    let Some(attempt) = entry.current().filter(|attempt| attempt.holds()) else {
        return if entry.lease.is_some() { JobPhase::Reserved } else { JobPhase::Taken };
    };
    match attempt.outcome {
        Outcome::Made { .. } if attempt.connected_at.is_some() => JobPhase::Connected,
        Outcome::Made { .. } => JobPhase::Created,
        Outcome::Asked { .. } | Outcome::Again { .. } | Outcome::NotMade { .. } => {
            JobPhase::Requested
        }
    }
}
