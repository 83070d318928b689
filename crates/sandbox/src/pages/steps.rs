//! The steps of a build, as its page lists them: groups with their steps below them, and what is
//! known of each job.

use jiff::Timestamp;
use maud::{Markup, html};

use super::layout::badge;
use super::wording;
use super::{build, form};
use crate::engine::{Build, Engine, Form, Job, Step, StepKind, StepState};

/// Steps that are drawn: in a larger build, first those that went wrong or are under way.
const MOST_STEPS: usize = 500;

pub(super) fn list(engine: &Engine, build: &Build, now: Timestamp) -> Markup {
    let drawn = drawn(&build.steps);
    let opens_group = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| drawn[before].group);
        drawn[at].group.filter(|group| before != Some(*group))
    };
    html! {
        ul.rows.card {
            @for (at, step) in drawn.iter().enumerate() {
                @if let Some(group) = opens_group(at) { (group_row(build, group)) }
                (of_step(engine, build, step, now))
            }
        }
        @if drawn.len() < build.steps.len() {
            p.facts { (build.steps.len() - drawn.len()) " more steps are not drawn." }
        }
    }
}

/// The steps to draw, in the order of the build.
fn drawn(steps: &[Step]) -> Vec<&Step> {
    let mut drawn: Vec<(usize, &Step)> = steps.iter().enumerate().collect();
    if drawn.len() > MOST_STEPS {
        drawn.sort_by_key(|(index, step)| (weight(step.state), *index));
        drawn.truncate(MOST_STEPS);
        drawn.sort_by_key(|(index, _)| *index);
    }
    drawn.into_iter().map(|(_, step)| step).collect()
}

/// The smaller, the sooner somebody wants to see it.
fn weight(state: StepState) -> u8 {
    match state {
        StepState::Failed | StepState::SoftFailed | StepState::Blocked => 0,
        StepState::Canceled | StepState::Broken => 1,
        StepState::Started => 2,
        StepState::Waiting | StepState::Passed => 3,
        StepState::Omitted => 4,
    }
}

fn group_row(build: &Build, group: usize) -> Markup {
    let of = &build.groups[group];
    let steps: Vec<&Step> = build.steps.iter().filter(|step| step.group == Some(group)).collect();
    html! {
        li.group {
            div.row {
                (badge(wording::of_group(steps.iter().map(|step| step.state))))
                span.name { (wording::name_of_group(of)) }
                span.end { (steps.len()) @if steps.len() == 1 { " step" } @else { " steps" } }
            }
        }
    }
}

fn of_step(engine: &Engine, build: &Build, step: &Step, now: Timestamp) -> Markup {
    let inside = step.group.is_some();
    match &step.kind {
        StepKind::Wait { continue_on_failure } => html! {
            li.divider.inside[inside] {
                "wait" @if *continue_on_failure { ", whatever happens" }
                " · " (wording::of_step(step.state).1)
            }
        },
        StepKind::Block(form) => html! {
            li.inside[inside] { (question(build, step, form, "Block")) }
        },
        StepKind::Input(form) => html! {
            li.inside[inside] { (question(build, step, form, "Input")) }
        },
        StepKind::Command(_) => html! {
            @for job in step.jobs.iter().filter_map(|id| engine.job(*id)) {
                li.inside[inside] { (of_job(engine, job, now)) (omission(step)) }
            }
        },
    }
}

/// What a person is asked, with the way to answer while it is open.
fn question(build: &Build, step: &Step, form: &Form, otherwise: &str) -> Markup {
    let to = format!("/builds/{}/unblock/{}", build.id, step.id);
    let open = step.state == StepState::Blocked;
    html! {
        div.row {
            (badge(wording::of_step(step.state)))
            span.name { @if step.label.is_empty() { (otherwise) } @else { (step.label) } }
            @if open && form.fields.is_empty() { span.end { (form::draw(step.id, form, &to)) } }
        }
        @if let Some(prompt) = &form.prompt { div.sub { span { (prompt) } } }
        (omission(step))
        @if open && !form.fields.is_empty() { (form::draw(step.id, form, &to)) }
        @if step.state == StepState::Passed && !form.fields.is_empty() {
            div.sub {
                @for field in &form.fields {
                    @if let Some(value) = build.meta_data.get(&field.key) {
                        span.tag { (field.key) "=" (value) }
                    }
                }
            }
        }
    }
}

fn omission(step: &Step) -> Markup {
    html! {
        @if let Some(omitted) = &step.omitted { div.sub { span { (omitted) } } }
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
            @for value in wording::matrix(job) { span.tag { (value) } }
            @if let Some(ending) = wording::ending(job) { span.tag { (ending) } }
            span.end { (build::timing(job, now)) }
        }
        div.sub {
            @if let Some(agent) = agent { span { "on " (agent.name) } }
            @for rule in &job.rules { span.tag { (rule) } }
            (build::retry_links(engine, job))
        }
        (build::told(engine, job))
    }
}
