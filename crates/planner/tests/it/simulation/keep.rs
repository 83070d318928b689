//! What is kept of a seed when it is told in short: some of its kinds of fault, of its jobs and of
//! the strikes of bad luck, an earlier calm, other dice. Written as a text that replays it:
//! `faults=LostAfter+Crash,jobs=3+7,until=12.5,strikes=0-2+9`. What is not named is kept whole.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::faults::{KINDS, Kind};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) faults: Option<BTreeSet<Kind>>,
    /// By the numbers that the scene gives them.
    pub(crate) jobs: Option<BTreeSet<u64>>,
    /// From then on all is calm.
    pub(crate) until: Option<Duration>,
    /// By their order, over all kinds.
    pub(crate) strikes: Option<BTreeSet<u64>>,
    /// Once the scene is set, another throw of the dice; 0: the seed's own.
    pub(crate) throw: u64,
}

impl Keep {
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.faults.as_ref().is_none_or(|faults| faults.contains(&kind))
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(faults) = &self.faults {
            let names: Vec<String> = faults.iter().map(|kind| format!("{kind:?}")).collect();
            parts.push(format!("faults={}", joined(&names)));
        }
        if let Some(jobs) = &self.jobs {
            parts.push(format!("jobs={}", joined(&ranges(jobs))));
        }
        if let Some(until) = self.until {
            parts.push(format!("until={}.{:03}", until.as_secs(), until.subsec_millis()));
        }
        if let Some(strikes) = &self.strikes {
            parts.push(format!("strikes={}", joined(&ranges(strikes))));
        }
        if self.throw > 0 {
            parts.push(format!("throw={}", self.throw));
        }
        f.write_str(&parts.join(","))
    }
}

fn joined(parts: &[String]) -> String {
    if parts.is_empty() { "none".to_owned() } else { parts.join("+") }
}

/// `0-2` for three in a row or more.
fn ranges(numbers: &BTreeSet<u64>) -> Vec<String> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            Some(_) | None => runs.push((*number, *number)),
        }
    }
    let text = |(first, last): (u64, u64)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}+{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.into_iter().map(text).collect()
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut keep = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "faults" => keep.faults = Some(set(value, kind)?),
                "jobs" => keep.jobs = Some(numbers(value)?),
                "until" => keep.until = Some(seconds(value)?),
                "strikes" => keep.strikes = Some(numbers(value)?),
                "throw" => keep.throw = number(value)?,
                _ => {
                    return Err(format!(
                        "`{part}` keeps nothing: write faults=, jobs=, until=, strikes= or throw="
                    ));
                }
            }
        }
        Ok(keep)
    }
}

fn set<T: Ord>(text: &str, one: impl Fn(&str) -> Result<T, String>) -> Result<BTreeSet<T>, String> {
    text.split('+').filter(|part| *part != "none").map(one).collect()
}

fn kind(name: &str) -> Result<Kind, String> {
    KINDS.into_iter().find(|kind| format!("{kind:?}") == name).ok_or_else(|| {
        let all: Vec<String> = KINDS.iter().map(|kind| format!("{kind:?}")).collect();
        format!("no fault is called `{name}`: there are {}", all.join(", "))
    })
}

fn numbers(text: &str) -> Result<BTreeSet<u64>, String> {
    let mut all = BTreeSet::new();
    for part in text.split('+').filter(|part| *part != "none") {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(number(first)?..=number(last)?);
    }
    Ok(all)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number: write 3+7 or 0-5+9"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("`{text}` is no time: write seconds, as until=12.5"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) {
        let keep: Keep = text.parse().unwrap();
        assert_eq!(keep.to_string(), text);
    }

    #[test]
    fn what_is_kept_is_read_as_it_is_written() {
        check("");
        check("faults=LostAfter+Crash");
        check("faults=none");
        check("jobs=3+7,until=12.500");
        check("faults=DiesBefore,jobs=0-2+4+5+9,until=0.001,strikes=none");
        check("faults=Crash,throw=3");
    }

    fn check_wrong(text: &str, problem: &str) {
        let said = text.parse::<Keep>().unwrap_err();
        assert!(said.contains(problem), "{said}");
    }

    #[test]
    fn what_cannot_be_read_says_what_can() {
        check_wrong("fault=Crash", "write faults=");
        check_wrong("faults=Crsh", "no fault is called `Crsh`: there are LostBefore, ");
        check_wrong("jobs=all", "`all` is no number: write 3+7");
        check_wrong("strikes=1-x", "`x` is no number");
        check_wrong("until=-1", "`-1` is no time");
    }
}
