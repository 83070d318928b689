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
                let what = about.map_or_else(|| what.clone(), |about| plain(what, about));
                writeln!(text, "{:>10}  {name}  {what}", clock(*at)).expect("a text takes all");
            }
        }
        text
    }

    /// The same, where a line says no more than an eye takes in.
    pub(crate) fn in_short(&self, job: Option<JobId>) -> String {
        let mut text = String::new();
        for line in self.of(job).lines() {
            text.extend(line.chars().take(LINE_MOST));
            text.push_str(if line.chars().count() > LINE_MOST { "…\n" } else { "\n" });
        }
        text
    }
}

const LINE_MOST: usize = 240;

/// Without what the line says already, and with times as the story has them.
fn plain(what: &str, about: JobId) -> String {
    let mut text = String::new();
    let own =
        what.replace(&format!("job: {about:?}, "), "").replace(&about.to_string(), &short(about));
    let mut rest = own.as_str();
    while let Some((before, after)) = rest.split_once("Timestamp(") {
        let (millis, after) = after.split_once(')').unwrap_or((after, ""));
        text.push_str(before);
        match millis.parse() {
            Ok(millis) => text.push_str(&clock(Timestamp::from_millis(millis))),
            Err(_) => text.push_str(millis),
        }
        rest = after;
    }
    text + rest
}

/// Seconds since the run began.
pub(crate) fn clock(at: Timestamp) -> String {
    let millis = at.millis().saturating_sub(BASE);
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

pub(crate) fn short(job: JobId) -> String {
    job.to_string().chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_says_times_from_its_beginning_and_a_job_once() {
        let job = JobId(uuid::Uuid::from_u128(0x17 << 96));
        let at = Timestamp::from_millis(BASE + 1500);
        let mut story = Story::new(true);
        story
            .tell(at, Some(job), || format!("learned: {:?}", planner::Event::Acquired { job, at }));
        assert_eq!(story.of(Some(job)), "     1.500  00000017  learned: Acquired { at: 1.500 }\n");
        story.tell(at, None, || "much ".repeat(100));
        let long = story.in_short(None);
        assert!(long.ends_with("much…\n") || long.ends_with("…\n"), "{long}");
        assert!(long.lines().all(|line| line.chars().count() <= LINE_MOST + 1), "{long}");
    }
}
