//! What is done with leaves the world of a day, once its books are closed: jobs that have ended and
//! are in no process's mind, with their machines and all that was noted of them. Lost jobs that were
//! retried on our asking stay, for they count for their build.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use planner::{JobId, JobState, Timestamp};

use super::super::backends::{Fate, Machine, Place};
use super::super::buildkite::Job;
use super::super::world::{BASE, Sim};
use super::Day;
use super::books::{Amount, Wait};

/// The cloud charges a minute at the least, and nothing for what it takes back within it.
const LEAST: Duration = Duration::from_secs(60);

impl Sim<'_> {
    /// Once a second: how much there is, and what those that wait wait for.
    pub(crate) fn watch_the_day(&mut self) {
        let Some(day) = &mut self.day else { return };
        let hour = hour_of(day, self.now);
        let (mut machines, mut cpu_millis, mut memory) = (0, 0, 0);
        for machine in self.places.values().flat_map(Place::live) {
            if !matches!(machine.fate, Fate::Refused(_)) {
                machines += 1;
                cpu_millis += u64::from(machine.seen.cpu.millis());
                memory += machine.seen.memory.get();
            }
        }
        let most = &mut day.books.most;
        most.machines = most.machines.max(machines);
        most.cpu_millis = most.cpu_millis.max(cpu_millis);
        most.memory = most.memory.max(memory);
        let mut waiting = 0;
        for (job, hold) in &self.shells[0].holds {
            if self.buildkite.jobs.get(job).is_some_and(|job| job.state.is_open()) {
                waiting += 1;
                day.books.waits(*job, &hold.reason);
            }
        }
        let hour = day.books.hour(hour);
        hour.machines = hour.machines.max(machines);
        hour.cpu_millis = hour.cpu_millis.max(cpu_millis);
        hour.waiting = hour.waiting.max(waiting);
    }

    pub(super) fn close_books(&mut self) {
        let busy: BTreeSet<JobId> = self
            .places
            .values()
            .flat_map(Place::live)
            .map(|machine| machine.seen.job)
            .chain(self.shells[0].in_flight.iter().map(super::super::key::Key::job))
            .chain(self.shells[0].ledger.entries().map(|entry| entry.job))
            .collect();
        let over = |(id, job): (&JobId, &Job)| {
            (job.state.is_terminal() && !job.fate.asked && !busy.contains(id)).then_some(*id)
        };
        let over: BTreeSet<JobId> = self.buildkite.jobs.iter().filter_map(over).collect();
        self.close(&over);
    }

    /// The last ones too.
    pub(super) fn close_the_day(&mut self) {
        let rest: BTreeSet<JobId> = self.buildkite.jobs.keys().copied().collect();
        self.close(&rest);
    }

    fn close(&mut self, jobs: &BTreeSet<JobId>) {
        let Some(day) = &mut self.day else { return };
        let mut machines: BTreeMap<JobId, Vec<(u64, Machine)>> = BTreeMap::new();
        for place in self.places.values_mut() {
            let leave = place.machines.extract_if(.., |_, it| jobs.contains(&it.seen.job));
            for (serial, machine) in leave {
                machines.entry(machine.seen.job).or_default().push((serial, machine));
            }
        }
        for id in jobs {
            let Some(job) = self.buildkite.jobs.remove(id) else { continue };
            let machines = machines.remove(id).unwrap_or_default();
            close_job(day, *id, &job, &machines, self.now);
        }
        self.watch.let_go(jobs);
    }
}

fn hour_of(day: &Day, at: Timestamp) -> usize {
    let hour = (at.millis() - BASE) * 24 / day.size.millis();
    usize::try_from(hour).unwrap_or(usize::MAX).min(24)
}

fn close_job(day: &mut Day, id: JobId, job: &Job, machines: &[(u64, Machine)], now: Timestamp) {
    // The row of a job that takes the place of another still bears that one's time.
    let successor = day.lost_on.remove(&id);
    let visible = successor.map_or(job.row().scheduled_at, |lost_on| lost_on.at);
    let hour = hour_of(day, visible);
    let books = &mut day.books;
    *books.jobs.entry(end_of(job)).or_default() += 1;
    books.hour(hour).came += 1;
    let causes = books.causes.remove(&id).unwrap_or_default();
    let made = machines.iter().filter(|(_, it)| !matches!(it.fate, Fate::Refused(_))).count();
    let made = u64::try_from(made).unwrap_or(u64::MAX);
    for (serial, machine) in machines {
        close_machine(day, job, *serial, machine, now);
    }
    let books = &mut day.books;
    *books.attempts.entry(made).or_default() += 1;
    if let Some((_, at)) = job.acquired {
        let span = at.since(visible);
        books.waited.add(span);
        books.hour(hour).waited.add(span);
        let mut causes: Vec<_> = causes.into_iter().collect();
        causes.sort_by_key(|(_, seconds)| std::cmp::Reverse(*seconds));
        let shape = job.row().rules.join(" ");
        books.had(Wait { span, shape, machines: made, causes });
    }
}

fn end_of(job: &Job) -> &'static str {
    if job.fate.lost {
        return "lost with their machine";
    }
    match (job.acquired, job.state) {
        (_, JobState::Canceled) => "canceled",
        (Some(_), _) => "done",
        (None, _) if job.failed_by_us => "failed by Jitney",
        (None, state) => state.word(),
    }
}

fn close_machine(day: &mut Day, job: &Job, serial: u64, machine: &Machine, now: Timestamp) {
    let taken_at = day.taken.remove(&serial);
    let books = &mut day.books;
    if matches!(machine.fate, Fate::Refused(_)) {
        books.refused += 1;
        return;
    }
    let seen = &machine.seen;
    let gone = machine.gone_at.unwrap_or(now);
    let ended = seen.ended.as_ref().map_or(gone, |end| end.at.min(gone));
    let amount = |from: Timestamp, to: Timestamp| Amount::of(to.since(from), machine.cost);
    books.machines += 1;
    books.on_spot += u64::from(machine.offer.spot);
    let acquired = job.acquired.filter(|(winner, _)| *winner == serial).map(|(_, at)| at);
    let taken = taken_at.is_some_and(|at| at <= ended);
    if taken {
        books.preempted[usize::from(acquired.is_some())] += 1;
    }
    let life = gone.since(seen.created_at);
    let free = taken && life < LEAST;
    let billed = if free { Duration::ZERO } else { life.max(LEAST) };
    let spent = &mut books.spent;
    spent.all.add(Amount::of(billed, machine.cost));
    let Some(acquired) = acquired else {
        books.never_had += 1;
        spent.failed.add(Amount::of(billed, machine.cost));
        return;
    };
    spent.before.add(amount(seen.created_at, acquired));
    if job.fate.lost {
        spent.lost.add(amount(acquired, ended));
    } else {
        spent.work.add(amount(acquired, ended));
    }
    spent.after.add(amount(ended, gone));
    let offers = job.request().map(|request| &request.offers);
    let plain = offers.into_iter().flatten().filter(|offer| !offer.spot);
    let price = plain.map(|offer| offer.price_micros_per_hour).min();
    if !job.fate.lost {
        books.on_demand += Amount::of(billed, price.unwrap_or(machine.cost)).cost;
    }
}
