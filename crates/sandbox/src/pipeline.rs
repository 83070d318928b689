//! Buildkite pipelines, from the YAML that people write and from the JSON that agents upload, to
//! typed steps. It is strict: a key or step that the sandbox would not honour is refused with its
//! place and a remedy, never passed over. It runs nothing.
//!
//! # What becomes of `$`
//!
//! People write pipeline files for `buildkite-agent pipeline upload`, which replaces `$NAME` when
//! it uploads and leaves `$NAME` where the file says `$$NAME` or `\$NAME`. The sandbox reads such a
//! file with no upload in between, and knows no environment at that time. So [`from_yaml`] undoes
//! the escapes (`$$` and `\$` become `$`) and leaves every other `$NAME` as it stands: in a command
//! the shell of the job expands it, and anywhere else it stays as text. [`from_json`] changes
//! nothing, because the agent has interpolated already.
//!
//! # What becomes of the rest
//!
//! Steps come out as the engine takes them. The pipeline's `env` is in every command's (whose own
//! variable wins), its `agents` stand in where a step has none. A step with `parallelism` or
//! `matrix` comes out once for each of its jobs. Steps of a group come out side by side and share
//! it. What `if`, `branches` or `skip` may leave out is there, with the condition: only the build
//! that it goes into can tell. `retry.manual` is read and not kept, because whoever can reach a
//! sandbox may retry anything in it.

mod command;
mod error;
mod filter;
mod form;
mod keys;
mod matrix;
mod node;
mod outline;
mod read;
mod rules;
mod steps;

use crate::engine::NewStep;
use steps::Source;

pub use error::Error;
pub use outline::{CommandOutline, command_steps};

/// Reads a pipeline file. Every key that a step depends on must be one of this file's own.
pub fn from_yaml(text: &str) -> Result<Vec<NewStep>, Error> {
    steps::pipeline(&node::from_yaml(text)?, Source::File)
}

/// Reads the `pipeline` of a `pipeline upload`. It may depend on steps that the build has already.
pub fn from_json(value: &serde_json::Value) -> Result<Vec<NewStep>, Error> {
    steps::pipeline(&node::from_json(value), Source::Upload)
}

#[cfg(test)]
mod tests;
