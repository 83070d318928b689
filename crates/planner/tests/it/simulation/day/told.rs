//! What a day came to, as a text.

use std::fmt::{self, Write};
use std::time::Duration;

use super::super::invariants::Broken;
use super::super::tally::listed;
use super::super::world::Sim;
use super::books::{Amount, Books};

const MILLIS_PER_HOUR: u128 = 3_600_000;

impl Sim<'_> {
    /// The summary of a day that took so long in truth.
    pub(super) fn summary(&self, took: Duration, broken: Option<&Broken>) -> String {
        let mut text = String::new();
        self.write_summary(&mut text, took, broken).expect("a text takes all that is written");
        text
    }

    fn write_summary(
        &self,
        text: &mut String,
        took: Duration,
        broken: Option<&Broken>,
    ) -> fmt::Result {
        let Some(day) = &self.day else { return Ok(()) };
        let books = &day.books;
        let seed = day.size.seed;
        let rounds: u64 = self.shells.iter().map(|shell| shell.rounds).sum();
        writeln!(text, "day {seed}       {} hours in {:.1} s", day.size.hours, took.as_secs_f64())?;
        let jobs: u64 = books.jobs.values().sum();
        let ends = books.jobs.iter().map(|(end, count)| format!("{end} {count}"));
        writeln!(text, "jobs        {jobs}: {}", listed(ends))?;
        let attempts = books.attempts.iter().map(|(made, count)| format!("{made}: {count}"));
        writeln!(text, "            a job's machines, and how many jobs: {}", listed(attempts))?;
        write_machines(text, books)?;
        writeln!(text, "rounds      {rounds}, {} actions", self.steps)?;
        writeln!(text, "bad luck    {}", self.bad_luck())?;
        write_money(text, books, self.currency())?;
        write_waits(text, books)?;
        write_hours(text, books)?;
        match broken {
            None => writeln!(text, "promises    all kept"),
            Some(broken) => writeln!(text, "promises    broken: {broken}"),
        }
    }

    fn bad_luck(&self) -> String {
        let struck = self.faults.struck().iter();
        listed(struck.map(|(kind, times)| format!("{kind:?} {times}")))
    }

    fn currency(&self) -> &str {
        let vms = self.policy.backends.values().find_map(|backend| backend.vms.as_ref());
        vms.map_or("", |vms| &vms.tables.prices.currency)
    }
}

fn write_machines(text: &mut String, books: &Books) -> fmt::Result {
    let Books { machines, on_spot, refused, preempted: [before, after], most, .. } = books;
    let taken = before + after;
    writeln!(
        text,
        "machines    {machines}, {on_spot} of them on spot; {taken} preempted ({}), {before} of \
         them before their agent had the job; {} never had one; {refused} creates found no room",
        share(u128::from(taken), u128::from(*machines)),
        books.never_had,
    )?;
    let gib = most.memory >> 30;
    writeln!(
        text,
        "most        {} machines, {} vCPU, {gib} GiB ({}.{} TB)",
        most.machines,
        most.cpu_millis / 1000,
        most.memory / 1_000_000_000_000,
        most.memory / 100_000_000_000 % 10,
    )?;
    let (on, off) = (books.retried_on_spot, books.retried_off_spot);
    writeln!(
        text,
        "lost        on spot, then again: {off} on demand, {on} on spot, before anybody knew"
    )
}

fn write_money(text: &mut String, books: &Books, currency: &str) -> fmt::Result {
    let spent = &books.spent;
    let (cost, plain) = (money(spent.all.cost), money(books.on_demand));
    writeln!(
        text,
        "cost        {cost} {currency}; on demand alone the same work {plain} {currency}"
    )?;
    writeln!(text, "            {} machine hours, of which", hours(spent.all))?;
    let parts = [
        ("work", spent.work),
        ("waste: until the agent had the job", spent.before),
        ("waste: after the job, until it was gone", spent.after),
        ("waste: machines that never had a job", spent.failed),
        ("waste: work on jobs that were lost", spent.lost),
    ];
    for (name, part) in parts {
        let (hours, cost) = (hours(part), money(part.cost));
        let of = share(part.millis, spent.all.millis);
        writeln!(text, "            {name:<40} {hours:>7} h  {of:>6}  {cost:>9} {currency}")?;
    }
    Ok(())
}

fn write_waits(text: &mut String, books: &Books) -> fmt::Result {
    writeln!(text, "visible → agent has it   {}", books.waited.told())?;
    writeln!(text, "the longest waits")?;
    for wait in &books.longest {
        let causes = wait.causes.iter().take(4);
        let causes = causes.map(|(cause, seconds)| format!("{cause} {seconds} s"));
        let (span, made) = (wait.span.as_secs(), wait.machines);
        writeln!(text, "  {span:>5} s  {} machines {made}: {}", wait.shape, listed(causes))?;
    }
    Ok(())
}

fn write_hours(text: &mut String, books: &Books) -> fmt::Result {
    writeln!(text, "hour   jobs  machines   vCPU  waiting  waits")?;
    for (number, hour) in books.hours.iter().enumerate() {
        writeln!(
            text,
            "  {number:>2}  {:>5}  {:>8}  {:>5}  {:>7}  {}",
            hour.came,
            hour.machines,
            hour.cpu_millis / 1000,
            hour.waiting,
            hour.waited.told(),
        )?;
    }
    Ok(())
}

/// `12.3%`
fn share(part: u128, whole: u128) -> String {
    let permille = part * 1000 / whole.max(1);
    format!("{}.{}%", permille / 10, permille % 10)
}

fn hours(amount: Amount) -> u128 {
    amount.millis / MILLIS_PER_HOUR
}

/// Millionths of an hour's price times milliseconds, as whole units and hundredths.
fn money(cost: u128) -> String {
    let hundredths = cost / MILLIS_PER_HOUR / 10_000;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
