//! Turns rounds into lines. It knows what the last round saw, and says what has changed since.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Decided, HoldsChange, LOG_VERSION, LogLine, LogStart, ObservationChange};
use crate::{Event, Hold, JobId, Ledger, Observation, Plan, Policy, Timestamp};

/// Whoever keeps it gives it each event before the ledger takes it in, and each round.
#[derive(Debug)]
pub struct Recorder {
    program: Arc<str>,
    /// How many rounds were lost before the next start.
    missed: u64,
    /// Nothing is known of what the lines say so far: the next round begins them anew.
    last: Option<Last>,
    lines: Vec<LogLine>,
}

/// What the lines so far come to.
#[derive(Debug)]
struct Last {
    policy: Arc<Policy>,
    seen: Observation,
    holds: BTreeMap<JobId, Hold>,
}

impl Recorder {
    /// `program` is the version of the program that writes.
    #[must_use]
    pub fn new(program: &str) -> Self {
        Self { program: program.into(), missed: 0, last: None, lines: Vec::new() }
    }

    /// An event goes into the ledger.
    pub fn record(&mut self, event: &Event) {
        // The ledger at the start has it.
        if self.last.is_some() {
            self.lines.push(LogLine::Recorded(event.clone()));
        }
    }

    /// A round: what [`crate::decide`] was given, and what came of it.
    pub fn decided(
        &mut self,
        ledger: &Ledger,
        seen: &Observation,
        policy: &Arc<Policy>,
        now: Timestamp,
        plan: &Plan,
    ) {
        let last = self.last.get_or_insert_with(|| {
            self.lines.push(LogLine::Start(LogStart {
                version: LOG_VERSION,
                program: Arc::clone(&self.program),
                instance: Arc::clone(&seen.instance),
                at: now,
                missed: std::mem::take(&mut self.missed),
            }));
            self.lines.push(LogLine::Policy(Arc::clone(policy)));
            self.lines.push(LogLine::Ledger(Box::new(ledger.clone())));
            let (policy, seen) = (Arc::clone(policy), Observation::default());
            Last { policy, seen, holds: BTreeMap::new() }
        });
        if !Arc::ptr_eq(&last.policy, policy) {
            last.policy = Arc::clone(policy);
            self.lines.push(LogLine::Policy(Arc::clone(policy)));
        }
        let change = ObservationChange::between(&last.seen, seen);
        change.clone().apply(&mut last.seen);
        let holds = HoldsChange::bring(&mut last.holds, &plan.holds);
        let Plan { facts, steps, holds: _, alarms, wake_at } = plan;
        let plan = Plan {
            facts: facts.clone(),
            steps: steps.clone(),
            holds: BTreeMap::new(),
            alarms: alarms.clone(),
            wake_at: *wake_at,
        };
        self.lines.push(LogLine::Decided(Box::new(Decided { now, seen: change, plan, holds })));
    }

    /// Whoever writes leaves in good order. Of nothing there is no end.
    pub fn end(&mut self, at: Timestamp) {
        if self.last.take().is_some() {
            self.lines.push(LogLine::End(at));
        }
    }

    /// The lines since the last time.
    pub fn take(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.lines)
    }

    /// The next round says everything anew: whoever reads from there on misses nothing.
    pub fn begin_anew(&mut self) {
        self.last = None;
    }

    /// A round was not written down, so that what follows could not be understood.
    pub fn lost(&mut self) {
        self.missed = self.missed.saturating_add(1);
        self.lines.clear();
        self.last = None;
    }
}
