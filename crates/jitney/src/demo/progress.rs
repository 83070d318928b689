//! What happens to the demo's jobs while it happens: one line for each change that a person cares
//! for.

use std::collections::BTreeMap;

use sandbox::engine::State;
use tokio::time::Instant;
use uuid::Uuid;

use super::script::{JobNow, Outcome};
use crate::cli::Screen;
use crate::cli::times::seconds;

#[derive(Debug)]
pub(super) struct Progress {
    screen: Screen,
    begun: Instant,
    told: BTreeMap<Uuid, String>,
}

impl Progress {
    pub(super) fn new(screen: Screen) -> Self {
        Self { screen, begun: Instant::now(), told: BTreeMap::new() }
    }

    /// A line for each job that is not what it was.
    pub(super) fn changes(&mut self, outcome: &Outcome) -> String {
        let at = seconds(self.begun.elapsed());
        let mut text = String::new();
        for job in &outcome.jobs {
            let Some(word) = word(job, self.screen) else { continue };
            if self.told.get(&job.id) != Some(&word) {
                text.push_str(&format!("{at:>7}  {:<20}  {word}\n", job.name));
                self.told.insert(job.id, word);
            }
        }
        text
    }
}

/// Nothing where there is nothing to tell yet.
pub(super) fn word(job: &JobNow, screen: Screen) -> Option<String> {
    let ended = || match (job.has_agent, job.exit_status) {
        (false, _) => screen.bad("refused: no machine fits"),
        (true, Some(0)) => screen.good("passed"),
        (true, status) if job.retried => {
            screen.warn(format!("failed ({}), retried", shown(status)))
        }
        (true, status) => screen.bad(format!("failed ({})", shown(status))),
    };
    match job.state {
        State::Accepted | State::Running => Some("runs".to_owned()),
        State::Canceling => Some("is being cancelled".to_owned()),
        State::Canceled => Some(screen.warn("cancelled")),
        State::TimingOut | State::TimedOut => Some(screen.bad("timed out")),
        State::Expired | State::Broken | State::WaitingFailed => Some(screen.bad(job.state.name())),
        State::Skipped => Some(screen.warn("skipped")),
        State::Finished => Some(ended()),
        State::Waiting | State::Limited | State::Scheduled | State::Reserved => None,
    }
}

fn shown(status: Option<i32>) -> String {
    status.map_or_else(|| "no exit status".to_owned(), |status| format!("exit {status}"))
}
