//! A deterministic simulation of everything around the core: Buildkite, two backends, the shell
//! that carries plans out, and several dozen kinds of bad luck, all from one seed and on a virtual
//! clock. It proves the promises G1 to G8 after every single thing that happens.
//! It does not test I/O: no thread, no socket and no real clock is involved in a run.

mod audit;
mod backends;
mod buildkite;
mod calls;
pub(crate) mod campaign;
mod clocks;
mod cost;
pub(crate) mod day;
pub(crate) mod dice;
#[cfg(test)]
mod every_step;
mod faults;
mod invariants;
mod keep;
mod key;
mod limits;
mod lives;
mod losses;
mod mask;
pub(crate) mod mutants;
mod notices;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod replays;
mod run;
mod scene;
#[cfg(test)]
mod seeds;
mod shell;
mod shrink;
mod silence;
mod sources;
mod story;
mod taken_back;
mod tally;
mod world;
