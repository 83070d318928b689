//! A fleet's dispatch, explained: what it was sized on, what has become of its pods, and why it does
//! not roll out. It is told from the status alone.

use planner::Timestamp;
use serde::Serialize;

use super::{LEAST_PREFIX, line};
use crate::api::{Fleet, FleetDispatch, Snapshot};
use crate::cli::Screen;
use crate::cli::times::{date, seconds};

/// A dispatch's id has so many digits, in logs, labels and names.
const DIGITS: usize = 32;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Dispatch {
    fleet: String,
    queue: String,
    /// What the fleet waits for, where that is this dispatch.
    waits: Option<String>,
    #[serde(flatten)]
    of: FleetDispatch,
}

impl Dispatch {
    pub(super) fn id(&self) -> &str {
        &self.of.id
    }

    fn new(fleet: &Fleet, of: &FleetDispatch) -> Self {
        let waits = fleet.awaited_dispatch_id.as_ref() == Some(&of.id);
        Self {
            fleet: fleet.name.clone(),
            queue: fleet.queue.clone(),
            waits: waits.then(|| fleet.text.clone()),
            of: of.clone(),
        }
    }
}

/// The id in the name of a dispatch's Job or pod.
pub(super) fn in_name(text: &str) -> Option<&str> {
    let is_id = |part: &&str| part.len() == DIGITS && part.chars().all(|c| c.is_ascii_hexdigit());
    text.trim().split(['-', '/']).find(is_id)
}

/// The dispatches whose id begins so.
pub(super) fn beginning(wanted: &str, status: &Snapshot) -> Vec<Dispatch> {
    let wanted = wanted.replace('-', "");
    if wanted.len() < LEAST_PREFIX {
        return Vec::new();
    }
    let all = status.fleets.iter().flat_map(|fleet| {
        let known = fleet.dispatches.iter().chain(&fleet.gone);
        known.map(move |of| Dispatch::new(fleet, of))
    });
    all.filter(|dispatch| dispatch.id().starts_with(&wanted)).collect()
}

pub(super) fn text(dispatch: &Dispatch, now: Timestamp, screen: Screen) -> String {
    let Dispatch { fleet, queue, waits, of } = dispatch;
    let mut text = format!("Dispatch {}\n", screen.strong(&of.id));
    line(&mut text, format_args!("Of fleet {fleet}, queue {queue}, Job {}", of.name));
    let (made, age) = (date(of.made_at), seconds(now.since(of.made_at)));
    line(&mut text, format_args!("Now: {}", screen.strong(state(of))));
    line(&mut text, format_args!("Made: {made}, {age} ago"));
    if let Some(sized_on) = of.sized_on.as_ref().filter(|words| !words.is_empty()) {
        line(&mut text, format_args!("Sized on: {sized_on}"));
    }
    let FleetDispatch { agents, online, pending, done, failed, .. } = of;
    line(
        &mut text,
        format_args!(
            "Agents: {agents}; pods: {online} online, {pending} on their way, {done} done, {failed} failed"
        ),
    );
    if let Some(trouble) = &of.trouble {
        line(&mut text, format_args!("Why: {trouble}"));
    }
    if let Some(waits) = waits {
        line(&mut text, format_args!("The fleet waits for it: {waits}"));
    }
    if let Some(alarm) = &of.alarm {
        line(&mut text, format_args!("{} {alarm}", screen.bad("Alarm:")));
    }
    if let Some(at) = of.gone_at {
        line(&mut text, format_args!("Gone: {}; above is how it was seen last", date(at)));
    }
    text
}

fn state(of: &FleetDispatch) -> &'static str {
    match (of.gone_at, of.over, &of.alarm) {
        (Some(_), _, _) => "gone: the cluster has removed its Job",
        (None, true, _) => "over: nothing more comes of it, and the cluster removes it",
        (None, false, Some(_)) => "does not roll out",
        (None, false, None) if of.pending > 0 => "rolling out",
        (None, false, None) => "all that comes has come",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_in_names() {
        let id = "3506b2adb17945d7b690bd5f9e6a6fb0";
        for text in [
            id.to_owned(),
            format!("stateless-{id}"),
            format!("job.batch/stateless-{id}"),
            format!(" stateless-{id}-7-x8k2p\n"),
        ] {
            assert_eq!(in_name(&text), Some(id), "{text}");
        }
        for text in ["3506", "stateless-3506b2ad", "0199a3c0-5c39-7d13-8f0e-0d6a8e2f7a11"] {
            assert_eq!(in_name(text), None, "{text}");
        }
    }
}
