//! The queues: who waits, who runs, what is paused, and which stacks serve them.

use jiff::Timestamp;
use maud::{Markup, html};

use super::layout::{Live, badge, button, page as frame};
use super::wording::{Tone, span};
use crate::engine::Engine;

pub(super) fn page(engine: &Engine, now: Timestamp) -> Markup {
    frame(
        "Queues",
        Live::Yes,
        html! {
            div.head { h1 { "Queues" } }
            h2 { "Jobs and agents" }
            div.card.scroll {
                table {
                    tr {
                        th { "Queue" } th { "Cluster" } th.number { "Waiting" }
                        th.number { "Scheduled" } th.number { "Running" } th.number { "Agents" }
                        th { "Dispatch" }
                    }
                    @for index in 0..engine.queues().len() { (row(engine, index)) }
                }
            }
            h2 { "Stacks" }
            (stacks(engine, now))
        },
    )
}

fn row(engine: &Engine, index: usize) -> Markup {
    let queue = &engine.queues()[index];
    let (agents, jobs) = engine.queue_metrics(index);
    let (now, then) = if queue.paused { ("paused", "resume") } else { ("open", "pause") };
    let tone = if queue.paused { Tone::Waiting } else { Tone::Good };
    html! {
        tr {
            td { b { (queue.key) } }
            td { (engine.clusters()[queue.cluster].name) }
            td.number { (jobs.waiting) }
            td.number { (jobs.scheduled) }
            td.number { (jobs.running) }
            td.number { (agents.total) }
            td { div.row { (badge((tone, now))) (button(&format!("/queues/{}/{then}", queue.key), then)) } }
        }
    }
}

fn stacks(engine: &Engine, now: Timestamp) -> Markup {
    html! {
        @if engine.stacks().next().is_none() {
            p { "No stack has registered yet." }
        } @else {
            ul.rows.card {
                @for stack in engine.stacks() {
                    li {
                        div.row {
                            span.name { (stack.key) }
                            span.tag { (stack.kind) }
                            span { "queue " (engine.queues()[stack.queue].key) }
                            span.end {
                                @match stack.last_connected_on {
                                    Some(at) => { "last seen " (span(at, now)) " ago" },
                                    None => { "never seen" },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
