//! The control plane and its nodes, as a test would use them.

mod bad_luck;
mod contents;
mod plane;
mod pods;
mod ways;
