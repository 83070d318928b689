//! Agents that are no real ones: `play` goes through an agent's whole life over the wire and only
//! pretends to run the job; `minimal` runs plain commands. Neither is used against anything but a
//! sandbox.
//!
//! A played job says in its environment how it goes: `PLAY_SECONDS` (how long it takes, 0 if not
//! said), `PLAY_EXIT` (its exit status, 0 if not said), `PLAY_LOG` (what it writes).

mod client;
pub mod minimal;
mod play;
mod wire;

pub use client::{CallError, Session, Wire};
pub use play::{Milestone, Orders, Outcome, play};
pub use wire::{Finish, Job, JobNow, Registered};
