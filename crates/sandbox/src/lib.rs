//! A Buildkite-compatible server for demos, tests and rehearsals: the Stacks and agent APIs,
//! pipelines, faults on demand. It knows nothing of Jitney.

mod clock;
pub mod cloud;
pub mod condition;
mod dice;
pub mod engine;
mod faults;
mod http;
mod journal;
mod limiter;
pub mod machines;
mod nearest;
mod pages;
mod pattern;
pub mod pipeline;
pub mod player;
pub mod rehearsal;
mod repository;
mod server;
mod webhook;

pub use faults::{Fault, OutageKind};
pub use journal::Request;
pub use pattern::Pattern;
pub use repository::{Repository, RepositoryError};
pub use server::{Options, Sandbox, StartError};
pub use webhook::Webhook;
