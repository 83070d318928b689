//! The small program around one agent, on every kind of machine: starts it, stops it *now* when
//! told, enforces the deadline, meters it and writes down how it ended. It knows nothing of who
//! made the machine; its orders and its report are files in the machine's own directory.

pub mod account;
mod agent;
pub mod cgroup;
mod clock;
mod command;
pub mod place;
pub mod pod;
pub mod report;
mod run;
mod signals;
mod tail;
mod tree;
pub mod vm;
mod watch;

pub use command::command;
pub use run::run;
pub use tree::{Remains, Unkillable, kill_remains};
