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

mod error;
mod node;
mod outline;
mod read;
mod retry;
mod step;
mod steps;

pub use error::Error;
pub use outline::{CommandOutline, command_steps};
pub use retry::{AutomaticRetry, ExitStatuses, Retry, SignalReason, SoftFail};
pub use step::{BlockStep, CommandStep, Dependency, Pipeline, Step, WaitStep};

/// Reads a pipeline file. Every key that a step depends on must be one of this file's own.
pub fn from_yaml(text: &str) -> Result<Pipeline, Error> {
    let root = node::from_yaml(text)?;
    let pipeline = steps::pipeline(&root)?;
    match pipeline.unknown_dependencies().into_iter().next() {
        Some((step, key)) => Err(Error::new(format!(
            "{step} depends on `{key}`, and no step of this pipeline has that key"
        ))),
        None => Ok(pipeline),
    }
}

/// Reads the `pipeline` of a `pipeline upload`. It may depend on steps that the build has already.
pub fn from_json(value: &serde_json::Value) -> Result<Pipeline, Error> {
    steps::pipeline(&node::from_json(value))
}

#[cfg(test)]
mod tests;
