//! The server's mind: an organisation, its queues, builds and jobs, as plain values.
//! It reads no clock and speaks no HTTP; every call brings the time with it.

pub mod steps;

pub use steps::{
    Command, Concurrency, Dependency, ExitMatch, NewStep, Parallel, RetryRule, SoftFail, StepKind,
};
