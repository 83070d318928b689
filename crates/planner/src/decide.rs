//! The heart: one round of decisions over what was taken on, what is seen, and what is wanted.
//!
//! A round looks at machines that nobody knows (`strays`), then at each job in our hands (`hand`:
//! its machines in `machines`, what comes next in `next`), then at the jobs that wait in the queues
//! (`intake`). Where a machine may be made is `place`'s word, what limits are left `usage`'s, what
//! developers are told `tell`'s. Every one of them adds to the one plan.

mod alongside;
mod calls;
mod forgotten;
mod hand;
mod intake;
mod loss;
mod machines;
mod next;
mod place;
mod shunned;
mod strays;
mod tell;
mod trials;
mod usage;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::job::Standing;
use crate::{
    Action, Alarm, Answer, Attempt, BackendName, BackendSeen, BuildKey, Event, FailureClass, Hold,
    JobId, JobRow, Ledger, LostOn, MachineSeen, Observation, Plan, Policy, QueueKey, QueuePolicy,
    QueueSeen, Reason, Step, Timestamp,
};
use alongside::{Alongside, Listings};
use calls::Calls;
use place::Room;

/// One round. The same arguments give the same plan, always.
#[must_use]
pub fn decide(ledger: &Ledger, seen: &Observation, policy: &Policy, now: Timestamp) -> Plan {
    let mut round = Round {
        ledger,
        seen,
        policy,
        now,
        plan: Plan::default(),
        calls: Calls::default(),
        room: Room::of(ledger, seen, policy, now),
        heard: None,
        shown: Vec::new(),
        retried: Vec::new(),
        unreplaced: OnceCell::new(),
        adopted: BTreeSet::new(),
        other_installation: None,
    };
    round.strays();
    round.denied();
    round.api_denied();
    let mut answers = Alongside::of(&seen.answers);
    let mut listings = Listings::of(&seen.backends);
    for entry in ledger.entries.values() {
        round.heard = answers.get(&entry.job).copied();
        listings.show(entry, &mut round.shown);
        round.hand(entry);
    }
    round.intake();
    round.forget_told();
    round.send_calls();
    round.plan
}

/// One round under way: what it reads, and the plan that it adds to.
struct Round<'a> {
    ledger: &'a Ledger,
    seen: &'a Observation,
    policy: &'a Policy,
    now: Timestamp,
    plan: Plan,
    calls: Calls,
    room: Room<'a>,
    /// Buildkite's last word on the job in our hands that is looked at just now.
    heard: Option<Answer>,
    /// Its machines that a listing shows, by the number of their attempt.
    shown: Vec<(u32, &'a MachineSeen)>,
    /// Builds of which this round asks for the retry of a lost job, once for each.
    retried: Vec<BuildKey>,
    /// Lost jobs of which nobody knows yet what takes their place; looked for by who needs them.
    unreplaced: OnceCell<Vec<(&'a JobRow, LostOn)>>,
    /// Jobs of which this round found a machine that the ledger does not name.
    adopted: BTreeSet<JobId>,
    /// Another installation under our name, if its machines are seen.
    other_installation: Option<Arc<str>>,
}

impl<'a> Round<'a> {
    /// A backend that is not set up, or does not let us in, is the operator's to mend.
    fn denied(&mut self) {
        for (refuser, cooling) in &self.ledger.cooling {
            if cooling.failure.class == FailureClass::Denied && cooling.until > self.now {
                let (backend, words) = (refuser.backend.clone(), cooling.failure.words.clone());
                self.plan.alarms.push(Alarm::Denied { backend, words });
            }
        }
    }

    fn fact(&mut self, event: Event) {
        self.plan.facts.push(event);
    }

    fn step(&mut self, intents: Vec<Event>, action: Action) {
        self.plan.steps.push(Step { intents, action });
    }

    /// Look again at `at`, unless something changes before.
    fn wake(&mut self, at: Timestamp) {
        let at = at.max(self.now.plus(Duration::from_millis(1)));
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |sooner| sooner.min(at)));
    }

    /// Whether `at` has come; if not, look again then.
    fn due(&mut self, at: Timestamp) -> bool {
        if at <= self.now {
            return true;
        }
        self.wake(at);
        false
    }

    fn hold(&mut self, job: JobId, queue: &QueueKey, reason: Reason, ahead: Option<u32>) {
        self.plan.holds.insert(job, Hold { queue: queue.clone(), reason, ahead });
    }

    fn queue(&self, key: &QueueKey) -> Option<&'a QueueSeen> {
        self.seen.queues.get(key)
    }

    fn queue_policy(&self, key: &QueueKey) -> Option<&'a QueuePolicy> {
        self.policy.queues.get(key)
    }

    fn backend(&self, name: &BackendName) -> Option<&'a BackendSeen> {
        self.seen.backends.get(name)
    }

    /// What a listing shows of the attempt that is looked at just now.
    fn machine_of(&self, attempt: &Attempt) -> Option<&'a MachineSeen> {
        let mut shown = self.shown.iter();
        shown.find(|(number, _)| *number == attempt.number).map(|(_, machine)| *machine)
    }

    /// How far the backend's listings may be behind their time.
    fn listing_lag(&self, backend: &BackendName) -> Duration {
        // Of a backend that was taken out of the configuration nothing is known.
        const UNKNOWN: Duration = Duration::from_secs(10);
        self.policy.backends.get(backend).map_or(UNKNOWN, |policy| policy.listing_lag)
    }

    /// What Buildkite said about the job that is looked at, asked at `after` or later; nothing where
    /// it did not, or where the word is old. Ends are for ever, so they never grow old.
    fn word(&self, after: Timestamp) -> Option<(Standing, Answer)> {
        let answer = self.heard?;
        let standing = answer.state.standing();
        if answer.state.is_terminal() {
            return Some((standing, answer));
        }
        let fresh = self.now.since(answer.asked_at) <= self.policy.margins.fresh;
        let known = !matches!(standing, Standing::Unknown);
        (fresh && known && answer.asked_at >= after).then_some((standing, answer))
    }
}
