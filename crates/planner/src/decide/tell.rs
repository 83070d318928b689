//! What developers are told, and how often: each cause once as soon as it is known, a place in the
//! queue now and then, and never so much that nothing is left for the end.

use std::time::Duration;

use super::Round;
use crate::{
    Action, Attempt, CutShort, Entry, Event, Finish, JobId, Notice, QueueKey, Reason, Timestamp,
    Told,
};

/// Buildkite takes 100 notifications for a job; the last three are kept for its end.
const NOTICES_MOST: u32 = 100;
const NOTICES_WAITING: u32 = NOTICES_MOST - 3;
/// How long before its machine's end a job may have ended by being given up.
const GIVEN_UP: Duration = Duration::from_secs(10);

impl Round<'_> {
    /// Tells of a wait, where its reason is one that a developer can understand or act on.
    pub(super) fn tell_hold(
        &mut self,
        job: JobId,
        queue: &QueueKey,
        told: &Told,
        reason: &Reason,
        ahead: Option<u32>,
    ) {
        if worth_telling(reason) {
            let reason = reason.clone();
            self.tell(job, queue, told, Notice::Waiting { reason, ahead });
        }
    }

    /// Tells of policies that count though nobody knows whether they match, before the machine comes.
    pub(super) fn tell_assumed(&mut self, entry: &Entry) {
        let why = entry.request.as_ref().and_then(|request| request.assumed.clone());
        if let (Some(why), None, true) = (why, entry.acquired_at, entry.lease.is_some()) {
            self.tell(entry.job, &entry.queue, &entry.told, Notice::Assumed { why });
        }
    }

    /// Tells of a machine that ended under its job, where the job's own log cannot say why.
    pub(super) fn tell_cut_short(&mut self, entry: &Entry, attempt: &Attempt) {
        let (Some(end), Some(seen_at)) = (&attempt.ended, attempt.end_seen_at) else {
            return self.tell_in_danger(entry, attempt);
        };
        // The next machine is made when no agent can come of this one: only the last had the job.
        let is_last = entry.current().is_some_and(|last| last.number == attempt.number);
        if !had_agent(entry) || !is_last || attempt.failed.is_some() || end.refused.is_some() {
            return;
        }
        // An agent that was told of it in time has given its job up just before.
        let taken = end.taken && was_at_work(entry, seen_at);
        let missed = || self.word(seen_at).is_some_and(|(_, answer)| answer.state.may_be_ours());
        let why = if end.oom_killed {
            CutShort::OutOfMemory { memory: attempt.memory, ran: end.ran.clone() }
        } else if end.deadline_reached {
            CutShort::Deadline
        } else if taken {
            CutShort::Taken { cause: end.cause.clone() }
        } else if missed() {
            CutShort::Lost { cause: end.cause.clone() }
        } else {
            return;
        };
        let notice = Notice::CutShort { attempt: attempt.number, why };
        self.tell(entry.job, &entry.queue, &entry.told, notice);
    }

    /// Tells of a machine that is being taken away, or of which nothing is heard any more, while its
    /// agent has the job.
    fn tell_in_danger(&mut self, entry: &Entry, attempt: &Attempt) {
        let Some(machine) = self.machine_of(attempt) else { return };
        let why = match (&machine.leaving, &machine.silent) {
            (Some(cause), _) => CutShort::Taken { cause: cause.clone() },
            (None, Some(cause)) => CutShort::Silent { cause: cause.clone() },
            (None, None) => return,
        };
        let is_last = entry.current().is_some_and(|last| last.number == attempt.number);
        if entry.acquired_at.is_none() || entry.ended.is_some() || !is_last {
            return;
        }
        let notice = Notice::CutShort { attempt: attempt.number, why };
        self.tell(entry.job, &entry.queue, &entry.told, notice);
    }

    pub(super) fn tell(&mut self, job: JobId, queue: &QueueKey, told: &Told, notice: Notice) {
        if self.seen.buildkite.failing_since.is_some() {
            return;
        }
        let waiting = matches!(notice, Notice::Waiting { .. });
        let most = if waiting { NOTICES_WAITING } else { NOTICES_MOST };
        if told.count >= most || !self.is_new(told, &notice) {
            return;
        }
        let at = self.now;
        let intent = Event::Told { job, notice: notice.clone(), at };
        self.step(vec![intent], Action::Notify { queue: queue.clone(), job, notice, at });
    }

    fn is_new(&mut self, told: &Told, notice: &Notice) -> bool {
        match notice {
            Notice::Made { attempt, .. } => return told.made < *attempt,
            Notice::Retrying { attempt, .. } => return told.retried < *attempt,
            Notice::CutShort { attempt, .. } => return told.cut_short < *attempt,
            Notice::Assumed { .. } => return !told.assumed,
            Notice::Replaced { .. } | Notice::NotRetried { .. } => return !told.loss,
            Notice::Waiting { .. } => {}
        }
        let Some((last, at)) = &told.last else { return true };
        let Notice::Waiting { reason, .. } = notice else { return true };
        if last == notice {
            return false;
        }
        let margins = &self.policy.margins;
        if told.knows(reason) {
            // Only its place changed, or reasons take turns: the longer it waits, the more seldom.
            return self.due(at.plus(margins.tell_again.saturating_mul(1 + told.count / 4)));
        }
        !matches!(last, Notice::Waiting { .. }) || self.due(at.plus(margins.tell_after))
    }
}

/// Whether the job was not over long before its machine's end was seen.
pub(super) fn was_at_work(entry: &Entry, seen_at: Timestamp) -> bool {
    entry.ended.is_none_or(|(_, ended_at)| seen_at.since(ended_at) < GIVEN_UP)
}

/// Whether an agent had the job: Buildkite said so, or said that it ended as only an agent ends it.
pub(super) fn had_agent(entry: &Entry) -> bool {
    let ran = entry.ended.is_some_and(|(state, _)| state.is_done());
    entry.acquired_at.is_some() || (ran && entry.finish == Finish::No)
}

fn worth_telling(reason: &Reason) -> bool {
    match reason {
        Reason::Limit { .. }
        | Reason::QueuePaused
        | Reason::Draining
        | Reason::JournalFull
        | Reason::BackendUnreachable { .. }
        | Reason::CoolingDown { .. }
        | Reason::TwoInstallations { .. }
        | Reason::LookingUp { words: Some(_), .. }
        | Reason::Foreign { nearest: Some(_), .. }
        | Reason::Starting { note: Some(_), .. } => true,
        Reason::CreateRate { .. }
        | Reason::BuildkiteUnreachable
        | Reason::BackingOff { .. }
        | Reason::LookingUp { words: None, .. }
        | Reason::Reserving
        | Reason::Creating { .. }
        | Reason::Starting { note: None, .. }
        | Reason::AgentConnected { .. }
        | Reason::Removing { .. }
        | Reason::LeaseLapsing
        | Reason::Failing
        | Reason::Foreign { nearest: None, .. } => false,
    }
}
