//! The words for what a replay found.

use std::fmt::Write;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::differences::{Difference, Differing};
use super::rounds::Looked;
use super::summary::Summary;
use super::{Pass, View};
use crate::cli::times::{date, moment, seconds};
use crate::cli::{Screen, explain};

/// So many differences of one round are shown; `--json` has all of them.
const SHOWN_MOST: usize = 40;
/// A longer piece is cut.
const PIECE_MOST: usize = 1_000;

pub(super) fn json(pass: &Pass) -> Value {
    match pass.view {
        View::Nothing => json!({
            "log": pass.summary,
            "differing": pass.differing,
            "first_difference": pass.first,
        }),
        View::Job(_) if !pass.several().is_empty() => json!({ "candidates": pass.several() }),
        View::Number(_) | View::Dispatch(_) | View::Job(_) => json!({ "rounds": pass.looked }),
    }
}

/// `under`: the configuration that was asked about.
pub(super) fn text(pass: &Pass, under: Option<&str>, screen: Screen) -> String {
    let rounds = pass.summary.rounds;
    match &pass.view {
        View::Nothing => verdict(pass, under, screen) + &summary(&pass.summary, under),
        View::Number(number) if pass.looked.is_empty() => {
            format!("There is no round {number}: the log has {rounds}, counted from 1.\n")
        }
        View::Dispatch(id) if pass.looked.is_empty() => {
            format!("No dispatch of the log's {rounds} rounds begins with {id}.\n")
        }
        View::Job(id) if pass.looked.is_empty() => {
            format!("No job whose id begins with {id} is in the log's {rounds} rounds.\n")
        }
        View::Job(id) if !pass.several().is_empty() => explain::several(id, &pass.several()),
        View::Number(_) | View::Dispatch(_) | View::Job(_) => {
            pass.looked.iter().map(|round| looked(round, rounds, screen)).collect()
        }
    }
}

fn verdict(pass: &Pass, under: Option<&str>, screen: Screen) -> String {
    let rounds = pass.summary.rounds;
    let Some(first) = &pass.first else {
        if rounds == 0 {
            let words = "the log ends before its first round: there is nothing to decide again";
            return format!("{} {words}\n\n", screen.warn("!"));
        }
        let under = under.map(|file| format!(" under {file}")).unwrap_or_default();
        return format!(
            "{} all {rounds} rounds are decided as they were{under}\n\n",
            screen.good("ok")
        );
    };
    let mut text = match under {
        Some(file) => format!(
            "{} under {file} the first {} rounds are decided as they were, and this one is not:\n",
            screen.warn("!"),
            first.round - 1
        ),
        None => format!(
            "{} {} of {rounds} rounds are decided otherwise than they were, this one first:\n",
            screen.bad("!"),
            pass.differing
        ),
    };
    differing(&mut text, first, screen);
    text + "\n"
}

fn differing(text: &mut String, first: &Differing, screen: Screen) {
    let Differing { round, at, dispatch, differences } = first;
    line(text, format_args!("round {round}, {}, dispatch {dispatch}", moment(*at)));
    for Difference { part, recorded, replayed } in differences.iter().take(SHOWN_MOST) {
        for (sign, value) in [("- it was", recorded), ("+ now", replayed)] {
            if let Some(value) = value {
                let sign = screen.strong(format!("{sign:<8}"));
                line(text, format_args!("  {sign} {part} {}", cut(value)));
            }
        }
    }
    if let Some(more) = differences.len().checked_sub(SHOWN_MOST).filter(|more| *more > 0) {
        line(text, format_args!("  and {more} more differences; --json shows them"));
    }
}

fn summary(summary: &Summary, under: Option<&str>) -> String {
    let Summary { programs, name, instances, from, to, rounds, starts, reloads, jobs, .. } =
        summary;
    let mut text = String::new();
    let list = |names: &std::collections::BTreeSet<String>| {
        names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let mut row = |head: &str, words: String| line(&mut text, format_args!("{head:<9} {words}"));
    row("log", format!("of jitney {}, name {name}, instance {}", list(programs), list(instances)));
    if let (Some(from), Some(to)) = (from, to) {
        row("time", format!("{} to {} ({})", date(*from), date(*to), seconds(to.since(*from))));
    }
    let missed = match summary.rounds_missed {
        0 => String::new(),
        missed => format!("; {missed} more are missing, for the disk was too slow"),
    };
    row(
        "rounds",
        format!(
            "{rounds}, in {}, with {}{missed}",
            counted(*starts, "part"),
            counted(*reloads, "reload")
        ),
    );
    row("jobs", jobs.to_string());
    row("events", counts(summary.events.iter().map(|(kind, count)| (kind.as_str(), *count))));
    row("planned", counts(summary.planned.iter().map(|(kind, count)| (*kind, *count))));
    if under.is_none() {
        row("end", end(summary));
    }
    text
}

fn end(summary: &Summary) -> String {
    let lines: Vec<String> = summary.breaks_off.iter().map(ToString::to_string).collect();
    let broken = match lines.as_slice() {
        [] => String::new(),
        lines => format!("; it breaks off in line {}", lines.join(" and in line ")),
    };
    if summary.stopped {
        format!("stopped in good order{broken}")
    } else {
        format!("not stopped in good order: killed, out of disk, or still being written{broken}")
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `ask 4, create 2`; the most frequent first.
fn counts<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut counts: Vec<_> = counts.collect();
    counts.sort_by_key(|(kind, count)| (std::cmp::Reverse(*count), *kind));
    let words: Vec<String> =
        counts.into_iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn looked(round: &Looked, rounds: u64, screen: Screen) -> String {
    let Looked { round, at, dispatch, same, pieces, whole: _ } = round;
    let mut text = format!(
        "{} of {rounds}, {}, dispatch {dispatch}, {}\n",
        screen.strong(format!("round {round}")),
        moment(*at),
        if *same { "decided again as it was" } else { "decided otherwise now" }
    );
    for piece in pieces {
        let (when, what) = (piece.when, piece.what);
        line(&mut text, format_args!("  {when:<8} {what} {}", cut(&piece.value)));
    }
    text
}

fn cut(value: &RawValue) -> String {
    let text = value.get();
    match text.char_indices().nth(PIECE_MOST) {
        Some((at, _)) => format!("{}… (cut; --json has all of it)", &text[..at]),
        None => text.to_owned(),
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a String takes everything");
    text.push('\n');
}
