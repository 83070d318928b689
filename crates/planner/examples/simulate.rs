//! Runs many seeds of the simulation and says what they came to, tells the story of one, or shows
//! that planted bugs are caught (`mutants`). Exits with 1 where a promise is broken, with 2 where
//! the words are wrong.

#[path = "../tests/it"]
#[expect(dead_code, reason = "some parts are there for the tests only")]
mod it {
    pub(crate) mod simulation;
}

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use it::simulation::campaign::Campaign;
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
    match Campaign::asked(&words) {
        Ok(campaign) => match campaign.single() {
            Some(seed) => story(&campaign, seed),
            None => seeds(&campaign),
        },
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::from(WRONG_WORDS)
        }
    }
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
