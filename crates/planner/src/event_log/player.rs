//! Turns lines into rounds again: it holds the ledger, the observation and the policy as they were.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Decided, HoldsChange, LogLine};
use crate::{
    Candidate, Hold, JobId, Ledger, Observation, OriginSeen, Plan, Policy, QueueKey, QueueSeen,
    Timestamp, assess_with, decide,
};

/// The world as the lines so far say that it was.
#[derive(Debug, Default)]
pub struct Player {
    pub ledger: Ledger,
    pub seen: Observation,
    policy: Option<Arc<Policy>>,
    /// Goes instead of every policy of the log.
    instead: Option<Arc<Policy>>,
    has_ledger: bool,
    holds: BTreeMap<JobId, Hold>,
}

/// A round as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub now: Timestamp,
    pub plan: Plan,
}

/// A line came before what it builds on: the log does not begin at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unready;

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the line builds on lines that are not there")
    }
}

impl std::error::Error for Unready {}

impl Player {
    /// As if the operator had wished for this all the time: jobs are judged by it as well.
    #[must_use]
    pub fn under(policy: Arc<Policy>) -> Self {
        Self { instead: Some(policy), ..Self::default() }
    }

    /// Takes in one line; a round is handed back.
    ///
    /// # Errors
    /// Where the lines that it builds on are missing.
    pub fn take(&mut self, line: LogLine) -> Result<Option<Recorded>, Unready> {
        match line {
            LogLine::Start(_) => {
                let instead = self.instead.take();
                *self = Self { instead, ..Self::default() };
            }
            LogLine::Policy(policy) => self.policy = Some(policy),
            LogLine::Ledger(ledger) => {
                self.ledger = *ledger;
                self.has_ledger = true;
            }
            LogLine::Recorded(event) if self.has_ledger => self.ledger.record(event),
            LogLine::Decided(decided) if self.has_ledger && self.policy.is_some() => {
                return Ok(Some(self.round(*decided)));
            }
            LogLine::Recorded(_) | LogLine::Decided(_) => return Err(Unready),
            LogLine::End(_) => {}
        }
        Ok(None)
    }

    fn round(&mut self, decided: Decided) -> Recorded {
        let Decided { now, seen, mut plan, holds } = decided;
        let changed: Vec<QueueKey> = seen.queues.set.iter().map(|(key, _)| key.clone()).collect();
        seen.apply(&mut self.seen);
        if let Some(policy) = &self.instead {
            for key in &changed {
                if let Some(queue) = self.seen.queues.get_mut(key) {
                    judge(queue, policy);
                }
            }
        }
        HoldsChange::apply(holds, &mut self.holds);
        plan.holds.clone_from(&self.holds);
        Recorded { now, plan }
    }

    /// What is decided now over what was there then. Nothing where no policy is known yet.
    #[must_use]
    pub fn decide(&self, now: Timestamp) -> Plan {
        let Some(policy) = self.instead.as_ref().or(self.policy.as_ref()) else {
            return Plan::default();
        };
        decide(&self.ledger, &self.seen, policy, now)
    }
}

/// What a row asks for depends on the policy, and so on another one anew.
fn judge(seen: &mut QueueSeen, policy: &Policy) {
    let unknown = OriginSeen::default();
    let QueueSeen { candidates, origins, .. } = seen;
    let anew = candidates.iter().map(|candidate| {
        let row = Arc::clone(&candidate.row);
        let verdict = assess_with(&row, origins.get(&row.id).unwrap_or(&unknown), policy);
        if verdict == candidate.verdict {
            return Arc::clone(candidate);
        }
        Arc::new(Candidate { row, verdict })
    });
    *candidates = anew.collect();
}
