//! One build: annotations, its steps, artifacts.

use jiff::Timestamp;
use maud::{Markup, html};

use super::layout::{Live, badge, button, page as frame};
use super::{annotation, steps, wording};
use crate::engine::{ArtifactState, BlockedState, Build, Engine, Job};

/// Notifications of one job that stand in the open; earlier ones are folded away.
const OPEN: usize = 2;

pub(super) fn page(engine: &Engine, build: &Build, now: Timestamp) -> Markup {
    let title = format!("{} #{}", build.pipeline, build.number);
    let live = if build.state.is_terminal() { Live::No } else { Live::Yes };
    let jobs = build.jobs().count();
    let until = build.finished_at.unwrap_or(now);
    frame(
        &title,
        live,
        html! {
            div.head {
                (badge(wording::of_build(build)))
                h1 { (title) }
                @if !build.state.is_terminal() {
                    div.push { (button(&format!("/builds/{}/cancel", build.id), "Cancel build")) }
                }
            }
            @if !build.message.is_empty() { p.lead { (build.message) } }
            p.facts {
                @if !build.branch.is_empty() { span { "branch " (build.branch) } }
                @if !build.commit.is_empty() { span { "commit " (build.commit) } }
                span { "created " (wording::clock(build.created_at)) }
                span { (wording::span(build.created_at, until)) }
                span { (jobs) @if jobs == 1 { " job" } @else { " jobs" } }
                @match build.blocked_state() {
                    Some(BlockedState::Failed) => { span { "counts as failed" } },
                    Some(BlockedState::Running) => { span { "counts as running" } },
                    Some(BlockedState::Passed) | None => {},
                }
            }
            @for annotation in annotation::sorted(&build.annotations) { (annotation::draw(annotation)) }
            h2 { "Steps" }
            (steps::list(engine, build, now))
            (artifacts(engine, build))
        },
    )
}

/// How long it waited, and how long it ran.
pub(super) fn timing(job: &Job, now: Timestamp) -> String {
    let Some(runnable) = job.runnable_at else { return String::new() };
    match (job.started_at, job.finished_at) {
        (Some(started), end) => format!(
            "waited {}, ran {}",
            wording::span(runnable, started),
            wording::span(started, end.unwrap_or(now))
        ),
        (None, end) => format!("waited {}", wording::span(runnable, end.unwrap_or(now))),
    }
}

pub(super) fn retry_links(engine: &Engine, job: &Job) -> Markup {
    let link = |words: &str, id: uuid::Uuid, which: &str| {
        let state = engine.job(id).map(|other| wording::of_job(other).1);
        html! {
            span {
                (words) " " a href={ "/jobs/" (id) } { (which) }
                @if let Some(state) = state { " (" (state) ")" }
            }
        }
    };
    html! {
        @if let Some(before) = job.retry_of { (link("a retry of", before, "the job before it")) }
        @if let Some(after) = job.retried_in { (link("retried as", after, "another job")) }
    }
}

/// What a stack has said of the job: its error first, then the latest notifications.
pub(super) fn told(engine: &Engine, job: &Job) -> Markup {
    let cut = job.notifications.len().saturating_sub(OPEN);
    let (earlier, latest) = job.notifications.split_at(cut);
    let line = |told: &crate::engine::Told| {
        html! { div.said { time { (wording::clock(told.at)) } (with_links(engine, &told.detail)) } }
    };
    html! {
        @if let Some(detail) = &job.detail { div.error { b { "The stack says" } (with_links(engine, detail)) } }
        @if !earlier.is_empty() {
            details.more id={ "told-" (job.id) } {
                summary { (earlier.len()) " earlier notification" @if earlier.len() > 1 { "s" } }
                @for told in earlier { (line(told)) }
            }
        }
        @for told in latest { (line(told)) }
    }
}

/// The text, in which the ids of jobs lead to them.
pub(super) fn with_links(engine: &Engine, text: &str) -> Markup {
    html! {
        @for word in text.split_inclusive(char::is_whitespace) {
            @match around_a_job(engine, word) {
                Some((before, id, after)) => { (before) a href={ "/jobs/" (id) } { (id) } (after) },
                None => { (word) },
            }
        }
    }
}

/// What stands before the id of a job, the id, and what stands after it.
fn around_a_job<'t>(engine: &Engine, word: &'t str) -> Option<(&'t str, &'t str, &'t str)> {
    let id = word.trim_matches(|c: char| !c.is_ascii_hexdigit());
    engine.job(id.parse().ok()?)?;
    let (before, after) = word.split_once(id)?;
    Some((before, id, after))
}

fn artifacts(engine: &Engine, build: &Build) -> Markup {
    let found: Vec<_> = build.artifacts.iter().filter_map(|id| engine.artifact(*id)).collect();
    html! {
        @if !found.is_empty() {
            h2 { "Artifacts" }
            ul.rows.card {
                @for artifact in found {
                    li {
                        div.row {
                            @if artifact.state == ArtifactState::Finished {
                                a.name href={ "/artifacts/" (artifact.id) } { (artifact.path) }
                            } @else {
                                span.name { (artifact.path) }
                                span { "(not uploaded)" }
                            }
                            span.end { (wording::size(artifact.file_size)) }
                        }
                    }
                }
            }
        }
    }
}
