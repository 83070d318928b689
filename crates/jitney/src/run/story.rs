//! One line in the log for each thing that happens to a job: a sentence, and fields beside it.

use planner::{CreateOutcome, Event, Hold, JobId, LossStep, Moment, Reason, Timestamp};

use super::state::State;

impl State {
    /// To be called before the event is recorded.
    pub(super) fn tell(&self, event: &Event) {
        let Some(moment) = event.moment() else { return };
        let job = event.job();
        let entry = self.ledger.entry(job);
        if entry.is_some_and(|entry| is_told(&entry.moments, &moment)) {
            return;
        }
        let Some(queue) = entry.map(|entry| &entry.queue).or_else(|| first_queue(event)) else {
            return;
        };
        let attempt = attempt(event).or_else(|| Some(entry?.current()?.number)).unwrap_or(0);
        let dispatch_id = &*self.seen.dispatch;
        if is_trouble(event) {
            tracing::warn!(%job, %queue, attempt, dispatch_id, "{}", moment.what);
        } else {
            tracing::info!(%job, %queue, attempt, dispatch_id, "{}", moment.what);
        }
    }

    /// A job waits for another reason than before. Waits that are part of every job's way are told
    /// to those only who want to know everything.
    pub(super) fn tell_hold(&self, job: JobId, hold: &Hold, now: Timestamp) {
        let (queue, reason) = (&hold.queue, hold.reason.key());
        if is_usual(&hold.reason) {
            tracing::debug!(%job, %queue, reason, "{}", hold.sentence(now));
        } else {
            tracing::info!(%job, %queue, reason, "{}", hold.sentence(now));
        }
    }
}

/// The same fact comes twice where a listing is faster than the reply to a create: it is one line,
/// as it is one moment of the job's story.
fn is_told(moments: &[Moment], moment: &Moment) -> bool {
    moments.last().is_some_and(|last| last.what == moment.what)
}

/// The queue of a job that the ledger does not hold yet.
fn first_queue(event: &Event) -> Option<&planner::QueueKey> {
    if let Event::Taken { row, .. } = event {
        return Some(&row.queue);
    }
    if let Event::Adopted(adoption) = event {
        return Some(&adoption.queue);
    }
    None
}

fn attempt(event: &Event) -> Option<u32> {
    match event {
        Event::CreateIntended { attempt, .. }
        | Event::CreateEnded { attempt, .. }
        | Event::Connected { attempt, .. }
        | Event::MachineEnded { attempt, .. }
        | Event::AttemptFailed { attempt, .. }
        | Event::DeleteIntended { attempt, .. }
        | Event::DeleteEnded { attempt, .. }
        | Event::Gone { attempt, .. } => Some(*attempt),
        Event::Adopted(adoption) => Some(adoption.attempt),
        Event::Taken { .. }
        | Event::Reserved { .. }
        | Event::NotReserved { .. }
        | Event::NotIssued { .. }
        | Event::Acquired { .. }
        | Event::Released { .. }
        | Event::JobStopping { .. }
        | Event::JobEnded { .. }
        | Event::Doomed { .. }
        | Event::FinishIntended { .. }
        | Event::FinishEnded { .. }
        | Event::Told { .. }
        | Event::Loss { .. }
        | Event::Forgotten { .. } => None,
    }
}

fn is_trouble(event: &Event) -> bool {
    match event {
        Event::AttemptFailed { .. }
        | Event::CreateEnded { outcome: CreateOutcome::Failed(_), .. }
        | Event::DeleteEnded { ok: false, retry_after: None, .. }
        | Event::Doomed { .. }
        | Event::NotIssued { .. }
        | Event::Loss { loss: LossStep::Noticed { .. } | LossStep::Left { .. }, .. } => true,
        Event::Taken { .. }
        | Event::Reserved { .. }
        | Event::NotReserved { .. }
        | Event::CreateIntended { .. }
        | Event::CreateEnded { .. }
        | Event::Connected { .. }
        | Event::Acquired { .. }
        | Event::Released { .. }
        | Event::JobStopping { .. }
        | Event::JobEnded { .. }
        | Event::MachineEnded { .. }
        | Event::DeleteIntended { .. }
        | Event::DeleteEnded { .. }
        | Event::Gone { .. }
        | Event::FinishIntended { .. }
        | Event::FinishEnded { .. }
        | Event::Told { .. }
        | Event::Loss {
            loss:
                LossStep::Read { .. }
                | LossStep::RetryIntended { .. }
                | LossStep::RetryEnded { .. }
                | LossStep::Replaced { .. },
            ..
        }
        | Event::Adopted(_)
        | Event::Forgotten { .. } => false,
    }
}

fn is_usual(reason: &Reason) -> bool {
    match reason {
        Reason::LookingUp { words: None, .. }
        | Reason::Reserving
        | Reason::Creating { .. }
        | Reason::Starting { .. }
        | Reason::AgentConnected { .. }
        | Reason::Removing { .. }
        | Reason::Failing
        | Reason::Foreign { nearest: None, .. } => true,
        Reason::Limit { .. }
        | Reason::CreateRate { .. }
        | Reason::QueuePaused
        | Reason::Draining
        | Reason::JournalFull
        | Reason::BuildkiteUnreachable
        | Reason::BackendUnreachable { .. }
        | Reason::CoolingDown { .. }
        | Reason::BackingOff { .. }
        | Reason::TwoInstallations { .. }
        | Reason::LookingUp { words: Some(_), .. }
        | Reason::LeaseLapsing
        | Reason::Foreign { nearest: Some(_), .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_last_is_not_said_again() {
        let moment =
            |at: u64, what: &str| Moment { at: Timestamp::from_millis(at), what: what.into() };
        let told = [moment(1, "attempt 1: machine made"), moment(2, "attempt 1: agent connected")];
        assert!(is_told(&told[..1], &moment(5, "attempt 1: machine made")));
        assert!(!is_told(&told, &moment(5, "attempt 1: machine made")), "much has happened since");
        assert!(!is_told(&[], &moment(5, "attempt 1: machine made")));
    }
}
