//! One build: annotations, its steps with their jobs, artifacts.

use jiff::Timestamp;
use maud::{Markup, html};

use super::annotation;
use super::layout::{Live, badge, button, page as frame};
use super::wording;
use crate::engine::{ArtifactState, Build, Engine, Job, Step, StepKind, StepState};

/// Steps that are drawn: in a larger build, first those that went wrong or are under way.
const MOST_STEPS: usize = 500;
/// Notifications of one job that stand in the open; earlier ones are folded away.
const OPEN: usize = 2;

pub(super) fn page(engine: &Engine, build: &Build, now: Timestamp) -> Markup {
    let title = format!("{} #{}", build.pipeline, build.number);
    let live = if build.state.is_terminal() { Live::No } else { Live::Yes };
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
                span { (build.jobs().count()) " jobs" }
            }
            @for annotation in annotation::sorted(&build.annotations) { (annotation::draw(annotation)) }
            h2 { "Steps" }
            @let drawn = drawn(&build.steps);
            ul.rows.card {
                @for (index, step) in &drawn {
                    (of_step(engine, step, &format!("/builds/{}/unblock/{index}", build.id), now))
                }
            }
            @if drawn.len() < build.steps.len() {
                p.facts { (build.steps.len() - drawn.len()) " more steps are not drawn." }
            }
            (artifacts(engine, build))
        },
    )
}

/// The steps to draw with their indexes, in the order of the build.
fn drawn(steps: &[Step]) -> Vec<(usize, &Step)> {
    let mut drawn: Vec<(usize, &Step)> = steps.iter().enumerate().collect();
    if drawn.len() > MOST_STEPS {
        drawn.sort_by_key(|(index, step)| (weight(step.state), *index));
        drawn.truncate(MOST_STEPS);
        drawn.sort_by_key(|(index, _)| *index);
    }
    drawn
}

/// The smaller, the sooner somebody wants to see it.
fn weight(state: StepState) -> u8 {
    match state {
        StepState::Failed | StepState::SoftFailed | StepState::Blocked => 0,
        StepState::Canceled | StepState::Broken => 1,
        StepState::Started => 2,
        StepState::Waiting | StepState::Passed => 3,
    }
}

fn of_step(engine: &Engine, step: &Step, unblock: &str, now: Timestamp) -> Markup {
    let name = |or: &str| if step.label.is_empty() { or.to_owned() } else { step.label.clone() };
    match &step.kind {
        StepKind::Wait { continue_on_failure } => html! {
            li.divider {
                "wait" @if *continue_on_failure { ", whatever happens" }
                " · " (wording::of_step(step.state).1)
            }
        },
        StepKind::Block { prompt } => html! {
            li {
                div.row {
                    (badge(wording::of_step(step.state)))
                    span.name { (name("Block")) }
                    @if step.state == StepState::Blocked { span.end { (button(unblock, "Unblock")) } }
                }
                @if let Some(prompt) = prompt { div.sub { span { (prompt) } } }
            }
        },
        StepKind::Command(_) => html! {
            @for job in step.jobs.iter().filter_map(|id| engine.job(*id)) {
                li { (of_job(engine, job, now)) }
            }
        },
    }
}

fn of_job(engine: &Engine, job: &Job, now: Timestamp) -> Markup {
    let agent = job.agent.and_then(|id| engine.agent(id));
    let parallel = job.command.parallel.map(|p| format!("{}/{}", p.index + 1, p.total));
    html! {
        div.row {
            (badge(wording::of_job(job)))
            a.name href={ "/jobs/" (job.id) } { (wording::title(job)) }
            @if let Some(parallel) = parallel { span.tag { (parallel) } }
            @if let Some(ending) = wording::ending(job) { span.tag { (ending) } }
            span.end { (timing(job, now)) }
        }
        div.sub {
            @if let Some(agent) = agent { span { "on " (agent.name) } }
            @for rule in &job.rules { span.tag { (rule) } }
            (retry_links(engine, job))
        }
        (told(job))
    }
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
    let link = |id: uuid::Uuid, words: &str| {
        html! {
            span {
                (words) " " a href={ "/jobs/" (id) } {
                    @match engine.job(id) {
                        Some(other) => { (wording::of_job(other).1) },
                        None => { "job" },
                    }
                }
            }
        }
    };
    html! {
        @if let Some(before) = job.retry_of { (link(before, "retry of:")) }
        @if let Some(after) = job.retried_in { (link(after, "retried:")) }
    }
}

/// What a stack has said of the job: its error first, then the latest notifications.
pub(super) fn told(job: &Job) -> Markup {
    let cut = job.notifications.len().saturating_sub(OPEN);
    let (earlier, latest) = job.notifications.split_at(cut);
    let line = |told: &crate::engine::Told| {
        html! { div.said { time { (wording::clock(told.at)) } (told.detail) } }
    };
    html! {
        @if let Some(detail) = &job.detail { div.error { b { "The stack says" } (detail) } }
        @if !earlier.is_empty() {
            details.more id={ "told-" (job.id) } {
                summary { (earlier.len()) " earlier notifications" }
                @for told in earlier { (line(told)) }
            }
        }
        @for told in latest { (line(told)) }
    }
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
