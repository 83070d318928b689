//! What an event adds to a job's story, as `explain` tells it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{
    CreateOutcome, Event, FinishOutcome, LossStep, Moment, Offer, RetryOutcome, Timestamp,
};

/// Beyond so many different texts none is kept to be shared.
const TEXTS_MOST: usize = 256;

/// Texts of moments: thousands of jobs have the same ones, and each is in memory once. It says
/// nothing of the jobs, so two ledgers are the same whatever they share.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts(BTreeSet<Arc<str>>);

impl PartialEq for Texts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Texts {
    pub(super) fn share(&mut self, moment: Moment) -> Moment {
        if let Some(known) = self.0.get(&moment.what) {
            return Moment { at: moment.at, what: Arc::clone(known) };
        }
        if self.0.len() >= TEXTS_MOST {
            self.0.clear();
        }
        self.0.insert(Arc::clone(&moment.what));
        moment
    }
}

impl Event {
    /// The line that the event adds to its job's story; some add none.
    #[must_use]
    pub fn moment(&self) -> Option<Moment> {
        let (at, what) = self.story()?;
        Some(Moment { at, what: what.into() })
    }

    fn story(&self) -> Option<(Timestamp, String)> {
        Some(match self {
            Self::Taken { at, request: Some(request), .. } => {
                let assumed = request.assumed.as_ref().map_or_else(String::new, |why| {
                    format!("; policies that may match it count as if they did: {why}")
                });
                (*at, format!("seen and taken on: it asks for {}{assumed}", request.shape))
            }
            Self::Taken { at, doom: Some(doom), .. } => {
                (*at, format!("seen and taken on, to be failed: {}", doom.sentence()))
            }
            Self::Taken { at, .. } => (*at, "seen and taken on".into()),
            Self::Reserved { sent_at, .. } => (*sent_at, "reserved".into()),
            Self::NotReserved { sent_at, .. } => (*sent_at, "not reserved by Buildkite".into()),
            Self::NotIssued { at, .. } => (*at, "no token issued by Buildkite".into()),
            Self::CreateIntended { attempt, offer, at, .. } => {
                (*at, format!("attempt {attempt}: machine asked for on {}", described(offer)))
            }
            Self::CreateEnded { attempt, outcome, at, .. } => match outcome {
                CreateOutcome::Made | CreateOutcome::Listed => {
                    (*at, format!("attempt {attempt}: machine made"))
                }
                CreateOutcome::NotSent => return None,
                CreateOutcome::Failed(failure) => {
                    (*at, format!("attempt {attempt}: not made: {}", failure.words))
                }
            },
            Self::Connected { attempt, at, .. } => {
                (*at, format!("attempt {attempt}: agent connected"))
            }
            Self::Acquired { at, .. } => (*at, "an agent has the job".into()),
            Self::Released { at, .. } => {
                (*at, "Buildkite took it back from the agent, which never took it up".into())
            }
            Self::JobStopping { at, .. } => (*at, "being stopped".into()),
            Self::JobEnded { state, at, .. } => (*at, format!("ended: {}", state.word())),
            Self::MachineEnded { attempt, end, .. } => {
                let memory =
                    if end.oom_killed { "; something was killed for want of memory" } else { "" };
                (end.at, format!("attempt {attempt}: machine ended: {}{memory}", end.cause))
            }
            Self::AttemptFailed { attempt, failure, at, .. } => {
                (*at, format!("attempt {attempt}: failed: {}", failure.words))
            }
            Self::DeleteIntended { attempt, at, .. } => {
                (*at, format!("attempt {attempt}: machine is being deleted"))
            }
            Self::DeleteEnded { ok: true, .. } | Self::Told { .. } => return None,
            Self::DeleteEnded { attempt, retry_after: Some(_), at, .. } => {
                (*at, format!("attempt {attempt}: the delete waits for its turn"))
            }
            Self::DeleteEnded { attempt, at, .. } => {
                (*at, format!("attempt {attempt}: the delete did not go through"))
            }
            Self::Gone { attempt, at, .. } => (*at, format!("attempt {attempt}: machine is gone")),
            Self::Doomed { doom, at, .. } => (*at, format!("will be failed: {}", doom.sentence())),
            Self::FinishIntended { at, .. } => (*at, "telling Buildkite that it failed".into()),
            Self::FinishEnded { outcome, at, .. } => match outcome {
                FinishOutcome::Taken => (*at, "failed in Buildkite".into()),
                FinishOutcome::TooLate => (*at, "was decided already".into()),
                FinishOutcome::Unknown => return None,
            },
            Self::Loss { loss, at, .. } => (*at, loss.story()?),
            Self::Adopted(adoption) => {
                (adoption.at, format!("attempt {}: machine found and adopted", adoption.attempt))
            }
            Self::Forgotten { at, .. } => (*at, "nothing left to do".into()),
        })
    }
}

impl LossStep {
    fn story(&self) -> Option<String> {
        Some(match self {
            Self::Noticed { attempt } => format!("attempt {attempt}: machine lost under the job"),
            Self::Read { .. } => return None,
            Self::RetryIntended { .. } => "asking Buildkite to retry it".into(),
            Self::RetryEnded { outcome } => match outcome {
                RetryOutcome::Made { .. } => return None,
                RetryOutcome::Refused { words } => format!("Buildkite does not retry it: {words}"),
                RetryOutcome::Unknown => "no answer whether it is retried".into(),
            },
            Self::Replaced { by, .. } => format!("job {by} takes its place"),
            Self::Left { why } => format!("not retried: {why}"),
        })
    }
}

/// `here: 2 vCPU, 4 GiB`, with place and type where the backend has some.
fn described(offer: &Offer) -> String {
    let Offer { backend, place, machine_type, spot, cpu, memory, .. } = offer;
    let mut text = format!("{backend}: {cpu} vCPU, {memory}");
    for part in [machine_type, place].into_iter().filter(|part| !part.is_empty()) {
        text.push_str(", ");
        text.push_str(part);
    }
    if *spot {
        text.push_str(", spot");
    }
    text
}
