//! Gives every Buildkite job an agent of its own, on a machine made for it, just in time. The
//! shell around the pure core: sources, executor, journal and web; no decision is made here.

pub mod cli;
pub mod clock;
pub mod config;
pub mod host;
pub mod init;
pub mod journal;
