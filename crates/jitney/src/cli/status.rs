//! `status`: what the Jitney that runs has in its hands, why jobs wait, and what is wrong.

use std::collections::BTreeMap;
use std::fmt::Write;

use planner::{Bytes, Cpu};

use super::arguments::Status;
use super::ask::Peer;
use super::times::{date, seconds};
use super::{Answer, Context, Exit, Failure, Screen, configuration, runtime};
use crate::api::{JobPhase, Snapshot};
use crate::config::Config;

/// How many reasons to wait are shown for a queue.
const REASONS_MOST: usize = 3;
/// How many of the jobs in hand are shown, the oldest first.
const JOBS_MOST: usize = 15;

pub(super) fn status(asked: &Status, context: &Context<'_>) -> Result<Answer, Failure> {
    let (_, config) = configuration::config(context)?;
    let peer = Peer::of(&config)?;
    let snapshot = runtime()?.block_on(peer.status())?;
    if asked.json {
        return Ok(Answer::json(&snapshot, Exit::Ok));
    }
    Ok(Answer::ok(text(&snapshot, &config, context.screen)))
}

fn text(snapshot: &Snapshot, config: &Config, screen: Screen) -> String {
    let mut text = head(snapshot, config, screen);
    text.push('\n');
    if !snapshot.queues.is_empty() {
        text.push_str(&queues(snapshot, screen));
        text.push('\n');
    }
    if !snapshot.backends.is_empty() {
        text.push_str(&backends(snapshot, screen));
    }
    text.push_str(&fleets(snapshot, screen));
    if snapshot.queues.is_empty() {
        return text;
    }
    text.push_str(&waits(snapshot, screen));
    text.push_str(&jobs(snapshot, screen));
    text
}

fn head(snapshot: &Snapshot, config: &Config, screen: Screen) -> String {
    let Snapshot { version, name, now, .. } = snapshot;
    let up = seconds(now.since(snapshot.started_at));
    let state = match (snapshot.missing.is_empty(), snapshot.draining, snapshot.drained) {
        (_, _, true) => screen.warn("drained: nothing is left, it may be stopped"),
        (_, true, false) => screen.warn("draining: takes nothing new"),
        (true, false, false) => screen.good("ready"),
        (false, false, false) => screen.warn("not ready yet"),
    };
    let mut text = format!("{} {version}, up for {up}: {state}\n", screen.strong(name));
    for missing in &snapshot.missing {
        line(&mut text, format_args!("  {missing}"));
    }
    let endpoint = &config.buildkite.endpoint;
    match snapshot.buildkite_failing_since {
        Some(since) => {
            let bad = screen.bad("Buildkite cannot be reached");
            let ago = seconds(now.since(since));
            line(&mut text, format_args!("{bad} at {endpoint}, for {ago}; what runs goes on"));
        }
        None => line(&mut text, format_args!("Buildkite answers at {endpoint}")),
    }
    if snapshot.journal_full {
        let bad = screen.bad("The journal cannot be written");
        line(&mut text, format_args!("{bad}: make room on its disk; nothing new is taken"));
    }
    for alarm in &snapshot.alarms {
        let ago = seconds(now.since(alarm.since));
        line(&mut text, format_args!("{} {} (for {ago})", screen.bad("Alarm:"), alarm.text));
    }
    let last = snapshot.jobs.iter().filter_map(|job| job.phases.asked).max();
    if let Some(last) = last {
        line(&mut text, format_args!("The last machine was asked for at {}", date(last)));
    }
    text
}

/// Where the jobs of each queue are.
fn queues(snapshot: &Snapshot, screen: Screen) -> String {
    let rows = snapshot.queues.iter().map(|queue| {
        let count = |phases: &[JobPhase]| {
            let of = snapshot.jobs.iter().filter(|job| job.queue == queue.key);
            of.filter(|job| phases.contains(&job.phase)).count().to_string()
        };
        let waiting = queue.scheduled.saturating_sub(queue.foreign);
        let state = match (queue.registered, queue.paused) {
            (false, _) => screen.warn("not registered"),
            (true, true) => screen.warn("paused"),
            (true, false) => screen.good("open"),
        };
        [
            queue.key.clone(),
            state,
            waiting.to_string(),
            count(&[JobPhase::Taken, JobPhase::Reserved, JobPhase::Failing]),
            count(&[JobPhase::Requested, JobPhase::Created, JobPhase::Connected]),
            count(&[JobPhase::Acquired, JobPhase::Stopping]),
            count(&[JobPhase::Ended]),
            queue.foreign.to_string(),
        ]
    });
    let heads = ["queue", "state", "listed", "claimed", "starting", "running", "ending", "foreign"];
    screen.table(heads, rows)
}

