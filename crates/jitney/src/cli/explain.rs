//! `explain`: one job's story, from its being seen to its machine's end, and why it does not move; or
//! what has become of a fleet's dispatch.

mod dispatch;

use std::fmt::{Display, Write};

use planner::{Bytes, Cpu, JobId, Moment, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::arguments::Explain;
use super::ask::Peer;
use super::times::{date, offset, seconds, time_of_day};
use super::{Answer, Context, Exit, Failure, Screen, configuration, runtime};
use crate::api::{Explained, Job, Waiting};
use crate::journal::Closed;

/// A shorter beginning of an id is a slip.
pub(super) const LEAST_PREFIX: usize = 4;
/// How many jobs are named where several are meant.
const NAMED_MOST: usize = 10;

pub(super) fn explain(asked: &Explain, context: &Context<'_>) -> Result<Answer, Failure> {
    let wanted = match dispatch::in_name(&asked.job) {
        Some(id) => id.to_ascii_lowercase(),
        None => wanted(&asked.job)?,
    };
    let (_, config) = configuration::config(context)?;
    let peer = Peer::of(&config)?;
    let found = runtime()?.block_on(find(&wanted, &peer))?;
    Ok(match found {
        Found::One(explained, now) if asked.json => {
            Answer::json(&json!({ "now": now, "job": *explained }), Exit::Ok)
        }
        Found::One(explained, now) => Answer::ok(text(&explained, now, context.screen)),
        Found::Dispatch(dispatch, now) if asked.json => {
            Answer::json(&json!({ "now": now, "dispatch": *dispatch }), Exit::Ok)
        }
        Found::Dispatch(dispatch, now) => {
            Answer::ok(dispatch::text(&dispatch, now, context.screen))
        }
        Found::Several(_) | Found::None if asked.json => {
            Answer::json(&json!({ "job": Value::Null, "candidates": found.ids() }), Exit::NotGood)
        }
        Found::Several(ids) => Answer { text: several(&wanted, &ids), exit: Exit::NotGood },
        Found::None => Answer { text: unknown(&wanted), exit: Exit::NotGood },
    })
}

/// An id, its beginning, or a link to the job as Buildkite's pages have it (`…#0199a3c0-…`).
pub(super) fn wanted(text: &str) -> Result<String, Failure> {
    let id = text.trim().rsplit(['#', '/']).next().unwrap_or_default().to_ascii_lowercase();
    let is_id = |c: char| c.is_ascii_hexdigit() || c == '-';
    if id.len() >= LEAST_PREFIX && id.chars().all(is_id) {
        return Ok(id);
    }
    let words = format!(
        "{text:?} names no job: give its id (as in BUILDKITE_JOB_ID or at the end of its link), or the first {LEAST_PREFIX} characters of it or more"
    );
    Err(Failure::new(Exit::Refused, words))
}

#[derive(Debug)]
enum Found {
    One(Box<Explained>, Timestamp),
    Dispatch(Box<dispatch::Dispatch>, Timestamp),
    Several(Vec<String>),
    None,
}

impl Found {
    fn ids(&self) -> &[String] {
        match self {
            Self::Several(ids) => ids,
            Self::One(..) | Self::Dispatch(..) | Self::None => &[],
        }
    }
}

async fn find(wanted: &str, peer: &Peer) -> Result<Found, Failure> {
    let status = peer.status().await?;
    let mut dispatches = dispatch::beginning(wanted, &status);
    let id = match Uuid::parse_str(wanted) {
        Ok(id) => match dispatches.pop() {
            Some(dispatch) => return Ok(Found::Dispatch(Box::new(dispatch), status.now)),
            None => JobId(id),
        },
        Err(_) => {
            let history = peer.history().await?;
            let here = status.jobs.iter().map(|job| job.id);
            let waiting = status.waiting.iter().map(|waiting| waiting.id);
            let closed = history.iter().map(|closed| closed.job);
            let fits = |id: &JobId| id.to_string().starts_with(wanted);
            let mut ids: Vec<JobId> = here.chain(waiting).chain(closed).filter(fits).collect();
            ids.sort();
            ids.dedup();
            match (ids.as_slice(), dispatches.len()) {
                ([], 0) => return Ok(Found::None),
                ([id], 0) => *id,
                ([], 1) => {
                    let found = dispatches.pop().map(Box::new);
                    return Ok(found.map_or(Found::None, |of| Found::Dispatch(of, status.now)));
                }
                (_, _) => {
                    let jobs = ids.iter().map(ToString::to_string);
                    let dispatches = dispatches.iter().map(|dispatch| dispatch.id().to_owned());
                    return Ok(Found::Several(jobs.chain(dispatches).collect()));
                }
            }
        }
    };
    let explained = peer.job(id.0).await?;
    Ok(explained.map_or(Found::None, |explained| Found::One(Box::new(explained), status.now)))
}

/// Some of the jobs that are meant.
pub(super) fn several(wanted: &str, ids: &[impl Display]) -> String {
    let mut text = format!("Several have an id that begins with {wanted}:\n");
    for id in ids.iter().take(NAMED_MOST) {
        line(&mut text, format_args!("  {id}"));
    }
    text
}

fn unknown(wanted: &str) -> String {
    format!(
        "No job {wanted} is in our queues, in our hands or in the history, and no fleet has such a\n\
         dispatch.\n\
         It may be in a queue that this Jitney does not serve (`jitney status` lists them), wait for\n\
         another step of its build, or have ended longer ago than store.keep. Of a fleet's round that\n\
         dispatched nothing, the log alone has the id.\n"
    )
}

fn text(explained: &Explained, now: Timestamp, screen: Screen) -> String {
    match explained {
        Explained::InHand(job) => in_hand(job, now, screen),
        Explained::Waiting(waiting) => of_waiting(waiting, now, screen),
        Explained::Closed(closed) => of_closed(closed, screen),
    }
}

fn in_hand(job: &Job, now: Timestamp, screen: Screen) -> String {
    let mut text = title(job.id, &job.queue, &job.pipeline, job.build, &job.step, screen);
    let since = job
        .phases
        .seen
        .map_or_else(String::new, |at| format!(", {} after it was seen", seconds(now.since(at))));
    line(&mut text, format_args!("Now: {}{since}", screen.strong(job.phase.word())));
    if let Some(waits) = &job.waits {
        let span = job.waits_since.map(|at| format!(" (for {})", seconds(now.since(at))));
        line(&mut text, format_args!("Why: {waits}{}", span.unwrap_or_default()));
    }
    if let Some(machine) = &job.machine {
        let size = job.cpu_millis.zip(job.memory_bytes).map(|(cpu, memory)| {
            format!(" with {} vCPU and {}", Cpu::from_millis(cpu), Bytes::new(memory))
        });
        let backend = job.backend.as_deref().unwrap_or("?");
        let size = size.unwrap_or_default();
        line(
            &mut text,
            format_args!("Machine: {machine} on {backend}{size}, attempt {}", job.attempt),
        );
    }
    if let Some(lost) = job.replaces {
        line(&mut text, format_args!("Runs again: {lost}, which was lost with its machine"));
    }
    if let Some(failure) = &job.last_failure {
        line(&mut text, format_args!("{} {failure}", screen.warn("The last failure:")));
    }
    text.push_str(&story(&job.moments, Some(now), screen));
    text
}

fn of_waiting(waiting: &Waiting, now: Timestamp, screen: Screen) -> String {
    let Waiting { id, queue, pipeline, build, step, .. } = waiting;
    let mut text = title(*id, queue, pipeline, *build, step, screen);
    line(&mut text, format_args!("Now: {}, not taken on yet", screen.strong("waiting")));
    let span = seconds(now.since(waiting.since));
    line(&mut text, format_args!("Why: {} (for {span})", waiting.text));
    if let Some(ahead) = waiting.ahead {
        line(&mut text, format_args!("Jobs before it in the queue: {ahead}"));
    }
    text
}

fn of_closed(closed: &Closed, screen: Screen) -> String {
    let Closed { job, queue, pipeline, build, step, .. } = closed;
    let mut text = title(*job, queue.as_str(), pipeline, *build, step, screen);
    let at = date(closed.closed_at);
    let outcome = screen.strong(&closed.outcome);
    line(&mut text, format_args!("Ended: {outcome}"));
    line(&mut text, format_args!("Done with: {at}, {}", closed.why));
    if let Some(machine) = &closed.machine {
        let backend = closed.backend.as_deref().unwrap_or("?");
        let attempts = closed.attempts;
        line(&mut text, format_args!("Machine: {machine} on {backend}, attempt {attempts}"));
    }
    if let Some(lost) = closed.replaces {
        line(&mut text, format_args!("Ran again: {lost}, which was lost with its machine"));
    }
    if let Some(by) = closed.replaced_by {
        let words = screen.strong(by);
        line(&mut text, format_args!("Run again as: {words}, for it was lost with its machine"));
    }
    let cpu = closed
        .cpu_millis_used
        .map(|millis| format!("{} of CPU time", seconds(std::time::Duration::from_millis(millis))));
    let memory =
        closed.peak_memory_bytes.map(|peak| format!("{} of memory at the most", Bytes::new(peak)));
    let used: Vec<String> = cpu.into_iter().chain(memory).collect();
    if !used.is_empty() {
        line(&mut text, format_args!("Used: {}", used.join(", ")));
    }
    text.push_str(&story(&closed.moments, None, screen));
    text
}

fn title(
    id: JobId,
    queue: &str,
    pipeline: &Option<String>,
    build: Option<u64>,
    step: &Option<String>,
    screen: Screen,
) -> String {
    let mut text = format!("Job {}\n", screen.strong(id));
    let build =
        pipeline.as_ref().zip(build).map(|(pipeline, build)| format!("{pipeline} #{build}"));
    let step = step.as_ref().map(|step| format!("step {step}"));
    let parts = build.into_iter().chain(step).chain([format!("queue {queue}")]);
    line(&mut text, format_args!("Of {}", parts.collect::<Vec<_>>().join(", ")));
    text
}

/// What happened when, how long after the first moment, and how long until the next.
fn story(moments: &[Moment], now: Option<Timestamp>, screen: Screen) -> String {
    let Some(first) = moments.first() else { return String::new() };
    let ends = moments.iter().skip(1).map(|moment| Some(moment.at)).chain([now]);
    let rows = moments.iter().zip(ends).map(|(moment, end)| {
        let lasted = end.map_or("-".to_owned(), |end| seconds(end.since(moment.at)));
        [time_of_day(moment.at), offset(moment.at, first.at), lasted, moment.what.to_string()]
    });
    let table = screen.table(["UTC", "after", "until next", "what"], rows);
    format!("\n{} of {}\n{table}", screen.faint("The story"), date(first.at))
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a String takes everything");
    text.push('\n');
}
