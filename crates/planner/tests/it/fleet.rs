//! Fleets: what single rounds decide, by example; and a simulation of queue, cluster and shell with
//! several kinds of bad luck, from one seed and on a virtual clock, whose promises are checked as
//! things happen. No thread, no socket and no real clock is involved in a run.

mod cluster;
mod examples;
mod ledger;
mod mutants;
mod promises;
mod queue;
mod scene;
mod seeds;
mod shell;
mod world;
