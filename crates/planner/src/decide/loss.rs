//! A job whose machine was lost under it, once Buildkite has ended it: whether it is retried.
//!
//! That the machine was lost is our own knowledge; that the job was lost by it is what Buildkite's
//! record of the job says, which also shows whether another job has taken its place already.
//! A retry is asked for once; where no answer came, the record is read before it is asked for again.

use std::time::Duration;

use super::Round;
use super::machines::CALL_LOST;
use super::tell::{had_agent, was_at_work};
use crate::ledger::doubled;
use crate::{
    Action, Alarm, BuildKey, Entry, Event, JobState, Loss, LossStep, LostOn, NotRetried, Notice,
    Record, RecordedEnd, Retry, RetryOutcome, Timestamp,
};

/// The pipeline's own rules come first: their retry is there a moment after the job's end.
const RULES_TAKE: Duration = Duration::from_secs(2);
const READ_AGAIN: Duration = Duration::from_secs(5);
const RETRY_AGAIN_FIRST: Duration = Duration::from_secs(2);
const RETRY_AGAIN_MOST: Duration = Duration::from_secs(60);
const TRIES_MOST: u32 = 6;
/// After this nobody waits for the job any more.
const GIVE_UP: Duration = Duration::from_secs(3600);

/// What comes next for a lost job.
enum Next {
    /// Its record, asked for then or later.
    Read(Timestamp),
    Retry(BuildKey),
    Wait(Timestamp),
    Settled(LossStep),
}

