//! What happened, in order, for whoever has to understand a failing seed. A run is silent; only
//! when it fails is it run again with the story on, which costs nothing where all is well.

use std::fmt::Write;

use planner::{JobId, Timestamp};

use super::world::BASE;

#[derive(Debug, Default)]
pub(crate) struct Story {
    on: bool,
    lines: Vec<(Timestamp, Option<JobId>, String)>,
}

impl Story {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, lines: Vec::new() }
    }

    pub(crate) fn tell(
        &mut self,
        at: Timestamp,
        job: Option<JobId>,
        what: impl FnOnce() -> String,
    ) {
        if self.on {
            self.lines.push((at, job, what()));
        }
    }

    /// What concerns this job and what concerns all; everything, where no job is named.
    pub(crate) fn of(&self, job: Option<JobId>) -> String {
        let mut text = String::new();
        for (at, about, what) in &self.lines {
            if job.is_none() || about.is_none() || *about == job {
                let name = about.map_or_else(|| "        ".to_owned(), short);
                let _ = writeln!(text, "{:>10}  {name}  {what}", clock(*at));
            }
        }
        text
    }
}

/// Seconds since the run began.
pub(crate) fn clock(at: Timestamp) -> String {
    let millis = at.millis().saturating_sub(BASE);
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

pub(crate) fn short(job: JobId) -> String {
    job.to_string().chars().take(8).collect()
}
