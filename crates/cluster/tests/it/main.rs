//! The control plane and its nodes, as a test would use them.

mod bad_luck;
mod plane;
mod pods;
mod ways;
