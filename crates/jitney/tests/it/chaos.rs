//! The program as a process of its own, and what befalls it: kills, outages, wrong clocks, bad
//! files, agents that do not obey. Everything is on loopback. `docs/reliability.md` says which
//! promise each of these tests can break.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agents;
mod cancels;
mod clocks;
mod documented;
mod kills;
mod outages;
mod parts;
mod pods;
mod program;
mod rehearsal;
mod secrets;
mod signals;
mod start;
mod twins;
mod words;
mod world;
