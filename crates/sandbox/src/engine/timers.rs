//! What happens by the passing of time alone.
//! A timer only says when to look; whether it still applies is decided when it is due.

use std::cmp::Reverse;

use jiff::Timestamp;
use uuid::Uuid;

use super::agents::Connection;
use super::job::{Actor, EventKind, Outcome, State};
use super::{Engine, Hook};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A reservation may have lapsed.
    Reservation(Uuid),
    /// A job may have run for too long.
    Timeout(Uuid),
    /// A job's agent may have ignored a cancel.
    CancelWatchdog(Uuid),
    /// A job may never have started.
    Expiry(Uuid),
    /// An agent may have left its job behind.
    Abandoned(Uuid),
    /// An agent may be lost.
    AgentLost(Uuid),
}

impl Engine {
    pub(super) fn due_at(&mut self, at: Timestamp, due: Due) {
        let sequence = self.next_sequence();
        self.due.push(Reverse((at, sequence, due)));
    }

    /// When `advance` should be called next, at the latest.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Does everything that was due until now, in order.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(Reverse((at, _, due))) = self.due.peek().copied() {
            if at > now {
                return;
            }
            self.due.pop();
            self.fire(due, at, now);
        }
    }

    fn fire(&mut self, due: Due, at: Timestamp, now: Timestamp) {
        match due {
            Due::Reservation(job) => self.lapse(job, now),
            Due::Timeout(job) => self.time_out(job, at, now),
            Due::CancelWatchdog(job) => self.give_up(job, now),
            Due::Expiry(job) => self.expire(job, now),
            Due::Abandoned(job) => self.end_abandoned(job, now),
            Due::AgentLost(agent) => self.lose(agent, now),
        }
    }

    fn lapse(&mut self, job: Uuid, now: Timestamp) {
        let of = self.own_job(job);
        let lapsed = of.reservation.as_ref().is_some_and(|held| held.until <= now);
        if of.state == State::Reserved && lapsed {
            of.reservation = None;
            of.tell(now, EventKind::ReservedExpired, Actor::System);
            self.shift(job, State::Scheduled);
        }
    }

    fn time_out(&mut self, job: Uuid, at: Timestamp, now: Timestamp) {
        let of = self.own_job(job);
        // A job's limit may have been lengthened since this timer was set.
        let limit = of.started_at.zip(of.command.timeout).map(|(start, limit)| start + limit);
        if of.state == State::Running && limit.is_some_and(|limit| limit <= at) {
            self.shift(job, State::TimingOut);
            self.watch_canceling(job, now);
        }
    }

    fn give_up(&mut self, job: Uuid, now: Timestamp) {
        let state = self.own_job(job).state;
        if !matches!(state, State::Canceling | State::TimingOut) {
            return;
        }
        let Some(state) = state.ends_as() else { return };
        let outcome = Outcome { signal_reason: Some("cancel".to_owned()), ..Outcome::lost() };
        self.end(job, state, outcome, Actor::System, now);
    }

    fn expire(&mut self, job: Uuid, now: Timestamp) {
        let state = self.own_job(job).state;
        if matches!(state, State::Limited | State::Scheduled | State::Reserved) {
            self.end(job, State::Expired, Outcome::default(), Actor::System, now);
        }
    }

    /// The job's agent said goodbye and nothing of the job: it will never be finished otherwise.
    fn end_abandoned(&mut self, job: Uuid, now: Timestamp) {
        let of = self.own_job(job);
        let Some(state) = of.state.ends_as() else { return };
        if of.state == State::Accepted {
            of.tell(now, EventKind::AcceptedExpired, Actor::System);
        }
        self.end(job, state, Outcome::lost(), Actor::System, now);
    }

    fn lose(&mut self, id: Uuid, now: Timestamp) {
        let lost_after = self.settings.timing.lost_after;
        let Some(agent) = self.agents.get_mut(&id) else { return };
        match agent.connection {
            Connection::NeverConnected | Connection::Connected => {}
            Connection::Disconnected | Connection::Lost => return,
        }
        let limit = agent.last_seen + lost_after;
        if limit > now {
            return self.due_at(limit, Due::AgentLost(id));
        }
        agent.connection = Connection::Lost;
        let job = agent.job.take();
        self.hooks.push(Hook::AgentLost(id));
        let Some(job) = job else { return };
        let of = self.own_job(job);
        let Some(state) = of.state.ends_as() else { return };
        of.tell(now, EventKind::AgentLost, Actor::System);
        self.end(job, state, Outcome::lost(), Actor::System, now);
    }
}
