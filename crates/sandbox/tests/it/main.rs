//! What the server does over HTTP, with real agents and with Buildkite's own client where they are
//! the judges; and what plays agents and machines beside it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod agent_api;
mod agents;
mod builds;
mod calls;
mod cloud;
mod clusters;
mod conditions;
mod documented;
mod faults;
mod forms;
mod golden;
mod groups;
mod kubernetes;
mod lines;
mod machines;
mod minimal;
mod offers;
mod pages;
mod parts;
mod rehearsal;
mod replays;
mod rest;
mod rest_limits;
mod rest_records;
mod stacks;
mod stacks_client;
mod support;
mod uploads;
mod webhooks;
