//! The client against a small server of its own, and the contract's JSON against the wire types.
#![expect(
    clippy::unwrap_used,
    reason = "a panic anywhere in the tests' code fails the test, as it should"
)]

mod batches;
mod calls;
mod failures;
mod golden;
mod limits;
mod listing;
mod proxy;
mod rest;
mod rest_golden;
mod secrets;
mod server;
mod surface;
mod tls;
mod token_file;
