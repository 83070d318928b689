//! What runs came to, summed: jobs and their ends, machines, how often which fault struck, and how
//! long jobs waited. Measured on the truth after a run; nothing here decides anything.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use planner::Timestamp;

use super::faults::Kind;
use super::world::{BASE, Sim};

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) seeds: u64,
    simulated: Duration,
    /// By how they ended.
    jobs: BTreeMap<&'static str, u64>,
    machines: u64,
    rounds: u64,
    actions: u64,
    faults: BTreeMap<Kind, Struck>,
    /// From when a job could be seen first.
    made: Waits,
    ran: Waits,
    /// How many jobs had so many machines.
    attempts: BTreeMap<usize, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Struck {
    /// In how many seeds it could.
    seeds: u64,
    times: u64,
}

impl Tally {
    pub(crate) fn of(sim: &Sim<'_>, kinds: &[Kind]) -> Self {
        let mut tally = Self {
            seeds: 1,
            simulated: sim.now.since(Timestamp::from_millis(BASE)),
            rounds: sim.shells.iter().map(|shell| shell.rounds).sum(),
            actions: sim.steps,
            ..Self::default()
        };
        for kind in kinds {
            tally.faults.insert(*kind, Struck { seeds: 1, times: 0 });
        }
        for (kind, times) in sim.faults.struck() {
            tally.faults.entry(*kind).or_default().times += times;
        }
        let mut made: BTreeMap<_, Vec<Timestamp>> = BTreeMap::new();
        for machine in sim.places.values().flat_map(|place| place.machines.values()) {
            tally.machines += 1;
            made.entry(machine.seen.job).or_default().push(machine.seen.created_at);
        }
        for (id, job) in &sim.buildkite.jobs {
            let visible = job.row().scheduled_at;
            let machines = made.get(id).map_or(&[][..], Vec::as_slice);
            if let Some(first) = machines.iter().min() {
                tally.made.add(first.since(visible));
            }
            if let Some((_, at)) = job.acquired {
                tally.ran.add(at.since(visible));
            }
            *tally.attempts.entry(machines.len()).or_default() += 1;
            let end = match job.acquired {
                Some(_) => "an agent had it",
                None if job.is_foreign() => "foreign",
                None if job.failed_by_us => "failed by a stack",
                None => job.state.word(),
            };
            *tally.jobs.entry(end).or_default() += 1;
        }
        tally
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        self.machines += other.machines;
        self.rounds += other.rounds;
        self.actions += other.actions;
        self.made.add_all(&other.made);
        self.ran.add_all(&other.ran);
        for (end, count) in &other.jobs {
            *self.jobs.entry(end).or_default() += count;
        }
        for (kind, struck) in &other.faults {
            let sum = self.faults.entry(*kind).or_default();
            sum.seeds += struck.seeds;
            sum.times += struck.times;
        }
        for (machines, count) in &other.attempts {
            *self.attempts.entry(*machines).or_default() += count;
        }
    }

    /// The summary, of runs that took so long in truth.
    pub(crate) fn told(&self, took: Duration) -> String {
        let mut text = String::new();
        self.write(&mut text, took).expect("a text takes all that is written");
        text
    }

    fn write(&self, text: &mut String, took: Duration) -> fmt::Result {
        let hours = self.simulated.as_secs_f64() / 3600.0;
        let rate = hours / took.as_secs_f64().max(0.001);
        writeln!(text, "seeds       {} in {:.1} s", self.seeds, took.as_secs_f64())?;
        writeln!(text, "simulated   {hours:.1} hours, {rate:.2} hours in a second")?;
        let jobs: u64 = self.jobs.values().sum();
        let ends = self.jobs.iter().map(|(end, count)| format!("{end} {count}"));
        writeln!(text, "jobs        {jobs}: {}", listed(ends))?;
        writeln!(text, "machines    {}", self.machines)?;
        let attempts = self.attempts.iter().map(|(machines, count)| format!("{machines}: {count}"));
        writeln!(text, "            a job's, and how many jobs had so many: {}", listed(attempts))?;
        writeln!(text, "rounds      {}, {} actions", self.rounds, self.actions)?;
        writeln!(text, "visible → machine made   {}", self.made.told())?;
        writeln!(text, "visible → agent has it   {}", self.ran.told())?;
        writeln!(text, "fault                  seeds  strikes")?;
        for (kind, struck) in &self.faults {
            let name = format!("{kind:?}");
            writeln!(text, "  {name:<20} {:>5} {:>8}", struck.seeds, struck.times)?;
        }
        Ok(())
    }
}

pub(crate) fn listed(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// How long something took, to two digits: as many as there may be take little room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(BTreeMap<u128, u64>);

impl Waits {
    pub(crate) fn add(&mut self, wait: Duration) {
        let mut unit = 1;
        while wait.as_millis() / unit >= 100 {
            unit *= 10;
        }
        *self.0.entry(wait.as_millis() / unit * unit).or_default() += 1;
    }

    fn add_all(&mut self, other: &Self) {
        for (wait, count) in &other.0 {
            *self.0.entry(*wait).or_default() += count;
        }
    }

    /// The wait that so many of a thousand do not exceed.
    fn at(&self, per_mille: u64) -> Option<u128> {
        let all: u64 = self.0.values().sum();
        let mut rest = (all * per_mille).div_ceil(1000).max(1);
        for (wait, count) in &self.0 {
            if *count >= rest {
                return Some(*wait);
            }
            rest -= count;
        }
        None
    }

    pub(crate) fn told(&self) -> String {
        let part = |name: &str, per_mille| {
            let millis = self.at(per_mille)?;
            Some(format!("{name} {}.{:02} s", millis / 1000, millis % 1000 / 10))
        };
        let parts = [part("p50", 500), part("p90", 900), part("p99", 990), part("most", 1000)];
        if self.0.is_empty() { "none".to_owned() } else { listed(parts.into_iter().flatten()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_by_their_order_to_two_digits() {
        let mut waits = Waits::default();
        assert_eq!(waits.told(), "none");
        for millis in 1..=1000 {
            waits.add(Duration::from_millis(millis));
        }
        assert_eq!(waits.told(), "p50 0.50 s, p90 0.90 s, p99 0.99 s, most 1.00 s");
        let mut more = Waits::default();
        more.add(Duration::from_millis(987_654));
        waits.add_all(&more);
        assert_eq!(waits.told(), "p50 0.50 s, p90 0.90 s, p99 0.99 s, most 980.00 s");
    }
}
