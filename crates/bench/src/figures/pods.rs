//! The figures whose machines are pods of a real control plane, on the same cores as Jitney: K1 to
//! K5.

pub(super) mod at_once;
pub(super) mod calls;
pub(super) mod cancels;
pub(super) mod memory;
pub(super) mod sustained;
