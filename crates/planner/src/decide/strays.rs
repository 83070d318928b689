//! Machines that bear our mark and that the ledger knows nothing of: adopted, never deleted for
//! being unknown. What another installation made while we were running is an alarm instead.

use std::sync::Arc;

use super::Round;
use super::alongside::Alongside;
use crate::{Adoption, Alarm, BackendName, BackendSeen, Entry, Event, MachineSeen, Timestamp};

impl Round<'_> {
    pub(super) fn strays(&mut self) {
        let seen = self.seen;
        for (name, backend) in &seen.backends {
            let Some(listed_at) = backend.listed_at else { continue };
            let mut entries = Alongside::of(&self.ledger.entries);
            // A listing may be behind its time, so what was removed a moment ago is not news.
            let settled = listed_at.minus(self.listing_lag(name));
            for machine in backend.machines.values() {
                let entry = entries.get(&machine.job).map(|entry| &**entry);
                let unknown = self.unknown(name, machine, entry, settled);
                if self.is_strangers(name, backend, machine, entry, unknown) {
                    self.stranger(machine);
                } else if unknown {
                    self.adopt(name, machine);
                }
            }
        }
    }

    /// Whether another installation made the machine while we were running. What we first saw when
    /// we began to look was there before us; its own time of birth is told by another clock, and
    /// serves only where we asked for the very same machine, or let go of its job.
    fn is_strangers(
        &self,
        name: &BackendName,
        backend: &BackendSeen,
        machine: &MachineSeen,
        entry: Option<&Entry>,
        unknown: bool,
    ) -> bool {
        if machine.instance == self.seen.instance {
            return false;
        }
        let known = entry.and_then(|entry| {
            entry.attempts.iter().find(|attempt| attempt.number == machine.attempt)
        });
        match known {
            Some(attempt) if !unknown => {
                attempt.offer.is_some() && machine.created_at > self.seen.started_at
            }
            Some(_) | None => {
                let later = |first: Timestamp| {
                    let settled = first.plus(self.listing_lag(name));
                    backend.listed_at.is_some_and(|at| at > first && at >= settled)
                };
                let young = machine.created_at > self.seen.started_at;
                (unknown || young) && backend.first_listed_at.is_some_and(later)
            }
        }
    }

    fn stranger(&mut self, machine: &MachineSeen) {
        let instance = Arc::clone(&machine.instance);
        self.plan.alarms.push(Alarm::TwoInstallations {
            instance: Arc::clone(&instance),
            machine: machine.name.clone(),
        });
        self.other_installation = Some(instance);
    }

    /// Whether the listing, which knows all that was until `settled`, shows something that the
    /// ledger does not.
    fn unknown(
        &self,
        backend: &BackendName,
        machine: &MachineSeen,
        entry: Option<&Entry>,
        settled: Timestamp,
    ) -> bool {
        let Some(entry) = entry else {
            let left_at = self.ledger.left.get(&machine.job);
            return left_at.is_none_or(|left_at| settled >= *left_at);
        };
        let known = entry.attempts.iter().find(|attempt| attempt.number == machine.attempt);
        match known {
            None => true,
            Some(attempt) => {
                attempt.backend == *backend && attempt.gone_at.is_some_and(|gone| settled >= gone)
            }
        }
    }

    fn adopt(&mut self, backend: &BackendName, machine: &MachineSeen) {
        let at = self.now;
        self.room.found(backend, machine);
        self.adopted.insert(machine.job);
        self.fact(Event::Adopted(Adoption {
            job: machine.job,
            attempt: machine.attempt,
            name: machine.name.clone(),
            backend: backend.clone(),
            queue: machine.queue.clone(),
            dispatch: Arc::clone(&machine.dispatch),
            cpu: machine.cpu,
            memory: machine.memory,
            created_at: machine.created_at,
            at,
        }));
    }
}
