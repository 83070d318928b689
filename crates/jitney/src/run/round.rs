//! One round: decide, write down, do. Where a decision establishes facts, the next one follows at
//! once, and all of it is one commit.

use std::sync::Arc;
use std::time::Duration;

use buildkite::wire::Scope;
use planner::{
    Action, CreateOutcome, Event, FinishOutcome, Hold, JobId, LossStep, Plan, QueueSeen,
    RetryOutcome, Step, Timestamp, WorstCost, decide,
};
use uuid::Uuid;

use super::state::{Held, State};
use crate::input::Outcome;
use crate::journal::Kept;

/// How many decisions in a row one round takes; what is left then is for the next.
const DECISIONS_MOST: usize = 16;
/// Buildkite takes 20 questions a second for a stack.
const ASK_APART: Duration = Duration::from_millis(60);

impl State {
    pub(crate) async fn round(&mut self) {
        self.dirty = false;
        self.counts.rounds += 1;
        self.seen.dispatch = Uuid::new_v4().simple().to_string().into();
        let mut steps = Vec::new();
        for _ in 0..DECISIONS_MOST {
            let now = self.clock.now();
            self.prepare(now);
            let policy = self.policy();
            let mut plan = decide(&self.ledger, &self.seen, &policy, now);
            if let Some(log) = &mut self.event_log {
                log.decided(&self.ledger, &self.seen, &policy, now, &plan);
            }
            let again = !plan.facts.is_empty();
            for fact in std::mem::take(&mut plan.facts) {
                self.record(fact);
            }
            for step in std::mem::take(&mut plan.steps) {
                if let Some(step) = self.executor.admit(step) {
                    for intent in &step.intents {
                        self.record(intent.clone());
                    }
                    steps.push(step);
                }
            }
            self.dirty = again;
            self.settle(plan, now);
            if !again {
                break;
            }
        }
        self.mark_live();
        self.tell_ready();
        match self.write_down().await {
            Kept::Written => {
                for step in steps {
                    self.perform(step);
                }
            }
            Kept::InMemory => {
                for step in steps {
                    self.perform_unwritten(step);
                }
            }
        }
    }

    /// The parts of the observation that are ours to say.
    fn prepare(&mut self, now: Timestamp) {
        self.executor.vault().drop_lapsed(now);
        self.seen.tokens.clone_from(self.executor.tokens());
        for seen in self.seen.backends.values_mut() {
            seen.first_listed_at = seen.first_listed_at.or(seen.listed_at);
        }
        let rest = self.executor.rest_wait();
        if !rest.is_zero() {
            self.seen.rest.not_before = now.plus(rest).max(self.seen.rest.not_before);
        }
        for (key, seen) in &mut self.seen.queues {
            let Some(stack) = self.executor.stack(key) else { continue };
            let wait = |scope: Scope| stack.client.not_before(scope);
            let QueueSeen {
                look_not_before,
                ask_not_before,
                reserve_not_before,
                mint_not_before,
                finish_not_before,
                ..
            } = seen;
            for (not_before, scope) in [
                (look_not_before, Scope::ShowJob),
                (ask_not_before, Scope::BatchLoadJobStates),
                (reserve_not_before, Scope::BatchReserve),
                (mint_not_before, Scope::JobAcquisitionTokens),
                (finish_not_before, Scope::FinishJob),
            ] {
                let wait = wait(scope);
                if !wait.is_zero() {
                    *not_before = now.plus(wait).max(*not_before);
                }
            }
        }
    }

    /// Keeps what the last decision said beside its steps.
    fn settle(&mut self, plan: Plan, now: Timestamp) {
        self.wake = plan.wake_at;
        // Both in the order of their jobs, so side by side.
        let mut before = std::mem::take(&mut self.held).into_iter().peekable();
        let held = plan.holds.into_iter().map(|(job, hold)| {
            while before.next_if(|(known, _)| *known < job).is_some() {}
            let known = before.next_if(|(known, _)| *known == job).map(|(_, held)| held);
            (job, self.hold_on(job, hold, known, now))
        });
        self.held = held.collect();
        self.alarms.retain(|alarm, _| plan.alarms.contains(alarm));
        for alarm in plan.alarms {
            self.alarms.entry(alarm).or_insert_with_key(|alarm| {
                tracing::error!(alarm = alarm.key(), "{alarm}");
                now
            });
        }
    }