impl Round<'_> {
    /// The machine of a job that an agent has is no more, and Buildkite, asked after that, still
    /// counts on the agent; or the machine was taken away, where the agent may have had the time to
    /// give its job up. What its own deadline or its job's hunger ended is no loss.
    pub(super) fn notice_loss(&mut self, entry: &Entry) {
        if entry.loss.is_some() || !had_agent(entry) {
            return;
        }
        let Some(attempt) = entry.current() else { return };
        // What its place refused never had an agent, so the job's is on another machine.
        let no_loss =
            |end: &crate::EndSeen| end.oom_killed || end.deadline_reached || end.refused.is_some();
        if attempt.ended.as_deref().is_some_and(no_loss) {
            return;
        }
        let Some(over_at) = attempt.end_seen_at.or(attempt.gone_at) else { return };
        let taken = attempt.ended.as_deref().is_some_and(|end| end.taken);
        let taken = taken && was_at_work(entry, over_at);
        let missed = || self.word(over_at).is_some_and(|(_, answer)| answer.state.may_be_ours());
        if taken || missed() {
            self.lost(entry, LossStep::Noticed { attempt: attempt.number });
        }
    }

    /// Our API token is the operator's to mend.
    pub(super) fn api_denied(&mut self) {
        if let (Some(words), Some(_)) = (&self.seen.rest.denied, self.policy.retry_lost) {
            self.plan.alarms.push(Alarm::ApiDenied { words: words.clone() });
        }
    }

    /// Whether something is still to be done about the loss of a job that has ended.
    pub(super) fn mends(&mut self, entry: &Entry) -> bool {
        let (Some(per_build), Some(loss)) = (self.policy.retry_lost, &entry.loss) else {
            return false;
        };
        let Some((JobState::Finished, ended_at)) = entry.ended else { return false };
        if loss.successor.is_some() || loss.left.is_some() {
            return self.tell_loss(entry, loss);
        }
        if self.seen.journal_full {
            return true;
        }
        match self.after_loss(entry, loss, ended_at, per_build) {
            Next::Settled(step) => self.lost(entry, step),
            Next::Read(at) => {
                if self.due(at.max(self.seen.rest.not_before)) {
                    self.step(Vec::new(), Action::ReadRecord { job: entry.job });
                }
            }
            Next::Wait(at) => self.wake(at),
            Next::Retry(build) => {
                if self.due(self.seen.rest.not_before) {
                    self.retried.push(build.clone());
                    let (job, at) = (entry.job, self.now);
                    let loss = LossStep::RetryIntended { build };
                    self.step(vec![Event::Loss { job, loss, at }], Action::Retry { job });
                }
            }
        }
        true
    }

    fn after_loss(&self, entry: &Entry, loss: &Loss, ended_at: Timestamp, per_build: u32) -> Next {
        let left = |why| Next::Settled(LossStep::Left { why });
        if let Retry::Ended { outcome: RetryOutcome::Made { by }, .. } = &loss.retry {
            return Next::Settled(LossStep::Replaced { by: *by, on: LostOn::of(entry) });
        }
        if let Some(words) = &self.seen.rest.denied {
            return left(NotRetried::Denied { words: words.clone() });
        }
        // Nobody has asked while no Jitney ran.
        if self.now.since(ended_at.max(self.seen.started_at)) >= GIVE_UP {
            return left(NotRetried::NoAnswer);
        }
        let after = match &loss.retry {
            Retry::No => ended_at.plus(RULES_TAKE),
            // No word of it for so long: it is taken for unanswered.
            Retry::Intended { at, .. } if at.plus(CALL_LOST) > self.now => {
                return Next::Wait(at.plus(CALL_LOST));
            }
            Retry::Intended { at, .. } | Retry::Ended { at, .. } => *at,
        };
        let read = loss.record.as_ref().filter(|(_, asked_at)| *asked_at >= after);
        let Some((record, asked_at)) = read else { return Next::Read(after) };
        if let Some(by) = record.successor {
            return Next::Settled(LossStep::Replaced { by, on: LostOn::of(entry) });
        }
        match &record.end {
            RecordedEnd::None => Next::Read(asked_at.plus(READ_AGAIN)),
            RecordedEnd::Other => left(NotRetried::NotLost),
            RecordedEnd::Unseen { words } => left(NotRetried::Refused { words: words.clone() }),
            RecordedEnd::Lost => self.retry(entry, loss, record, per_build),
        }
    }

    /// It was lost, and nothing takes its place.
    fn retry(&self, entry: &Entry, loss: &Loss, record: &Record, per_build: u32) -> Next {
        let left = |why| Next::Settled(LossStep::Left { why });
        if let Retry::Ended { outcome: RetryOutcome::Refused { words }, .. } = &loss.retry {
            return left(NotRetried::Refused { words: words.clone() });
        }
        let Some(build) = record.build.clone().or_else(|| of_row(entry)) else {
            return left(NotRetried::NoBuild);
        };
        let planned = self.retried.iter().filter(|other| **other == build).count();
        let used = self.ledger.retries.of(&build, entry.job).saturating_add(planned);
        if u32::try_from(used).is_ok_and(|used| used < per_build) {
            let tries = loss.retry.tries();
            let (Retry::Intended { at, .. } | Retry::Ended { at, .. }) = loss.retry else {
                return Next::Retry(build);
            };
            let pause = doubled(RETRY_AGAIN_FIRST, tries.saturating_sub(1), RETRY_AGAIN_MOST);
            return match at.plus(pause) {
                _ if tries >= TRIES_MOST => left(NotRetried::NoAnswer),
                due_at if due_at <= self.now => Next::Retry(build),
                due_at => Next::Wait(due_at),
            };
        }
        left(NotRetried::Budget { per_build })
    }

    fn lost(&mut self, entry: &Entry, loss: LossStep) {
        self.fact(Event::Loss { job: entry.job, loss, at: self.now });
    }

    /// Tells what came of it, where that is news to the developer. Whether it is being told now.
    fn tell_loss(&mut self, entry: &Entry, loss: &Loss) -> bool {
        let notice = match (loss.successor, &loss.left) {
            (Some(by), _) => Notice::Replaced { by },
            (None, Some(NotRetried::NotLost) | None) => return false,
            (None, Some(why)) => Notice::NotRetried { why: why.clone() },
        };
        let steps = self.plan.steps.len();
        self.tell(entry.job, &entry.queue, &entry.told, notice);
        self.plan.steps.len() > steps
    }
}

fn of_row(entry: &Entry) -> Option<BuildKey> {
    let row = entry.row.as_ref()?;
    (!row.pipeline.is_empty() && row.build > 0)
        .then(|| BuildKey { pipeline: row.pipeline.clone(), number: row.build })
}
