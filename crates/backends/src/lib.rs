//! The places that make machines: one module each behind one small trait, and the conformance
//! suite that all of them pass. A backend translates; it never decides, and it knows nothing of
//! the ledger or of policy.

pub mod conformance;
mod contract;
pub mod fleet;
pub mod gce;
pub mod http;
pub mod kubernetes;
pub mod process;

pub use contract::{
    Backend, Class, Error, Future, Hardware, Labels, Listing, Machine, MachineEnd, Order, Phase,
    Resources, Vm,
};
