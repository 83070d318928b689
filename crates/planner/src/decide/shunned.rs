//! What is shunned after a loss: places in which machines of the same job came to nothing are tried
//! last, and a job that takes the place of a lost one is not put on an interruptible machine again.

use std::sync::Arc;

use super::Round;
use crate::{
    Attempt, BackendName, FailureClass, JobId, JobRow, Ledger, LostOn, MachineSeen, Observation,
    Offer, Request, Spot, Timestamp,
};

/// Jobs of which nobody knows what takes their place, and where they were lost, or are about to be.
fn unreplaced<'a>(
    ledger: &'a Ledger,
    seen: &Observation,
    now: Timestamp,
) -> Vec<(&'a JobRow, LostOn)> {
    let mut lost = ledger.unreplaced(now);
    let machines = seen.backends.values().flat_map(|backend| backend.machines.values());
    // Whether its agent had the job may be known a moment later only.
    let goes = |machine: &&Arc<MachineSeen>| {
        machine.leaving.is_some() || machine.ended.as_ref().is_some_and(|end| end.taken)
    };
    for machine in machines.filter(goes) {
        let entry = ledger.entry(machine.job).filter(|entry| entry.loss.is_none());
        let row = entry.and_then(|entry| Some((entry.row.as_deref()?, LostOn::of(entry)?)));
        lost.extend(row);
    }
    lost
}

impl Round<'_> {
    /// The offers in the order in which they are tried after a loss; nothing: there was none, and
    /// the request's own order holds.
    pub(super) fn after_loss_of<'r>(
        &self,
        job: JobId,
        row: Option<&JobRow>,
        request: &'r Request,
    ) -> Option<Vec<&'r Offer>> {
        let known = self.ledger.retries.lost_on(job).cloned();
        let lost_on = known.or_else(|| self.likely_lost_on(row?));
        let lost_on = lost_on.as_ref();
        let attempts = self.ledger.entries.get(&job).map_or(&[][..], |entry| &entry.attempts);
        let mut places: Vec<(&BackendName, &Arc<str>)> =
            attempts.iter().filter_map(came_to_nothing).collect();
        places.extend(lost_on.map(|lost_on| (&lost_on.backend, &lost_on.place)));
        if places.is_empty() {
            return None;
        }
        let mut offers: Vec<&Offer> = request.offers.iter().collect();
        let again =
            lost_on.is_some_and(|lost_on| lost_on.spot) && request.shape.spot == Spot::Allow;
        if again && offers.iter().any(|offer| !offer.spot) {
            offers.retain(|offer| !offer.spot);
        }
        // Stable: otherwise the order stays. A place that is the only one is better than none.
        offers.sort_by_key(|offer| places.contains(&(&offer.backend, &offer.place)));
        Some(offers)
    }

    /// Where a job of the same step was lost just now. A rule of the pipeline's retries it at once,
    /// and the lost job's record names its successor some seconds later only.
    fn likely_lost_on(&self, row: &JobRow) -> Option<LostOn> {
        let retries = |lost: &JobRow| {
            lost.build == row.build
                && lost.scheduled_at < row.scheduled_at
                && (&lost.pipeline, &lost.step, &lost.rules)
                    == (&row.pipeline, &row.step, &row.rules)
        };
        let unreplaced =
            self.unreplaced.get_or_init(|| unreplaced(self.ledger, self.seen, self.now));
        let lost = unreplaced.iter().find(|(lost, _)| retries(lost));
        lost.map(|(_, on)| on.clone())
    }
}

/// The place of a virtual machine that was lost, or never had its job. What a place refused cools
/// down by itself.
fn came_to_nothing(attempt: &Attempt) -> Option<(&BackendName, &Arc<str>)> {
    let offer = attempt.offer.as_ref().filter(|offer| offer.vm.is_some())?;
    match attempt.failed.as_ref()?.failure.class {
        FailureClass::EndedEarly | FailureClass::StartTimeout | FailureClass::Lost => {
            Some((&offer.backend, &offer.place))
        }
        FailureClass::Capacity
        | FailureClass::Quota
        | FailureClass::Rate
        | FailureClass::Ambiguous
        | FailureClass::Rejected
        | FailureClass::Denied => None,
    }
}
