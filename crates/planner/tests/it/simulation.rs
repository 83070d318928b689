//! A deterministic simulation of everything around the core: Buildkite, two backends, the shell
//! that carries plans out, and several dozen kinds of bad luck, all from one seed and on a virtual
//! clock. It proves the promises G1 to G8 after every single thing that happens.
//! It does not test I/O: no thread, no socket and no real clock is involved.

mod backends;
mod buildkite;
mod calls;
mod clocks;
mod cost;
mod dice;
mod every_step;
mod faults;
mod invariants;
mod limits;
mod lives;
mod mischief;
mod notices;
mod proofs;
mod run;
mod scene;
mod shell;
mod silence;
mod sources;
mod story;
mod world;