fn backends(snapshot: &Snapshot, screen: Screen) -> String {
    let rows = snapshot.backends.iter().map(|backend| {
        let state = match (&backend.failing, backend.listed_at) {
            (Some(words), _) => screen.bad(format!("failing: {words}")),
            (None, None) => screen.warn("not listed yet"),
            (None, Some(_)) => screen.good("ok"),
        };
        [
            backend.name.clone(),
            of(backend.machines, backend.machines_most),
            of(Cpu::from_millis(backend.cpu_millis), backend.cpu_millis_most.map(Cpu::from_millis)),
            of(Bytes::new(backend.memory_bytes), backend.memory_bytes_most.map(Bytes::new)),
            state,
        ]
    });
    screen.table(["backend", "machines", "vCPU", "memory", "state"], rows)
}

/// What each fleet has, and why it does not dispatch.
fn fleets(snapshot: &Snapshot, screen: Screen) -> String {
    if snapshot.fleets.is_empty() {
        return String::new();
    }
    let number = |number: Option<u32>| number.map_or("?".to_owned(), |number| number.to_string());
    let rows = snapshot.fleets.iter().map(|fleet| {
        let pods = fleet.pods_online.zip(fleet.pods_pending);
        let pods = pods.map(|(online, pending)| online.saturating_add(pending));
        [
            fleet.name.clone(),
            fleet.queue.clone(),
            number(fleet.queued),
            number(fleet.running),
            number(fleet.agents_total),
            number(fleet.agents_free),
            format!("{} of {}", number(pods), fleet.agents_most),
            number(fleet.pods_online),
        ]
    });
    let heads = ["fleet", "queue", "queued", "running", "agents", "free", "pods", "online"];
    let mut text = screen.table(heads, rows);
    for fleet in &snapshot.fleets {
        line(&mut text, format_args!("{}: {}", screen.strong(&fleet.name), fleet.text));
        for dispatch in &fleet.dispatches {
            let age = seconds(snapshot.now.since(dispatch.made_at));
            let why = dispatch.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            line(
                &mut text,
                format_args!(
                    "  dispatch {} of {} agents, {age} ago: {} online, {} done, {} failed{why}",
                    dispatch.id, dispatch.agents, dispatch.online, dispatch.done, dispatch.failed
                ),
            );
        }
    }
    text
}

/// `3 of 8`.
fn of(used: impl ToString, most: Option<impl ToString>) -> String {
    let used = used.to_string();
    most.map_or(used.clone(), |most| format!("{used} of {}", most.to_string()))
}

/// The most frequent reasons to wait, per queue, each with one of its sentences.
fn waits(snapshot: &Snapshot, screen: Screen) -> String {
    let mut text = String::new();
    for queue in &snapshot.queues {
        let mut reasons: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        let waiting = snapshot.waiting.iter().filter(|waiting| waiting.queue == queue.key);
        let waiting = waiting.map(|waiting| (waiting.reason.key(), waiting.text.as_str()));
        let in_hand = snapshot.jobs.iter().filter(|job| job.queue == queue.key);
        let held =
            in_hand.filter_map(|job| Some((job.reason.as_ref()?.key(), job.waits.as_deref()?)));
        for (key, sentence) in waiting.chain(held) {
            reasons.entry(key).or_insert((0, sentence)).0 += 1;
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        if reasons.is_empty() {
            continue;
        }
        line(&mut text, format_args!("\nWhy jobs of {} wait:", screen.strong(&queue.key)));
        for (key, (count, sentence)) in reasons.iter().take(REASONS_MOST) {
            line(&mut text, format_args!("  {count:>5}  {key}: {sentence}"));
        }
        if reasons.len() > REASONS_MOST {
            let more = reasons.len() - REASONS_MOST;
            line(&mut text, format_args!("         and {more} more reasons (--json has all)"));
        }
    }
    text
}

fn jobs(snapshot: &Snapshot, screen: Screen) -> String {
    if snapshot.jobs.is_empty() {
        return "\nNo job is in our hands.\n".to_owned();
    }
    let rows = snapshot.jobs.iter().take(JOBS_MOST).map(|job| {
        let build = job.pipeline.as_ref().zip(job.build);
        let build =
            build.map_or("-".to_owned(), |(pipeline, build)| format!("{pipeline} #{build}"));
        let since = job.phases.seen.map_or("-".to_owned(), |at| seconds(snapshot.now.since(at)));
        let on = job.backend.clone().unwrap_or_else(|| "-".to_owned());
        [job.id.to_string(), build, job.phase.word().to_owned(), on, since]
    });
    let mut text = "\n".to_owned();
    text.push_str(&screen.table(["job", "build", "phase", "backend", "for"], rows));
    if snapshot.jobs.len() > JOBS_MOST {
        let more = snapshot.jobs.len() - JOBS_MOST;
        line(&mut text, format_args!("and {more} more (--json has all)"));
    }
    line(&mut text, format_args!("\n`jitney explain JOB` tells the story of one of them."));
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a String takes everything");
    text.push('\n');
}
