//! Buildkite, as seen from a stack: the wire types and a client that keeps the contract's limits.
//! It knows nothing of Jitney; the sandbox is built from the same wire types.

pub mod wire;
