//! What a fleet says of its rounds: a log line with numbers at the top, alarms once each, and the
//! status that the command line and metrics show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backends::fleet::Template;
use planner::Timestamp;
use planner::fleet::{Alert, Dispatch, DispatchId, Hold, Outcome, Plan, Seen, Step};
use tokio::sync::watch;

use super::Options;
use crate::api;

/// A round in which nothing is new and nothing goes on is told of this rarely.
const QUIET: Duration = Duration::from_secs(60);
/// So many dispatches that are gone are remembered.
const GONE_MOST: usize = 20;

pub(super) struct Teller {
    fleet: String,
    queue: String,
    status: watch::Sender<api::Fleet>,
    /// What was said last, and when.
    said: Option<(&'static str, Timestamp)>,
    /// Alarms that were said and have not ended, since when.
    alarms: BTreeMap<String, Timestamp>,
    told_of_template: bool,
}

impl Teller {
    pub(super) fn new(options: &Options) -> (Self, watch::Receiver<api::Fleet>) {
        let first = api::Fleet {
            name: options.name.clone(),
            queue: options.queue.clone(),
            backend: options.backend.clone(),
            agents_most: options.policy.max,
            ..api::Fleet::default()
        };
        let (status, seen) = watch::channel(first);
        let teller = Self {
            fleet: options.name.clone(),
            queue: options.queue.clone(),
            status,
            said: None,
            alarms: BTreeMap::new(),
            told_of_template: false,
        };
        (teller, seen)
    }

    pub(super) fn round(&mut self, id: DispatchId, plan: &Plan, seen: &Seen, now: Timestamp) {
        self.alarms(id, plan, now);
        let (hold, text) = match &plan.step {
            Step::Dispatch { agents, again: false, .. } => {
                ("", format!("dispatching {agents} agents"))
            }
            Step::Dispatch { id, agents, again: true } => {
                ("", format!("asking again for dispatch {id} of {agents} agents"))
            }
            Step::Hold(hold) => (hold.key(), hold.sentence(now)),
        };
        self.log(id, plan, hold, &text, now);
        let figures = plan.figures;
        self.status.send_modify(|status| {
            status.dispatch_id = id.to_string();
            status.rounds += 1;
            status.listed_at = seen.listing.last.as_ref().map(|listing| listing.ended_at);
            status.counted_at = seen.counts.last.map(|counts| counts.asked_at);
            status.buildkite_failing_since =
                seen.counts.failing.as_ref().map(|failing| failing.since);
            (status.queued, status.running, status.waiting) =
                (figures.queued, figures.running, figures.waiting);
            (status.agents_total, status.agents_free) = (figures.agents_total, figures.agents_free);
            (status.pods_online, status.pods_pending) = (figures.pods_online, figures.pods_pending);
            status.seconds_waiting_for_dispatch = figures.waiting_for_dispatch.as_secs_f64();
            status.hold = (!hold.is_empty()).then(|| hold.to_owned());
            status.text = text;
            status.awaited_dispatch_id = awaited(plan).map(|id| id.to_string());
            if let Some(listing) = &seen.listing.last {
                let dispatches = listing.dispatches.iter();
                let now_there = dispatches.map(|of| shown(&status.name, of, plan, now)).collect();
                let before = std::mem::replace(&mut status.dispatches, now_there);
                remember(status, before, listing.ended_at);
            }
            status.alarms = alarms_of(plan, &self.alarms, now);
        });
    }

    /// Every round that does something or sees something go on; the others now and then.
    fn log(
        &mut self,
        dispatch_id: DispatchId,
        plan: &Plan,
        hold: &'static str,
        text: &str,
        now: Timestamp,
    ) {
        let figures = plan.figures;
        let dispatched = match plan.step {
            Step::Dispatch { agents, .. } => agents,
            Step::Hold(_) => 0,
        };
        let busy = [figures.queued, figures.pods_pending].iter().any(|of| of.unwrap_or(0) > 0);
        let news = self.said.is_none_or(|(said, at)| said != hold || now.since(at) >= QUIET);
        if !(dispatched > 0 || busy || news) {
            return;
        }
        self.said = Some((hold, now));
        let (fleet, queue) = (&self.fleet, &self.queue);
        tracing::info!(
            fleet,
            queue,
            %dispatch_id,
            queued = figures.queued,
            running = figures.running,
            waiting = figures.waiting,
            dispatched,
            agents_total = figures.agents_total,
            agents_free = figures.agents_free,
            seconds_waiting_for_dispatch = figures.waiting_for_dispatch.as_secs_f64(),
            pods_online = figures.pods_online,
            pods_pending = figures.pods_pending,
            awaited_dispatch_id = awaited(plan).map(|id| id.to_string()),
            hold,
            "{text}"
        );
    }

