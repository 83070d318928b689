//! What the core decides, seen from outside.

mod assess;
mod assess_globs;
mod assess_offers;
mod assess_origin;
mod assess_shapes;
mod assess_units;
mod cost;
mod crowd;
mod decide;
mod event_log;
mod fair_share;
mod fleet;
mod simulation;
mod vms;
mod words;
mod words_doom;
mod words_limit;
mod words_verdict;
