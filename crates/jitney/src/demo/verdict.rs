//! Whether the demo went as it should: every job to its end, one machine each, nothing left. And
//! the sentence that sums it up.

use std::collections::BTreeMap;
use std::time::Duration;

use sandbox::engine::{BuildState, State};
use uuid::Uuid;

use super::script::{JobNow, Outcome, Script};
use crate::cli::Screen;
use crate::cli::times::seconds;
use crate::journal::Closed;

/// What the whole pipeline comes to at the least.
const JOBS_LEAST: usize = 24;
/// A job that nothing can serve is red within this after it was seen.
const RED_WITHIN: Duration = Duration::from_secs(2);

/// Everything that is not as it should be, in sentences.
pub(super) fn deviations(script: &Script, outcome: &Outcome, closed: &[Closed]) -> Vec<String> {
    let by_id: BTreeMap<Uuid, &Closed> =
        closed.iter().map(|closed| (closed.job.0, closed)).collect();
    let mut found: Vec<String> =
        outcome.jobs.iter().filter_map(|job| deviation(job, by_id.get(&job.id).copied())).collect();
    // As at Buildkite, a cancelled job fails its build.
    if outcome.build != BuildState::Failed {
        found.push(format!(
            "the build ended {:?}, and not failed by its cancelled job",
            outcome.build
        ));
    }
    if !outcome.jobs.iter().any(|job| job.is_retry) {
        found.push("nothing was tried again".to_owned());
    }
    if script.whole {
        let least = [
            (outcome.jobs.len(), JOBS_LEAST, "jobs"),
            (outcome.artifacts, 1, "artifacts"),
            (outcome.annotations, 1, "annotations"),
            (outcome.meta_data, 1, "values of meta-data"),
        ];
        let short = least.into_iter().filter(|(count, least, _)| count < least);
        found.extend(short.map(|(count, least, what)| {
            format!("there are {count} {what}, and should be {least} or more")
        }));
    }
    found
}

fn deviation(job: &JobNow, closed: Option<&Closed>) -> Option<String> {
    let name = &job.name;
    let Some(closed) = closed else {
        if job.visible_at.is_none() {
            return Some(format!("{name}: never came to run"));
        }
        return Some(format!("{name}: Jitney is not done with it"));
    };
    let (ended, machines) = match job.key.as_deref() {
        Some("impossible") => (refused(job, closed), 0),
        Some("cancelled") => (job.state == State::Canceled, 1),
        Some("flaky") if !job.is_retry => (job.exit_status == Some(1) && job.retried, 1),
        _ => (job.state == State::Finished && job.exit_status == Some(0), 1),
    };
    if !ended {
        let detail = job.detail.as_deref().unwrap_or("no reason given");
        return Some(format!(
            "{name}: ended {} with {:?}, which it should not ({detail}){}",
            job.state.name(),
            job.exit_status,
            job.last_lines
        ));
    }
    if closed.attempts != machines {
        return Some(format!(
            "{name}: {} machines were made for it, not {machines}",
            closed.attempts
        ));
    }
    if machines > 0 && closed.phases.gone.is_none() {
        return Some(format!("{name}: its machine is not known to be gone"));
    }
    None
}

/// Without a machine, with a reason that names what was asked for, and at once.
fn refused(job: &JobNow, closed: &Closed) -> bool {
    let told = job.detail.as_deref().is_some_and(|detail| detail.contains("4096"));
    let span = job.finished_at.zip(closed.phases.seen).map(|(end, seen)| end.since(seen));
    !job.has_agent && told && span.is_some_and(|span| span <= RED_WITHIN)
}

pub(super) fn summary(
    outcome: &Outcome,
    closed: &[Closed],
    deviations: &[String],
    screen: Screen,
) -> String {
    let machines: u32 = closed.iter().map(|closed| closed.attempts).sum();
    let mut spans: Vec<Duration> = closed
        .iter()
        .filter_map(|closed| Some(closed.phases.created?.since(closed.phases.seen?)))
        .collect();
    spans.sort();
    let at = |percent: usize| spans.get((spans.len().saturating_sub(1)) * percent / 100).copied();
    let speed = match (at(50), at(95)) {
        (Some(median), Some(most)) => format!(
            " From seen to created: median {}, 95 % within {}.",
            seconds(median),
            seconds(most)
        ),
        _ => String::new(),
    };
    let mut text = format!("\n{} jobs, {machines} machines made.{speed}", outcome.jobs.len());
    if deviations.is_empty() {
        text.push_str(" All are gone: no process and no directory is left.\n");
        text.push_str(&screen.good("All went as it should"));
        text.push_str(
            " (the build is red, as Buildkite shows one of whose jobs somebody cancelled).\n",
        );
        return text;
    }
    text.push('\n');
    text.push_str(&screen.bad("Not as it should be:"));
    text.push('\n');
    for deviation in deviations {
        text.push_str(&format!("  - {deviation}\n"));
    }
    text
}
