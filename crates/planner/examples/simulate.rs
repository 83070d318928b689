//! Runs many seeds of the simulation and says what they came to, tells the story of one, shows that
//! planted bugs are caught (`mutants`), or goes through a whole day at full size (`DAY=1`). Exits
//! with 1 where a promise is broken, with 2 where the words are wrong.

#[path = "../tests/it"]
#[expect(dead_code, reason = "some parts are there for the tests only")]
mod it {
    pub(crate) mod simulation;
}

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use it::simulation::campaign::Campaign;
use it::simulation::day::Size;
use it::simulation::mutants;

const BROKEN: u8 = 1;
const WRONG_WORDS: u8 = 2;
/// Between two words on how far it has come.
const PROGRESS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["mutants"] {
        return planted();
    }
    match Size::asked(&words) {
        None => {}
        Some(Ok(size)) => return day(size),
        Some(Err(wrong)) => return wrong_words(&wrong),
    }
    match Campaign::asked(&words) {
        Ok(campaign) => match campaign.single() {
            Some(seed) => story(&campaign, seed),
            None => seeds(&campaign),
        },
        Err(wrong) => wrong_words(&wrong),
    }
}

fn wrong_words(wrong: &str) -> ExitCode {
    eprintln!("{wrong}");
    ExitCode::from(WRONG_WORDS)
}

fn day(size: Size) -> ExitCode {
    let watched = std::io::stderr().is_terminal();
    let begun = Instant::now();
    let came = size.run(|progress| {
        let hours = progress.simulated.as_secs_f64() / 3600.0;
        let (jobs, machines, took) = (progress.jobs, progress.machines, begun.elapsed().as_secs());
        let line = format!("{hours:.1} hours in {took} s: {jobs} jobs, {machines} machines");
        eprint!("{}{line}{}", if watched { "\r" } else { "" }, if watched { "  " } else { "\n" });
    });
    if watched {
        eprintln!();
    }
    print!("{}", came.told);
    if came.broken.is_none() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) }
}

fn planted() -> ExitCode {
    let (table, free) = mutants::table(mutants::all());
    println!("{table}");
    if free == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("{free} planted bugs are not caught: the invariants have a gap");
    ExitCode::from(BROKEN)
}

fn story(campaign: &Campaign, seed: u64) -> ExitCode {
    let (story, good) = campaign.story(seed);
    print!("{story}");
    if good { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) }
}

fn seeds(campaign: &Campaign) -> ExitCode {
    let watched = std::io::stderr().is_terminal();
    let mut told_at = Instant::now();
    let outcome = campaign.run(|tally, took| {
        if watched && told_at.elapsed() >= PROGRESS {
            told_at = Instant::now();
            eprint!("\r{} seeds in {} s", tally.seeds, took.as_secs());
            std::io::stderr().flush().expect("a terminal takes a line");
        }
    });
    if watched {
        eprintln!();
    }
    print!("{}", outcome.tally.told(outcome.took));
    let Some(seed) = outcome.failed else { return ExitCode::SUCCESS };
    println!("\n{}", campaign.shortest(seed));
    ExitCode::from(BROKEN)
}
