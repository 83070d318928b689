//! A deterministic simulation of everything around the core: Buildkite, two backends, the shell
//! that carries plans out, and a few dozen kinds of bad luck, all from one seed and on a virtual
//! clock. It proves the promises G1, G2, G3, G5, G6 and G8 after every single thing that happens.
//! It does not test I/O: no thread, no socket and no real clock is involved.

mod backends;
mod buildkite;
mod calls;
mod dice;
mod faults;
mod invariants;
mod losses;
mod mischief;
mod run;
mod scene;
mod shell;
mod sources;
mod story;
mod world;
