//! A Buildkite-compatible server for demos, tests and rehearsals: the Stacks and agent APIs,
//! pipelines, faults on demand. It knows nothing of Jitney.

pub mod engine;
pub mod pipeline;
