//! What the server does over HTTP, with real agents and with Buildkite's own client where they are
//! the judges.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod agents;
mod builds;
mod calls;
mod faults;
mod golden;
mod parts;
mod replays;
mod stacks;
mod stacks_client;
mod support;
mod webhooks;
