//! G4: what a crash costs at worst is a number, and the truth never costs more: what would be paid
//! from this moment on if nobody ever deleted anything, so that each machine lives to its deadline.
//! Nothing is asked for between two rounds, so the number of the last one holds until the next.

use std::time::Duration;

use planner::{JobId, Ledger, Observation, Policy, Timestamp, WorstCost};

use super::backends::{Machine, Place};
use super::invariants::Promise;
use super::shell::Shell;
use super::world::Sim;

pub(crate) type Reckon = fn(&Ledger, &Observation, &Policy, Timestamp) -> WorstCost;

const MILLIS_PER_HOUR: u128 = 3_600_000;

impl Sim<'_> {
    /// The process says what its crash would cost from now on.
    pub(crate) fn number(&mut self, index: usize) {
        let now = self.clock(index);
        let shell = &mut self.shells[index];
        shell.worst_cost = (self.reckon)(&shell.ledger, &shell.seen, &self.policy, now);
    }

    pub(crate) fn check_cost(&mut self) {
        if self.two_installations() {
            // Under one name both ask for one machine, and each may be told what the other did.
            return;
        }
        let mut wrong = None;
        for shell in &self.shells {
            let said = shell.worst_cost;
            let of_this_journal = |machine: &&Machine| machine.epoch == shell.epoch;
            let machines = self.places.values().flat_map(Place::live).filter(of_this_journal);
            let (mut cost, mut unpriced, mut last) = (0_u128, 0, None::<JobId>);
            for machine in machines {
                let seen = &machine.seen;
                if !self.watch.was_asked(shell.epoch, seen.job, seen.attempt) {
                    // What another installation made meanwhile is not adopted.
                    let adoptable =
                        seen.instance == shell.instance || seen.created_at <= shell.born_at;
                    let known = self.is_settled(shell, machine);
                    unpriced += u32::from(adoptable && known);
                } else if !machine.late {
                    let rest = seen.deadline_at.since(self.now).as_millis();
                    cost += rest * u128::from(machine.cost);
                    last = Some(seen.job);
                }
            }
            if cost > u128::from(said.micros) * MILLIS_PER_HOUR {
                let truth = cost / MILLIS_PER_HOUR;
                wrong = Some((last, format!("{truth} would be paid, and {said:?} was said")));
            }
            if unpriced > said.unpriced {
                let text = format!("{unpriced} machines were adopted, and {said:?} was said");
                wrong = Some((None, text));
            }
        }
        if let Some((job, text)) = wrong {
            self.broke(Promise::G4, job, text);
        }
    }

    /// Whether a round has had a whole listing that was begun well after the machine was first
    /// shown: what was let go of a moment ago is not adopted on an earlier one.
    fn is_settled(&self, shell: &Shell, machine: &Machine) -> bool {
        let lag = self.policy.backends[&machine.backend].listing_lag;
        let listed_at = shell.seen.backends.get(&machine.backend).and_then(|seen| seen.listed_at);
        let settled = machine.known_since.plus(lag).plus(Duration::from_secs(1));
        let listed = listed_at.is_some_and(|at| shell.clock.when(at) >= settled);
        listed && shell.delivered_at < shell.last_round
    }
}
