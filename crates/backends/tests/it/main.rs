//! The backends from outside: the conformance suite on each, and each one's own bad luck.

mod api;
mod bad_luck;
mod fleet;
mod gce;
mod http;
mod kubernetes;
mod place;
mod process;
mod real;
mod secrets;
