//! One job in our hands: what Buildkite's word on it means, and when to ask again.
//!
//! Facts come first. Where a round establishes one about a job, it decides nothing else about that
//! job: the next round follows at once and finds the fact in the ledger.

use std::time::Duration;

use super::Round;
use crate::job::Standing;
use crate::{Entry, Event, Outcome, Timestamp};

impl Round<'_> {
    pub(super) fn hand(&mut self, entry: &Entry) {
        if self.adopted.contains(&entry.job) {
            return;
        }
        let facts = self.plan.facts.len();
        self.job_facts(entry);
        self.notice_loss(entry);
        for attempt in entry.attempts.iter().filter(|attempt| attempt.holds()) {
            self.machine_facts(entry, attempt);
        }
        if self.plan.facts.len() > facts {
            return;
        }
        for attempt in entry.attempts.iter().filter(|attempt| attempt.holds()) {
            self.machine(entry, attempt);
        }
        if self.plan.facts.len() > facts {
            return;
        }
        self.next(entry);
        if self.plan.facts.len() == facts {
            self.keep_asking(entry);
        }
    }

    fn job_facts(&mut self, entry: &Entry) {
        let Some((standing, answer)) = self.word(entry.taken_at) else { return };
        let (job, at) = (entry.job, self.now);
        match standing {
            Standing::Acquired if entry.acquired_at.is_none() => {
                self.fact(Event::Acquired { job, at });
            }
            Standing::Open if self.is_taken_back(entry) => {
                self.fact(Event::Released { job, at });
            }
            Standing::Stopping if entry.stopping_at.is_none() => {
                self.fact(Event::JobStopping { job, at });
            }
            Standing::Done | Standing::Void if entry.ended.is_none() => {
                self.fact(Event::JobEnded { job, state: answer.state, at });
            }
            Standing::Acquired
            | Standing::Stopping
            | Standing::Done
            | Standing::Void
            | Standing::Open
            | Standing::Parked
            | Standing::Unknown => {}
        }
    }

    /// Whether an agent was said to have the job, and has it no more. What Buildkite says is not
    /// enough while a machine of ours is there: its agent may be at work all the same. A machine
    /// of which nobody knows whether it was made is asked for again under the same name.
    fn is_taken_back(&self, entry: &Entry) -> bool {
        let Some(acquired_at) = entry.acquired_at else { return false };
        let mut after = acquired_at;
        for attempt in &entry.attempts {
            match (&attempt.outcome, attempt.gone_at) {
                (_, Some(gone_at)) => after = after.max(gone_at),
                (Outcome::Made { .. } | Outcome::NotMade { .. }, None) => return false,
                (Outcome::Asked { .. } | Outcome::Again { .. }, None) => {}
            }
        }
        entry.ended.is_none() && self.word(after).is_some()
    }

    /// Asks at the pace of the job's phase. Nothing is asked about a job that has ended, nor about
    /// one that is not reserved yet, or not any more.
    fn keep_asking(&mut self, entry: &Entry) {
        let begun = entry.lease.is_some()
            || entry.leased_until > self.now
            || !entry.attempts.is_empty()
            || entry.acquired_at.is_some();
        if entry.ended.is_some() || !begun {
            return;
        }
        let margins = &self.policy.margins;
        let every = match entry.acquired_at {
            Some(_) => margins.ask_running,
            None => margins.ask_starting,
        };
        let last = self.heard.map(|answer| answer.asked_at);
        let reserved_at = entry.lease.map(|lease| lease.sent_at);
        // Nothing is new about a job within a moment of its reservation.
        let base = last.max(reserved_at).unwrap_or(Timestamp::ZERO);
        self.ask(&entry.queue, entry.job, base.plus(every), every / 2);
    }

    /// A word on the job asked for at `after` or later; where there is none yet, it is asked for.
    pub(super) fn word_or_ask(&mut self, entry: &Entry, after: Timestamp) -> Option<Standing> {
        if let Some((standing, _)) = self.word(after) {
            return Some(standing);
        }
        // A question since then brought nothing: the next waits for a moment.
        let asked = self.heard.map(|answer| answer.asked_at);
        let again = asked
            .filter(|asked| *asked >= after)
            .map_or(self.now, |asked| asked.plus(self.policy.margins.ask_starting));
        self.ask(&entry.queue, entry.job, after.max(self.now).max(again), Duration::ZERO);
        None
    }
}
