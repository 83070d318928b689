//! The lives of a process: it starts from its journal, crashes, freezes, loses its journal, finds
//! the disk full, and is one of two. What it does while it lives is told in `shell`.

use std::time::Duration;

use planner::{BuildkiteSeen, Ledger, Observation, Timestamp, WorstCost};

use super::buildkite::NOBODY;
use super::clocks::Skew;
use super::faults::Kind;
use super::shell::Shell;
use super::world::{Happening, Sim, ToShell};

const FROZEN: Duration = Duration::from_secs(600);
const HOUR: u64 = 3_600_000;

impl Sim<'_> {
    pub(crate) fn start_shell(&mut self, index: usize) {
        self.set_clock(index);
        let (now, draining) = (self.clock(index), self.is_draining);
        let born_at = self.now;
        let shell = &mut self.shells[index];
        shell.alive = true;
        shell.born_at = born_at;
        shell.restarting = false;
        shell.life += 1;
        shell.round_at = None;
        shell.ledger = Ledger::default();
        for event in shell.journal.clone() {
            shell.ledger.record(event);
        }
        shell.seen = Observation {
            instance: shell.instance.clone(),
            started_at: now,
            journal_since: shell.begin_journal(now),
            buildkite: BuildkiteSeen { failing_since: Some(now), reachable_since: now },
            draining,
            ..Observation::default()
        };
        // What was under way when the last life ended has an outcome that nobody knows.
        for event in shell.ledger.resume(now) {
            shell.record(event);
        }
        for queue in self.policy.queues.keys() {
            self.shells[index].seen.queues.entry(queue.clone()).or_default();
        }
        let Self { shells, watch, .. } = self;
        watch.notices.start(index, &shells[index].journal);
        self.tell(None, || format!("process {index} starts"));
        let queues: Vec<_> = self.policy.queues.keys().cloned().collect();
        let backends: Vec<_> = self.policy.backends.keys().cloned().collect();
        for queue in queues {
            self.shell_soon(index, 1, ToShell::ListQueue(queue));
        }
        for backend in backends {
            self.shell_soon(index, 1, ToShell::ListBackend(backend));
        }
        self.want_round(index, self.now);
    }

    /// The process reads the host's clock once, when it starts, and goes on from its journal's last
    /// moment where that is later.
    fn set_clock(&mut self, index: usize) {
        if self.shells[index].life > 0 && self.strikes(Kind::ClockSet, 700) {
            self.shells[index].wall = Skew::of(&mut self.dice, HOUR);
        }
        let shell = &mut self.shells[index];
        let shown = shell.wall.shows(self.now).max(shell.written_at);
        shell.clock = Skew::between(self.now, shown);
    }

    /// What the process takes for the time.
    pub(crate) fn clock(&self, index: usize) -> Timestamp {
        self.shells[index].clock.shows(self.now)
    }

    pub(crate) fn crash(&mut self, index: usize) {
        if !self.shells[index].alive || self.faults.is_calm() {
            return;
        }
        self.number(index);
        let lost = self.strikes(Kind::LostJournal, 600);
        let epoch = self.serial();
        let renamed = lost && self.dice.chance(300);
        self.forget(index);
        let shell = &mut self.shells[index];
        shell.alive = false;
        shell.frozen_until = None;
        shell.life += 1;
        shell.in_flight.clear();
        shell.purse.clear();
        shell.holds.clear();
        shell.failures.clear();
        shell.looking.clear();
        shell.looked_at.clear();
        shell.unwritten.clear();
        if lost {
            shell.journal.clear();
            shell.epoch = epoch;
            shell.worst_cost = WorstCost::default();
            shell.written_at = Timestamp::ZERO;
            shell.journal_since = None;
        }
        if renamed {
            shell.instance = format!("again-{epoch}").into();
        }
        let restarting = std::mem::replace(&mut shell.restarting, true);
        self.tell(None, || format!("process {index} crashes; journal lost: {lost}"));
        if !restarting {
            let down = self.dice.millis(100, 4_000);
            self.after(down, Happening::Restart(index));
        }
    }

    /// What a full disk kept out of the journal is as unknown after a crash as if that were lost.
    fn forget(&mut self, index: usize) {
        let epoch = self.shells[index].epoch;
        for job in self.shells[index].known_to_memory_alone() {
            self.buildkite.forgotten_by(epoch, job);
            for machine in self.places.values_mut().flat_map(|place| place.machines.values_mut()) {
                if machine.seen.job == job && machine.epoch == epoch {
                    machine.epoch = NOBODY;
                }
            }
        }
    }

    pub(crate) fn freeze(&mut self, index: usize) {
        self.faults.count(Kind::Frozen);
        self.shells[index].frozen_until = Some(self.now.plus(FROZEN));
        self.tell(None, || format!("process {index} is frozen for {} s", FROZEN.as_secs()));
    }

    pub(crate) fn other_installation(&mut self) {
        self.faults.count(Kind::TwoInstallations);
        let mut shell = Shell::new("second");
        shell.disk_full = self.journal_is_full;
        shell.epoch = self.serial();
        self.shells.push(shell);
        self.start_shell(self.shells.len() - 1);
    }

    pub(crate) fn journal_takes_writes(&mut self, takes: bool) {
        self.journal_is_full = !takes;
        for index in 0..self.shells.len() {
            let shell = &mut self.shells[index];
            shell.disk_full = !takes;
            if takes {
                // That it is full it finds out by itself, when it next writes.
                shell.seen.journal_full = false;
                shell.catch_up();
            }
            if shell.alive {
                self.want_round(index, self.now);
            }
        }
    }

    pub(crate) fn drain(&mut self, draining: bool) {
        self.is_draining = draining;
        for index in 0..self.shells.len() {
            self.shells[index].seen.draining = draining;
            if self.shells[index].alive {
                self.want_round(index, self.now);
            }
        }
    }
}
