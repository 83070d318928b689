//! What took creates and refused the machines: places, types in them, quotas. When such a one has
//! cooled down, one machine is made there to try it, and the others wait for what becomes of it.

use crate::ledger::Refuser;
use crate::{Attempt, Ledger, Observation, Offer, Phase, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trial {
    No,
    UnderWay,
    /// A machine of it has come into being.
    Passed,
}

#[derive(Debug)]
struct Suspect<'a> {
    refuser: &'a Refuser,
    /// From when on it may be tried.
    from: Timestamp,
    trial: Trial,
}

/// Those that are to be tried: few, if any.
#[derive(Debug, Default)]
pub(super) struct Trials<'a>(Vec<Suspect<'a>>);

impl<'a> Trials<'a> {
    pub(super) fn of(ledger: &'a Ledger, seen: &Observation) -> Self {
        let cooling = ledger.cooling.iter().filter(|(_, cooling)| cooling.took_creates);
        let suspects = cooling.map(|(refuser, cooling)| Suspect {
            refuser,
            from: cooling.until,
            trial: Trial::No,
        });
        let mut trials = Self(suspects.collect());
        let Some(first) = trials.0.iter().map(|one| one.from).min() else { return trials };
        // Thousands of machines were asked for before any of them could be a trial.
        let young = |attempt: &&Attempt| {
            let over = attempt.failed.is_some() || attempt.ended.is_some();
            attempt.intended_at >= first && !over && attempt.holds()
        };
        for entry in ledger.entries.values() {
            for attempt in entry.attempts.iter().filter(young) {
                let Some(offer) = &attempt.offer else { continue };
                let backend = seen.backends.get(&attempt.backend);
                let machine = backend.and_then(|b| b.machines.get(&(entry.job, attempt.number)));
                let came = machine.is_some_and(|machine| machine.phase > Phase::Requested);
                let trial = if came { Trial::Passed } else { Trial::UnderWay };
                for suspect in trials.suspects(offer) {
                    if attempt.intended_at >= suspect.from {
                        suspect.trial = suspect.trial.max(trial);
                    }
                }
            }
        }
        trials
    }

    fn suspects(&mut self, offer: &Offer) -> impl Iterator<Item = &mut Suspect<'a>> {
        self.0.iter_mut().filter(|one| one.refuser.refuses(offer))
    }

    /// Whether somebody else's machine has to tell first.
    pub(super) fn waits(&self, offer: &Offer) -> bool {
        let waits = |one: &Suspect<'_>| one.trial == Trial::UnderWay;
        self.0.iter().any(|one| waits(one) && one.refuser.refuses(offer))
    }

    /// A machine is about to be made there.
    pub(super) fn begin(&mut self, offer: &Offer) {
        for suspect in self.suspects(offer) {
            suspect.trial = suspect.trial.max(Trial::UnderWay);
        }
    }
}
