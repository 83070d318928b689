//! Takes in what Buildkite's REST API said of lost jobs. It is a way of its own: that it fails says
//! nothing about the calls on which jobs depend.

use buildkite::Remedy;
use planner::{Event, JobId, LossStep, Record, RecordedEnd, RetryOutcome, Timestamp};

use super::state::State;
use crate::input::Refused;

impl State {
    pub(super) fn record_read(
        &mut self,
        job: JobId,
        asked_at: Timestamp,
        found: Result<Record, Refused>,
    ) {
        self.count("read_record", found.is_err());
        let record = match found {
            Ok(record) => {
                self.rest_pauses.reset();
                record
            }
            Err(refused) => match refused.remedy {
                Remedy::Gone | Remedy::Never => {
                    let end = RecordedEnd::Unseen { words: refused.words.into() };
                    Record { end, successor: None, build: None }
                }
                Remedy::Retry | Remedy::Unknown | Remedy::Unauthorized | Remedy::Forbidden => {
                    return self.rest_failed(&refused);
                }
            },
        };
        self.record(Event::Loss { job, loss: LossStep::Read { record }, at: asked_at });
    }

    pub(super) fn retried(&mut self, job: JobId, outcome: RetryOutcome, failed: Option<&Refused>) {
        self.count("retry", failed.is_some());
        match failed.map(|refused| (refused.remedy, refused)) {
            None => self.rest_pauses.reset(),
            // That is said of the job.
            Some((Remedy::Gone | Remedy::Never, _)) => {}
            Some((
                Remedy::Retry | Remedy::Unknown | Remedy::Unauthorized | Remedy::Forbidden,
                refused,
            )) => self.rest_failed(refused),
        }
        let at = self.clock.now();
        self.record(Event::Loss { job, loss: LossStep::RetryEnded { outcome }, at });
    }

    fn rest_failed(&mut self, refused: &Refused) {
        match refused.remedy {
            Remedy::Unauthorized | Remedy::Forbidden => {
                self.seen.rest.denied = Some(refused.words.as_str().into());
            }
            Remedy::Retry | Remedy::Unknown | Remedy::Never | Remedy::Gone => {
                let until = self.clock.now().plus(self.rest_pauses.next(refused.retry_after));
                self.seen.rest.not_before = until.max(self.seen.rest.not_before);
                let error = &refused.words;
                tracing::warn!(error, "a call to Buildkite's REST API failed");
            }
        }
    }
}
