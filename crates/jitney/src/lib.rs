//! Gives every Buildkite job an agent of its own, on a machine made for it, just in time. The
//! shell around the pure core: sources, executor, journal and web; no decision is made here.

pub mod api;
pub mod assembly;
pub mod cli;
pub mod clock;
pub mod config;
mod demo;
mod doctor;
pub mod event_log;
mod executor;
pub mod fleet;
pub mod host;
pub mod init;
mod input;
pub mod journal;
pub mod log;
mod route;
pub mod run;
pub mod service;
pub mod settings;
mod sources;
mod web;
