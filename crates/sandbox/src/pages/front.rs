//! The list of builds, newest first.

use jiff::Timestamp;
use maud::{Markup, html};

use super::layout::{Live, badge, page as frame};
use super::wording;
use crate::engine::{Build, Engine, StepState};

/// Builds that are shown; older ones are only counted.
const SHOWN: usize = 200;

pub(super) fn page(engine: &Engine, now: Timestamp) -> Markup {
    let builds = engine.builds();
    frame(
        "Builds",
        Live::Yes,
        html! {
            div.head { h1 { "Builds" } }
            p.facts { span { (engine.settings().organization) } span { (engine.settings().base_url) } }
            @if builds.is_empty() {
                p.lead { "No build yet. Start one with " code { "jitney sandbox --run PIPELINE.yml" } "." }
            } @else {
                ul.rows.card {
                    @for build in builds.iter().rev().take(SHOWN) { (row(build, now)) }
                }
                @if builds.len() > SHOWN {
                    p.facts { (builds.len() - SHOWN) " older builds are not shown." }
                }
            }
        },
    )
}

fn row(build: &Build, now: Timestamp) -> Markup {
    let count = |state| build.steps.iter().filter(|step| step.state == state).count();
    let counts = [
        (count(StepState::Failed), "failed"),
        (count(StepState::SoftFailed), "soft failed"),
        (count(StepState::Started), "under way"),
        (count(StepState::Blocked), "blocked"),
        (count(StepState::Waiting), "waiting"),
        (count(StepState::Passed), "passed"),
        (count(StepState::Omitted), "left out"),
    ];
    let until = build.finished_at.unwrap_or(now);
    html! {
        li {
            div.row {
                (badge(wording::of_build(build)))
                a.name href={ "/builds/" (build.id) } { (build.pipeline) " #" (build.number) }
                @if !build.message.is_empty() { span { (build.message) } }
                span.end { (wording::span(build.created_at, until)) }
            }
            div.sub {
                @for (n, what) in counts.into_iter().filter(|(n, _)| *n > 0) { span { (n) " " (what) } }
                @if !build.branch.is_empty() { span { "branch " (build.branch) } }
                span { "created " (wording::clock(build.created_at)) }
            }
        }
    }
}
