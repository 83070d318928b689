//! Jobs that were lost with their spot machine: what takes their place is not put on spot again,
//! once the core knows whose place it takes. A rule of the pipeline's retries at once, and the
//! answer to our own asking may be lost; then the job's record, some seconds later, is the first to
//! tell.

use planner::{Event, JobId, LossStep, Offer, Spot, Timestamp};

use super::super::invariants::Promise;
use super::super::world::Sim;

/// Where the job was lost whose place another one takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostOn {
    spot: bool,
    /// Since when there is another.
    pub(super) at: Timestamp,
    /// Since when the core knows that.
    known_at: Option<Timestamp>,
}

impl Sim<'_> {
    /// Another job takes the place of a lost one.
    pub(crate) fn takes_its_place(&mut self, before: JobId, by: JobId) {
        let serial = self.buildkite.jobs.get(&before).and_then(|job| job.acquired);
        let machine = serial.and_then(|(serial, _)| self.machine(serial));
        let spot = machine.is_some_and(|machine| machine.offer.spot);
        if let Some(day) = &mut self.day {
            day.lost_on.insert(by, LostOn { spot, at: self.now, known_at: None });
        }
    }

    /// Before an event gets into the ledger.
    pub(crate) fn check_spot_again(&mut self, event: &Event) {
        let Some(day) = &mut self.day else { return };
        if let Event::Loss { loss: LossStep::Replaced { by, .. }, .. } = event {
            if let Some(lost_on) = day.lost_on.get_mut(by) {
                lost_on.known_at.get_or_insert(self.now);
            }
        } else if let Event::CreateIntended { job, attempt, offer, .. } = event
            && self.watch.first_asked(*job, *attempt) == Timestamp::ZERO
        {
            self.check_not_on_spot_again(*job, offer);
        }
    }

    /// What this round finds out, it did not know when it chose.
    fn check_not_on_spot_again(&mut self, job: JobId, offer: &Offer) {
        let Some(day) = &mut self.day else { return };
        let request = self.buildkite.jobs.get(&job).and_then(|job| job.request());
        let free = request.is_some_and(|request| request.shape.spot == Spot::Allow);
        let Some(lost_on) = day.lost_on.get(&job).filter(|it| it.spot && free) else { return };
        day.books.retried_off_spot += u64::from(!offer.spot);
        day.books.retried_on_spot += u64::from(offer.spot);
        if offer.spot && lost_on.known_at.is_some_and(|at| at < self.now) {
            let text = "it was lost with its spot machine, and is put on spot again".to_owned();
            self.broke(Promise::Retries, Some(job), text);
        }
    }
}
