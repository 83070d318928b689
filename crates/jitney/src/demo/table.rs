//! The demo's last table: when each job came to each phase.

use std::collections::BTreeMap;

use planner::Timestamp;
use uuid::Uuid;

use super::progress::word;
use super::script::Outcome;
use crate::cli::Screen;
use crate::cli::times::offset;
use crate::journal::Closed;

pub(super) fn table(outcome: &Outcome, closed: &[Closed], screen: Screen) -> String {
    let by_id: BTreeMap<Uuid, &Closed> =
        closed.iter().map(|closed| (closed.job.0, closed)).collect();
    let rows = outcome.jobs.iter().map(|job| {
        let phases = by_id.get(&job.id).map(|closed| closed.phases).unwrap_or_default();
        let after = |at: Option<Timestamp>, since: Option<Timestamp>| {
            at.zip(since).map_or_else(|| "-".to_owned(), |(at, since)| offset(at, since))
        };
        [
            job.name.clone(),
            after(phases.seen, job.visible_at),
            after(phases.reserved, phases.seen),
            after(phases.created, phases.seen),
            after(phases.connected, phases.seen),
            after(phases.ended, phases.seen),
            after(phases.gone, phases.seen),
            word(job, screen).unwrap_or_else(|| job.state.name().to_owned()),
        ]
    });
    let heads = ["job", "seen", "reserved", "created", "connected", "ended", "removed", "outcome"];
    format!(
        "\n{}{}\n",
        screen.table(heads, rows),
        screen.faint("seen: after the job became visible; all else: after it was seen")
    )
}
