//! Google's cloud on one machine: a Compute Engine that takes and answers what Google's own
//! discovery documents say, machines that are local processes, their metadata servers, and an OAuth
//! token endpoint. It knows nothing of who uses it, and it keeps nothing.
//!
//! `compute` is the mind, `discovery` the contract, `server` and `routes` the shell, `machine` and
//! `metadata` what a machine is made of, `control` what goes wrong on demand.

pub mod compute;
mod control;
mod discovery;
mod filter;
mod keys;
mod machine;
mod metadata;
mod processes;
mod refusal;
mod routes;
mod server;
mod tokens;

pub use machine::{Machines, Processes};
pub use refusal::{Failure, Refusal};
pub use server::{Cloud, Options, StartError};