    /// The hold as it is now, of a job that was held like that before, or otherwise, or not at all.
    fn hold_on(&self, job: JobId, hold: Hold, known: Option<Held>, now: Timestamp) -> Held {
        let alike = known.filter(|known| known.reason.key() == hold.reason.key());
        if alike.is_none() {
            self.tell_hold(job, &hold, now);
        }
        let since = alike.map_or(now, |known| known.since);
        let Hold { queue, reason, ahead } = hold;
        Held { queue, reason, ahead, since }
    }

    /// Says once that everything can be served, and what it may cost if we died now.
    fn tell_ready(&mut self) {
        if !self.ready && self.missing().is_empty() {
            self.ready = true;
            let WorstCost { micros: worst_cost_micros, unpriced } = self.worst_cost();
            tracing::info!(
                worst_cost_micros,
                unpriced,
                "ready: every queue and every backend is listed"
            );
        }
    }

    /// Tells the listings where machines of ours may be alive.
    fn mark_live(&mut self) {
        for (name, live) in &self.live {
            let held = self.ledger.entries().flat_map(|entry| &entry.attempts);
            let any = held.into_iter().any(|attempt| attempt.holds() && attempt.backend == *name);
            live.send_if_modified(|live| std::mem::replace(live, any) != any);
        }
    }

    fn perform(&mut self, step: Step) {
        if let Action::Ask { queue, .. } = &step.action
            && let Some(seen) = self.seen.queues.get_mut(queue)
        {
            seen.ask_not_before = self.clock.now().plus(ASK_APART).max(seen.ask_not_before);
        }
        let dispatch = self.dispatch_of(&step.action);
        self.executor.perform(step.action, &dispatch);
    }

    /// A repeated create bears the id of the round that first asked for the machine: it is the very
    /// same request.
    fn dispatch_of(&self, action: &Action) -> Arc<str> {
        let Action::Create(create) = action else { return Arc::clone(&self.seen.dispatch) };
        self.ledger
            .entry(create.job)
            .and_then(|entry| {
                entry.attempts.iter().find(|attempt| attempt.number == create.attempt)
            })
            .map_or_else(|| Arc::clone(&self.seen.dispatch), |known| Arc::clone(&known.dispatch))
    }

    /// The intents could not be written down. What begins something is not done, as if its call had
    /// come to nothing; what keeps or ends something is: it can be found out anew without them.
    fn perform_unwritten(&mut self, step: Step) {
        let at = self.clock.now();
        match step.action {
            Action::Create(create) => {
                let (job, attempt) = (create.job, create.attempt);
                let (backend, outcome) = (create.offer.backend, CreateOutcome::NotSent);
                self.undo(&Outcome::Created { backend, job, attempt, outcome: outcome.clone() });
                self.record(Event::CreateEnded { job, attempt, outcome, at });
            }
            Action::Finish { queue, job, .. } => {
                let (outcome, failed) = (FinishOutcome::Unknown, None);
                self.undo(&Outcome::Finished { queue, job, started_at: at, outcome, failed });
                self.record(Event::FinishEnded { job, outcome, at });
            }
            Action::Reserve { queue, jobs, lease } => {
                let first = |job| step.intents.iter().any(|intent| intent.job() == job);
                let (new, known): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| first(*job));
                for job in &new {
                    self.record(Event::NotReserved { job: *job, sent_at: at });
                }
                self.undo(&Outcome::Reserved {
                    queue: queue.clone(),
                    jobs: new,
                    sent_at: at,
                    lease,
                    reserved: Vec::new(),
                    not_reserved: Vec::new(),
                    failed: None,
                });
                if !known.is_empty() {
                    let action = Action::Reserve { queue, jobs: known, lease };
                    self.perform(Step { intents: Vec::new(), action });
                }
            }
            Action::Retry { job } => {
                let (outcome, failed) = (RetryOutcome::Unknown, None);
                self.undo(&Outcome::Retried { job, outcome: outcome.clone(), failed });
                let loss = LossStep::RetryEnded { outcome };
                self.record(Event::Loss { job, loss, at });
            }
            // A word that is said twice, after a crash, does less harm than one that is not said.
            action @ (Action::Ask { .. }
            | Action::Look { .. }
            | Action::ReadRecord { .. }
            | Action::Mint { .. }
            | Action::Delete { .. }
            | Action::Notify { .. }) => {
                self.perform(Step { intents: Vec::new(), action });
            }
        }
    }

    fn undo(&mut self, outcome: &Outcome) {
        self.executor.ended(outcome);
    }
}
