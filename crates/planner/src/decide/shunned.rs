//! What is shunned after a loss: places in which machines of the same job came to nothing are tried
//! last, and a job that takes the place of a lost one is not put on an interruptible machine again.

use std::sync::Arc;

use super::Round;
use crate::{Attempt, BackendName, FailureClass, JobId, Offer, Request, Spot};

impl Round<'_> {
    /// The offers in the order in which they are tried after a loss; nothing: there was none, and
    /// the request's own order holds.
    pub(super) fn after_loss_of<'r>(
        &self,
        job: JobId,
        request: &'r Request,
    ) -> Option<Vec<&'r Offer>> {
        let lost_on = self.ledger.retries.lost_on(job);
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
