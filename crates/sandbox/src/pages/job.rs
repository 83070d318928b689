//! One job: what was said of it, its log, its timeline.

use jiff::Timestamp;
use maud::{Markup, html};

use super::layout::{Live, badge, button, page as frame};
use super::{annotation, build, terminal, wording};
use crate::engine::{Actor, Engine, Event, Job, State};

pub(super) fn page(engine: &Engine, job: &Job, now: Timestamp) -> Markup {
    let title = wording::title(job);
    let live = if job.state.is_terminal() { Live::No } else { Live::Yes };
    frame(
        &title,
        live,
        html! {
            div.head { (badge(wording::of_job(job))) h1 { (title) } div.push { (buttons(job)) } }
            (facts(engine, job, now))
            (build::told(engine, job))
            @for annotation in annotation::sorted(&job.annotations) { (annotation::draw(annotation)) }
            h2 { "Command" }
            pre.command { (job.command.command) }
            h2 { "Log" }
            (terminal::draw(&job.log.text(), live))
            h2 { "Timeline" }
            ol.timeline.card { @for event in &job.events { (line(engine, job, event)) } }
        },
    )
}

fn buttons(job: &Job) -> Markup {
    let again =
        matches!(job.state, State::Finished | State::Canceled | State::TimedOut | State::Expired)
            && job.retried_in.is_none();
    html! {
        @if !job.state.is_terminal() { (button(&format!("/jobs/{}/cancel", job.id), "Cancel job")) }
        @if again { (button(&format!("/jobs/{}/retry", job.id), "Retry")) }
    }
}

fn facts(engine: &Engine, job: &Job, now: Timestamp) -> Markup {
    let build = &engine.builds()[job.build];
    let step = &build.steps[job.step];
    let agent = job.agent.and_then(|id| engine.agent(id));
    html! {
        p.facts {
            a href={ "/builds/" (build.id) } { (build.pipeline) " #" (build.number) }
            @if let Some(group) = step.group { span { "group " (wording::name_of_group(&build.groups[group])) } }
            @if let Some(omitted) = &step.omitted { span { (omitted) } }
            span { "queue " (engine.queues()[job.queue].key) }
            @if let Some(agent) = agent { span { "on " (agent.name) } }
            span { (build::timing(job, now)) }
            @if let Some(ending) = wording::ending(job) { span { (ending) } }
            (build::retry_links(engine, job))
        }
        p.facts {
            @for value in wording::matrix(job) { span.tag { (value) } }
            @for rule in &job.rules { span.tag { (rule) } }
            span.tag { (job.id) }
            @if job.command.priority != 0 { span.tag { "priority " (job.command.priority) } }
        }
    }
}

fn line(engine: &Engine, job: &Job, event: &Event) -> Markup {
    let by = match &event.actor {
        Actor::System => None,
        Actor::User => Some("a person".to_owned()),
        Actor::Stack(key) => Some(format!("stack {key}")),
        Actor::Agent(id) => engine.agent(*id).map(|agent| format!("agent {}", agent.name)),
    };
    html! {
        li {
            time { (wording::clock(event.at)) }
            span.after { "+" (wording::span(job.created_at, event.at)) }
            span.what {
                (wording::of_event(event.kind))
                @if let Some(detail) = &event.detail { ": " (build::with_links(engine, detail)) }
                @if let Some(by) = by { span.by { " · " (by) } }
            }
        }
    }
}
