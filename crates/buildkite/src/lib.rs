//! Buildkite, as seen from a stack: the wire types and clients that keep the contract's limits.
//! It knows nothing of Jitney; the sandbox is built from the same wire types.
//!
//! A client waits where the documented rate limits say so, classifies what went wrong
//! ([`Remedy`]) and cuts batches to size. It does not retry, it reads neither the clock of the
//! wall nor the environment, and no secret shows in what it prints.

mod batch;
mod client;
mod cut;
mod error;
mod exchange;
mod limit;
mod limiter;
mod proxies;
pub mod rest;
mod stack;
mod token;
pub mod webhook;
pub mod wire;

pub use batch::{Batch, ChunkFailure};
pub use client::{Client, Options, Probe, QueueCounts, Timeouts, install_crypto_provider};
pub use error::{ConfigError, Error, Remedy};
pub use proxies::Proxies;
pub use rest::RestClient;
pub use stack::{IssuedToken, Listing, Page, Paging, StackClient, Tokens};
pub use token::TokenSource;
