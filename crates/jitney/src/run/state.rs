//! What the loop holds between rounds. What comes in is taken in by `apply`, what is decided is
//! done by `round`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backends::Backend;
use planner::{
    Alarm, BackendName, BackendSeen, BuildkiteSeen, Event, JobId, Ledger, Observation, Policy,
    QueueKey, QueueSeen, Reason, Timestamp,
};
use tokio::sync::{Notify, watch};

use super::Error;
use crate::api;
use crate::clock::Clock;
use crate::event_log::EventLog;
use crate::executor::Executor;
use crate::journal::{Batch, Closed, Journal, Kept, Opened};
use crate::settings::Settings;
use crate::sources::Pauses;
use crate::sources::queue::OriginSender;

pub(crate) struct State {
    pub clock: Clock,
    pub settings: watch::Sender<Arc<Settings>>,
    pub ledger: Ledger,
    pub seen: Observation,
    pub executor: Executor,
    pub journal: Journal,
    pub event_log: Option<EventLog>,
    /// Something has changed that a round should look at.
    pub dirty: bool,
    pub fatal: Option<Error>,
    /// When the last round wanted to look again.
    pub(super) wake: Option<Timestamp>,
    /// Recorded and not written down yet.
    pub(super) unwritten: Vec<Event>,
    pub(super) closed: Vec<Closed>,
    pub(super) held: BTreeMap<JobId, Held>,
    pub(super) alarms: BTreeMap<Alarm, Timestamp>,
    /// Why Buildkite does not let us in any more, since when.
    pub(super) unwelcome: Option<(String, Timestamp)>,
    pub(super) paces: BTreeMap<QueueKey, Paces>,
    /// Pauses after failed calls to the REST API.
    pub(super) rest_pauses: Pauses,
    pub(super) live: BTreeMap<BackendName, watch::Sender<bool>>,
    /// Where queues' sources hear of the origins of their jobs.
    pub(super) origins: BTreeMap<QueueKey, OriginSender>,
    /// When a call to Buildkite last went through.
    pub(super) reached_at: Timestamp,
    pub(super) counts: Counters,
    pub(super) fleets: Vec<watch::Receiver<api::Fleet>>,
    /// What fleets hear of it.
    pub(super) draining: watch::Sender<bool>,
    /// Whether the log was told that everything can be served.
    pub(super) ready: bool,
}

/// Why a job does not move, and since when.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub queue: QueueKey,
    pub reason: Reason,
    pub ahead: Option<u32>,
    pub since: Timestamp,
}

/// Pauses after failed calls of one queue, per kind of call.
pub(super) struct Paces {
    pub look: Pauses,
    pub ask: Pauses,
    pub reserve: Pauses,
    pub mint: Pauses,
    pub finish: Pauses,
}

impl Default for Paces {
    fn default() -> Self {
        const fn pauses() -> Pauses {
            Pauses::new(Duration::from_millis(250), Duration::from_secs(5))
        }
        Self { look: pauses(), ask: pauses(), reserve: pauses(), mint: pauses(), finish: pauses() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub rounds: u64,
    pub taken: u64,
    pub forgotten: u64,
    pub calls: BTreeMap<&'static str, u64>,
    pub calls_failed: BTreeMap<&'static str, u64>,
}

impl State {
    pub(super) fn new(
        clock: Clock,
        settings: watch::Sender<Arc<Settings>>,
        opened: Opened,
        executor: Executor,
    ) -> Self {
        let now = clock.now();
        let queues = settings.borrow().policy.queues.keys().cloned().collect::<Vec<_>>();
        let mut seen = Observation {
            instance: opened.instance.as_str().into(),
            started_at: now,
            journal_since: opened.begun_at,
            // Fleets look for themselves.
            buildkite: BuildkiteSeen {
                failing_since: (!queues.is_empty()).then_some(now),
                reachable_since: now,
            },
            queues: queues.iter().map(|key| (key.clone(), QueueSeen::default())).collect(),
            ..Observation::default()
        };
        if !executor.has_rest() {
            seen.rest.denied = Some("Jitney was started without one".into());
        }
        let mut state = Self {
            clock,
            settings,
            ledger: opened.ledger,
            seen,
            executor,
            journal: opened.journal,
            event_log: None,
            dirty: true,
            fatal: None,
            wake: None,
            unwritten: Vec::new(),
            closed: Vec::new(),
            held: BTreeMap::new(),
            alarms: BTreeMap::new(),
            unwelcome: None,
            paces: queues.into_iter().map(|key| (key, Paces::default())).collect(),
            rest_pauses: Pauses::new(Duration::from_secs(1), Duration::from_secs(60)),
            live: BTreeMap::new(),
            origins: BTreeMap::new(),
            reached_at: now,
            counts: Counters::default(),
            fleets: Vec::new(),
            draining: watch::Sender::new(false),
            ready: false,
        };
        let jobs = state.ledger.entries().count();
        if jobs > 0 {
            tracing::info!(jobs, "took over the jobs that the journal names");
        }
        for event in state.ledger.resume(now) {
            state.record(event);
        }
        state
    }

    pub(super) fn add_backend(
        &mut self,
        name: BackendName,
        backend: Arc<dyn Backend>,
        live: watch::Sender<bool>,
    ) -> Arc<Notify> {
        self.seen.backends.insert(name.clone(), BackendSeen::default());
        self.live.insert(name.clone(), live);
        self.executor.add_backend(name, backend)
    }

    pub(super) fn add_queue(&mut self, queue: QueueKey, origins: OriginSender) {
        self.origins.insert(queue, origins);
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.settings.borrow().policy)
    }

    /// How long until the loop should look again though nothing has come in.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        self.wake.map(|at| self.clock.until(at))
    }

    /// New wishes. What is taken on already keeps what it was promised.
    pub(super) fn reload(&mut self, settings: Settings) {
        self.settings.send_replace(Arc::new(settings));
        self.dirty = true;
        tracing::info!("the configuration was read again");
    }

    /// Takes an event into the ledger, into the log, and into what is to be written down.
    pub(super) fn record(&mut self, event: Event) {
        let job = event.job();
        if let Event::Taken { .. } = &event {
            self.counts.taken += 1;
        }
        self.tell(&event);
        if let Event::Forgotten { at, why, .. } = &event {
            if let Some(entry) = self.ledger.entry(job) {
                self.counts.forgotten += 1;
                self.closed.push(Closed::of(entry, why, *at));
            }
            self.seen.answers.remove(&job);
            self.executor.vault().drop_job(job);
        }
        if let Some(log) = &mut self.event_log {
            log.record(&event);
        }
        self.ledger.record(event.clone());
        self.unwritten.push(event);
        self.dirty = true;
    }

    /// Writes down what was recorded since the last time.
    pub(crate) async fn write_down(&mut self) -> Kept {
        if self.unwritten.is_empty() && self.closed.is_empty() {
            return Kept::Written;
        }
        let batch = Batch {
            events: std::mem::take(&mut self.unwritten),
            dispatch: self.seen.dispatch.to_string(),
            at: self.clock.now(),
            closed: std::mem::take(&mut self.closed),
        };
        let kept = self.journal.append(batch).await;
        self.seen.journal_full = kept == Kept::InMemory;
        kept
    }
}
