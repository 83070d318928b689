//! Places that took creates and refused the machines. When such a place has cooled down, one machine
//! is made there to try it, and the others wait for what becomes of it.

use std::sync::Arc;

use crate::{BackendName, Ledger, Observation, Offer, Phase, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trial {
    No,
    UnderWay,
    /// A machine of it has come into being.
    Passed,
}

#[derive(Debug)]
struct Suspect<'a> {
    backend: &'a BackendName,
    place: &'a Arc<str>,
    /// From when on it may be tried.
    from: Timestamp,
    trial: Trial,
}

/// The places that are to be tried: few, if any.
#[derive(Debug, Default)]
pub(super) struct Trials<'a>(Vec<Suspect<'a>>);

impl<'a> Trials<'a> {
    pub(super) fn of(ledger: &'a Ledger, seen: &Observation) -> Self {
        let cooling = ledger.cooling.iter().filter(|(_, cooling)| cooling.took_creates);
        let suspects = cooling.map(|((backend, place), cooling)| Suspect {
            backend,
            place,
            from: cooling.until,
            trial: Trial::No,
        });
        let mut trials = Self(suspects.collect());
        if trials.0.is_empty() {
            return trials;
        }
        for entry in ledger.entries.values() {
            for attempt in entry.attempts.iter().filter(|attempt| attempt.holds()) {
                let Some(offer) = &attempt.offer else { continue };
                let Some(suspect) = trials.suspect(offer) else { continue };
                let is_old = attempt.intended_at < suspect.from;
                if is_old || attempt.failed.is_some() || attempt.ended.is_some() {
                    continue;
                }
                let backend = seen.backends.get(&attempt.backend);
                let machine = backend.and_then(|b| b.machines.get(&(entry.job, attempt.number)));
                let came = machine.is_some_and(|machine| machine.phase > Phase::Requested);
                suspect.trial =
                    suspect.trial.max(if came { Trial::Passed } else { Trial::UnderWay });
            }
        }
        trials
    }

    fn suspect(&mut self, offer: &Offer) -> Option<&mut Suspect<'a>> {
        let mut all = self.0.iter_mut();
        all.find(|one| *one.backend == offer.backend && *one.place == offer.place)
    }

    /// Whether somebody else's machine has to tell first.
    pub(super) fn waits(&self, offer: &Offer) -> bool {
        let waits = |one: &Suspect<'_>| one.trial == Trial::UnderWay;
        let mut all = self.0.iter();
        all.any(|one| *one.backend == offer.backend && *one.place == offer.place && waits(one))
    }

    /// A machine is about to be made there.
    pub(super) fn begin(&mut self, offer: &Offer) {
        if let Some(suspect) = self.suspect(offer) {
            suspect.trial = suspect.trial.max(Trial::UnderWay);
        }
    }
}