    fn alarms(&mut self, dispatch_id: DispatchId, plan: &Plan, now: Timestamp) {
        let keys: Vec<String> = plan.alerts.iter().map(key).collect();
        self.alarms.retain(|alarm, _| keys.contains(alarm));
        let (fleet, queue) = (&self.fleet, &self.queue);
        for (alert, key) in plan.alerts.iter().zip(keys) {
            if self.alarms.contains_key(&key) {
                continue;
            }
            self.alarms.insert(key, now);
            let (alarm, text) = (alert.key(), alert.sentence(now));
            let late = of_dispatch(alert).map(|id| id.to_string());
            tracing::error!(
                fleet,
                queue,
                %dispatch_id,
                awaited_dispatch_id = late,
                alarm,
                "{text}"
            );
        }
    }

    pub(super) fn answered(
        &mut self,
        round: DispatchId,
        id: DispatchId,
        agents: u32,
        again: bool,
        outcome: &Outcome,
    ) {
        let (fleet, queue, dispatch_id) = (&self.fleet, &self.queue, id);
        match outcome {
            Outcome::Made => {
                let job = backends::fleet::name(fleet, &id.to_string());
                tracing::info!(fleet, queue, %dispatch_id, agents, job, "dispatched");
                self.status.send_modify(|status| {
                    status.dispatched += 1;
                    status.agents_dispatched += u64::from(agents);
                });
            }
            Outcome::Unanswered { words } => {
                tracing::warn!(fleet, queue, %dispatch_id, agents, %round, again,
                    "whether it was dispatched is not known: {words}");
            }
            Outcome::Refused { words, .. } => {
                tracing::warn!(fleet, queue, %dispatch_id, agents, "not dispatched: {words}");
            }
        }
    }

    /// Said once: it costs agents their pods' ends.
    pub(super) fn template(&mut self, dispatch_id: DispatchId, template: &Template) {
        let beside = template.beside();
        if beside.is_empty() || std::mem::replace(&mut self.told_of_template, true) {
            return;
        }
        let (fleet, queue, containers) = (&self.fleet, &self.queue, beside.join(", "));
        tracing::warn!(
            fleet,
            queue,
            %dispatch_id,
            containers,
            "the template has containers beside the agent's: a pod goes on as long as they do; make \
             them init containers with restartPolicy: Always"
        );
    }
}

/// The dispatch that a round waits for.
fn awaited(plan: &Plan) -> Option<DispatchId> {
    let Step::Hold(hold) = &plan.step else { return None };
    match hold {
        Hold::Cooldown { id, .. } | Hold::Asking { id } | Hold::Unanswered { id, .. } => Some(*id),
        Hold::NothingQueued
        | Hold::Draining
        | Hold::Enough { .. }
        | Hold::AtMax { .. }
        | Hold::Refused { .. }
        | Hold::Starting { .. }
        | Hold::ClusterUnknown { .. }
        | Hold::CountsUnknown { .. } => None,
    }
}

fn of_dispatch(alert: &Alert) -> Option<DispatchId> {
    match alert {
        Alert::NotRolledOut { id, .. } => Some(*id),
        Alert::Refused { .. } | Alert::ClusterUnknown(_) | Alert::CountsUnknown(_) => None,
    }
}

/// What makes an alarm the same as one before.
fn key(alert: &Alert) -> String {
    of_dispatch(alert).map_or(alert.key().to_owned(), |id| format!("{} {id}", alert.key()))
}

fn alarms_of(plan: &Plan, since: &BTreeMap<String, Timestamp>, now: Timestamp) -> Vec<api::Alarm> {
    let alarm = |alert: &Alert| api::Alarm {
        kind: format!("fleet_{}", alert.key()),
        text: alert.sentence(now),
        since: since.get(&key(alert)).copied().unwrap_or(now),
    };
    plan.alerts.iter().map(alarm).collect()
}

fn shown(fleet: &str, dispatch: &Dispatch, plan: &Plan, now: Timestamp) -> api::FleetDispatch {
    let words = |words: &Option<Arc<str>>| words.as_ref().map(ToString::to_string);
    let id = dispatch.id.to_string();
    let mut alerts = plan.alerts.iter();
    let alert = alerts.find(|alert| of_dispatch(alert) == Some(dispatch.id));
    api::FleetDispatch {
        name: backends::fleet::name(fleet, &id),
        id,
        made_at: dispatch.made_at,
        agents: dispatch.wanted,
        online: dispatch.online,
        pending: dispatch.pending(),
        done: dispatch.done,
        failed: dispatch.failed,
        over: dispatch.over,
        trouble: words(&dispatch.trouble),
        sized_on: words(&dispatch.sized_on),
        alarm: alert.map(|alert| alert.sentence(now)),
        gone_at: None,
    }
}

/// What was there before and is not any more.
fn remember(status: &mut api::Fleet, before: Vec<api::FleetDispatch>, at: Timestamp) {
    for dispatch in before {
        if !status.dispatches.iter().any(|of| of.id == dispatch.id) {
            let gone = api::FleetDispatch { gone_at: Some(at), alarm: None, ..dispatch };
            status.gone.insert(0, gone);
        }
    }
    status.gone.truncate(GONE_MOST);
}
