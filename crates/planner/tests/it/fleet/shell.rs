//! The shell: looks at the cluster, then at the queue, decides, and sends at most one request. What
//! it knows dies with it; what it has sent does not.

use std::collections::BTreeSet;
use std::time::Duration;

use planner::Timestamp;
use planner::fleet::{ARRIVAL, Counts, DispatchId, Event, Ledger, Listing, Outcome, Seen, Step};

use super::queue::Numbers;
use super::scene::Kind;
use super::world::{Happening, Sim};

/// After this a request is given up.
const CALL_TIMEOUT: u64 = 10_000;

pub(super) struct Process {
    pub(super) number: u64,
    /// How far its clock is behind the world's.
    pub(super) clock_behind: u64,
    pub(super) started_at: u64,
    ledger: Ledger,
    seen: Seen,
    /// The truth behind the counts that it has.
    numbers: Option<Numbers>,
}

#[derive(Clone, Debug)]
pub(super) enum Call {
    Round,
    /// The listing is back, or has failed.
    Listed(Option<Listing>),
    Counted(Timestamp, Option<Numbers>),
    Answered(Outcome),
}

impl Process {
    pub(super) fn new(number: u64, started_at: u64, clock_behind: u64) -> Self {
        Self {
            number,
            clock_behind,
            started_at,
            ledger: Ledger::new(Timestamp::from_millis(started_at - clock_behind)),
            seen: Seen::default(),
            numbers: None,
        }
    }
}

impl Sim<'_> {
    fn clock(&self) -> Timestamp {
        Timestamp::from_millis(self.now - self.process.clock_behind)
    }

    fn later(&mut self, millis: u64, call: Call) {
        self.after(millis, Happening::Shell(self.process.number, call));
    }

    fn delay(&mut self) -> u64 {
        let most = if self.strikes(Kind::Delay, 200) { 8_000 } else { 300 };
        self.dice.between(5, most)
    }

    pub(super) fn shell(&mut self, call: Call) {
        match call {
            Call::Round => self.lists(),
            Call::Listed(listing) => {
                let now = self.clock();
                match listing {
                    Some(listing) => {
                        self.process.ledger.record(Event::Listed(&listing));
                        self.process.seen.listing.saw(listing);
                    }
                    None => self.process.seen.listing.failed(now, "no answer"),
                }
                self.counts();
            }
            Call::Counted(asked_at, numbers) => {
                let now = self.clock();
                match &numbers {
                    Some(numbers) => self.process.seen.counts.saw(Counts {
                        asked_at,
                        lag: Duration::from_millis(self.scene.lag),
                        scheduled: numbers.scheduled,
                        running: numbers.running,
                        waiting: 0,
                        agents: numbers.agents,
                    }),
                    None => self.process.seen.counts.failed(now, "no answer"),
                }
                self.process.numbers = numbers.or(self.process.numbers.take());
                self.decides();
            }
            Call::Answered(outcome) => {
                let at = self.clock();
                self.process.ledger.record(Event::Answered { at, outcome });
                self.later(self.scene.poll, Call::Round);
            }
        }
    }

    /// What the cluster says is of the moment at which it is asked.
    fn lists(&mut self) {
        let takes = self.delay();
        let fails = self.is_down(Kind::ClusterFails) || self.strikes(Kind::ClusterFails, 50);
        let listing = (!fails).then(|| Listing {
            began_at: self.clock(),
            ended_at: self.clock().plus(Duration::from_millis(takes)),
            dispatches: self.cluster.statuses(),
        });
        self.later(takes, Call::Listed(listing));
    }

    fn counts(&mut self) {
        let takes = self.delay();
        let fails = self.is_down(Kind::CountsFail) || self.strikes(Kind::CountsFail, 50);
        let asked_at = self.clock();
        let numbers = (!fails).then(|| self.count());
        self.later(takes, Call::Counted(asked_at, numbers));
    }

    fn decides(&mut self) {
        let now = self.clock();
        let round = DispatchId(self.dice.uuid());
        let (ledger, seen) = (&self.process.ledger, &self.process.seen);
        let plan = (self.decide)(ledger, seen, &self.policy, round, now);
        self.check_alerts(&plan);
        self.alerts += u64::try_from(plan.alerts.len()).expect("few");
        match plan.step {
            Step::Dispatch { id, agents, .. } => self.sends(id, agents),
            Step::Hold(_) => {
                let wake = plan.wake_at.map(|at| u64::try_from(at.since(now).as_millis()));
                let wake = wake.and_then(Result::ok).unwrap_or(u64::MAX).max(10);
                self.later(self.scene.poll.min(wake), Call::Round);
            }
        }
    }

    fn sends(&mut self, id: DispatchId, agents: u32) {
        let needed = self.process.numbers.clone();
        self.check_needed(id, agents, needed.as_ref());
        self.process.ledger.record(Event::Asks { id, agents });
        let (decided_at, max) = (self.now, self.policy.max);
        let create = Happening::Create { id, agents, decided_at, max };
        let (there, back) = (self.delay(), self.delay());
        let lost = || Outcome::Unanswered { words: "no answer".into() };
        if self.strikes(Kind::LostBefore, 300) {
            return self.later(CALL_TIMEOUT, Call::Answered(lost()));
        }
        if self.strikes(Kind::LateArrival, 300) {
            let arrival = u64::try_from(ARRIVAL.as_millis()).expect("seconds");
            let late = self.dice.between(1, arrival - 100);
            // It may be the process that ends, and not its patience.
            let given_up = if self.has(Kind::Crash) && self.dice.chance(500) {
                self.after(1, Happening::Crash);
                1
            } else {
                CALL_TIMEOUT
            };
            self.after(given_up + late, create);
            return self.later(given_up, Call::Answered(lost()));
        }
        if self.strikes(Kind::Refused, 300) || self.strikes(Kind::TooMany, 300) {
            let after = self.has(Kind::TooMany).then(|| Duration::from_secs(3));
            let outcome = Outcome::Refused { words: "quota".into(), after };
            return self.later(there + back, Call::Answered(outcome));
        }
        if there + back >= CALL_TIMEOUT || self.strikes(Kind::LostAfter, 300) {
            self.after(there.min(CALL_TIMEOUT - 1), create);
            return self.later(CALL_TIMEOUT, Call::Answered(lost()));
        }
        self.after(there, create);
        self.later(there + back, Call::Answered(Outcome::Made));
    }

    /// Dispatches that are given up, as far as the process can know.
    pub(super) fn given_up(&self) -> BTreeSet<DispatchId> {
        let at_most = u64::try_from(self.policy.at_most.as_millis()).expect("minutes");
        let late = |at: u64| self.now.saturating_sub(at) >= at_most;
        let jobs = self.cluster.jobs.iter().filter(|(_, job)| late(job.decided_at));
        jobs.map(|(id, _)| *id).collect()
    }
}
