//! Fleet mode: how many interchangeable agents a queue's counts ask for, and whether they are
//! dispatched now. Pure as `decide` is: what is seen comes in, a plan with its reasons goes out.
//!
//! What exists is read from the cluster alone (each dispatch is a Job that says what it is), so a
//! restart loses nothing that matters. Two things are not to be seen there, and are minded here: a
//! request that was sent and not answered, and the agents that were there when Buildkite counted,
//! and are gone now.

mod ledger;
mod plan;
mod seen;
mod supply;
mod words;

use std::time::Duration;

pub use ledger::{Asked, Event, Ledger, Outcome, State};
pub use plan::{Alert, Figures, Hold, Plan, Sizing, Step};
pub use seen::{Agents, Counts, Dispatch, DispatchId, Failing, Listing, Look, Policy, Seen};

use crate::Timestamp;
use supply::Supply;

/// A request that nobody waits for any more has arrived after this, or never does.
pub const ARRIVAL: Duration = Duration::from_secs(20);
/// Older words about cluster or queue allow nothing.
pub const FRESH: Duration = Duration::from_secs(60);
/// Between two tries of a request that got no answer.
pub const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How long a container that runs may take until its agent has registered.
pub const CONNECTS: Duration = Duration::from_secs(60);

/// One round. `round` becomes the id of what it dispatches.
#[must_use]
pub fn decide(
    ledger: &Ledger,
    seen: &Seen,
    policy: &Policy,
    round: DispatchId,
    now: Timestamp,
) -> Plan {
    let listing = seen.listing.fresh(now, |listing| listing.ended_at);
    let counts = seen.counts.fresh(now, |counts| counts.asked_at);
    let mut plan = Plan {
        step: Step::Hold(Hold::NothingQueued),
        sizing: None,
        alerts: alerts(ledger, seen, policy, now),
        figures: Figures::of(seen, ledger, policy, now),
        wake_at: None,
    };
    plan.step = match (listing, counts) {
        _ if seen.draining => Step::Hold(Hold::Draining),
        (Err(words), _) => Step::Hold(Hold::ClusterUnknown { words }),
        (_, Err(words)) => Step::Hold(Hold::CountsUnknown { words }),
        (Ok(listing), Ok(counts)) => {
            let round = Round { ledger, policy, listing, counts, round, now };
            let supply = round.supply();
            plan.sizing = supply.map(|supply| supply.sizing(counts, policy));
            round.step(supply)
        }
    };
    plan.wake_at = plan.step.until();
    plan
}

/// One round, with both sides known.
struct Round<'a> {
    ledger: &'a Ledger,
    policy: &'a Policy,
    listing: &'a Listing,
    counts: &'a Counts,
    round: DispatchId,
    now: Timestamp,
}

impl Round<'_> {
    fn supply(&self) -> Option<Supply> {
        Supply::of(self.ledger, self.listing, self.counts, self.policy, self.now)
    }

    fn step(&self, supply: Option<Supply>) -> Step {
        // What a process before this one sent may still be under way; nothing that is dispatched
        // before it must have arrived could be told from it.
        let settled = self.ledger.started_at.plus(ARRIVAL);
        let Some(supply) = supply.filter(|_| self.listing.began_at >= settled) else {
            let until = settled.max(self.now.plus(self.counts.lag));
            return Step::Hold(Hold::Starting { until });
        };
        let unseen = self.ledger.unseen(self.listing);
        if let Some(asked) = unseen {
            return self.unseen(asked, &supply);
        }
        let wanted = supply.missing(self.counts, self.policy);
        if wanted == 0 {
            return Step::Hold(supply.enough(self.counts));
        }
        if let Some((until, words)) = self.ledger.refused_until(self.now) {
            return Step::Hold(Hold::Refused { words, until });
        }
        if let Some(hold) = self.cooldown() {
            return Step::Hold(hold);
        }
        let agents = wanted.min(self.policy.max.saturating_sub(supply.holding));
        if agents == 0 {
            let (max, holding) = (self.policy.max, supply.holding);
            return Step::Hold(Hold::AtMax { max, holding, wanted, idle: supply.idle });
        }
        Step::Dispatch { id: self.round, agents, again: false }
    }

    /// What becomes of the last request cannot be told yet: it is waited for, or sent again as it was.
    fn unseen(&self, asked: &Asked, supply: &Supply) -> Step {
        let id = asked.id;
        let doubted_until = asked.doubted_until(self.listing);
        match (&asked.state, doubted_until) {
            (State::UnderWay, _) => Step::Hold(Hold::Asking { id }),
            (State::Refused { until, words }, doubted) => {
                let until = doubted.map_or(*until, |doubted| doubted.max(*until));
                Step::Hold(Hold::Refused { words: words.clone(), until })
            }
            (State::Made { .. }, Some(until)) => {
                let words = "an earlier try of the same may still arrive".into();
                Step::Hold(Hold::Unanswered { id, until, words })
            }
            (State::Made { at }, None) => {
                let until = at.plus(self.policy.at_most);
                Step::Hold(Hold::Cooldown { id, arrived: 0, of: asked.agents, until, words: None })
            }
            (State::Unanswered { at, words }, doubted) => {
                // The same name means the same number, so it is sent again only while that many
                // are missing; else what arrived late would be more than anybody needs.
                let needed = supply.missing(self.counts, self.policy) >= asked.agents;
                let room = self.policy.max.saturating_sub(supply.holding) >= asked.agents;
                let again = needed && room && !self.listing.has(id);
                let next = at.plus(TRY_AGAIN);
                if again && self.now >= next {
                    return Step::Dispatch { id, agents: asked.agents, again: true };
                }
                let until = if again { next } else { doubted.unwrap_or(next) };
                Step::Hold(Hold::Unanswered { id, until, words: words.clone() })
            }
        }
    }

    /// Nothing new until enough of what was dispatched has arrived, or its time is over.
    fn cooldown(&self) -> Option<Hold> {
        let (dispatch, age) = self.ledger.awaited(self.listing, self.policy, self.now)?;
        Some(Hold::Cooldown {
            id: dispatch.id,
            arrived: dispatch.arrived(),
            of: dispatch.wanted,
            until: self.now.plus(self.policy.at_most.saturating_sub(age)),
            words: dispatch.trouble.clone(),
        })
    }
}

/// What somebody has to look at, whatever the round does.
fn alerts(ledger: &Ledger, seen: &Seen, policy: &Policy, now: Timestamp) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for dispatch in seen.listing.last.iter().flat_map(|listing| &listing.dispatches) {
        let late = ledger.age(dispatch, now) >= policy.at_most;
        let cannot = dispatch.cannot_arrive(policy.ready_permille);
        if (late || cannot) && !dispatch.has_arrived(policy.ready_permille) {
            alerts.push(Alert::NotRolledOut {
                id: dispatch.id,
                arrived: dispatch.arrived(),
                failed: dispatch.failed,
                of: dispatch.wanted,
                words: dispatch.trouble.clone(),
            });
        }
    }
    if let Some(words) = ledger.refusal() {
        alerts.push(Alert::Refused { words });
    }
    let blind = |failing: &Option<Failing>| {
        failing.as_ref().filter(|failing| now.since(failing.since) >= FRESH).cloned()
    };
    if let Some(failing) = blind(&seen.listing.failing) {
        alerts.push(Alert::ClusterUnknown(failing));
    }
    if let Some(failing) = blind(&seen.counts.failing) {
        alerts.push(Alert::CountsUnknown(failing));
    }
    alerts
}
