//! A day of arrivals, recorded or generated, played into a sandbox: what came of each job and how
//! long it waited. Who dispatches the jobs is not its business.
//!
//! A day is a text with one JSON object a line, as [`Arrival`] describes it.

mod day;
mod generate;
mod replay;
mod summary;

pub use day::{Arrival, BadDay, read, write};
pub use generate::{Recipe, generate};
pub use replay::Replay;
pub use summary::{Odd, QueueSummary, Summary, Waits};
