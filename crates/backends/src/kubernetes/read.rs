//! From a Job, its pods and what was said of them to a machine. Pure: the same objects at the same
//! time are the same machine.

mod end;
mod memory;
mod refusal;
mod waiting;

use jiff::{SignedDuration, Timestamp};

use super::seen::{Event, Job, Meta, Pod};
use crate::contract::{Labels, Machine, Phase};

/// Everything that is known of one machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    pub job: Option<&'a Job>,
    /// Of all that ever were, those that are left; the newest last.
    pub pods: &'a [Pod],
    /// Why the Job controller could not make its pod.
    pub not_created: Option<&'a Event>,
    /// Why a volume could not be mounted.
    pub not_mounted: Option<&'a Event>,
    /// A pod of it was there once.
    pub had_pod: bool,
}

/// The machine that these objects are; an error says what of them cannot be read.
pub fn machine(seen: Seen<'_>, now: Timestamp) -> Result<Machine, String> {
    let pod = seen.pods.last();
    let (meta, name): (&Meta, &str) = match (seen.job, pod) {
        (Some(job), _) => (&job.metadata, &job.metadata.name),
        (None, Some(pod)) => (&pod.metadata, pod.machine()),
        (None, None) => return Err("there is neither a Job nor a pod".to_owned()),
    };
    let labels = match &meta.labels {
        Ok(labels) => Labels::clone(labels),
        Err(words) => return Err(words.to_string()),
    };
    let ended = end::of(&seen, now);
    let phase = match (&ended, pod) {
        (Some(_), _) => Phase::Ended,
        (None, Some(pod)) => phase(pod),
        (None, None) => Phase::Requested,
    };
    let note = match phase {
        Phase::Requested | Phase::Provisioning | Phase::Booting => waiting::note(&seen),
        Phase::Connected | Phase::Ended => None,
    };
    let up = pod.filter(|_| match phase {
        Phase::Booting | Phase::Connected => true,
        Phase::Requested | Phase::Provisioning | Phase::Ended => false,
    });
    Ok(Machine {
        name: name.to_owned(),
        labels,
        phase,
        created_at: meta.created_at,
        connected_at: pod.and_then(connected_at),
        deadline_at: deadline_at(seen.job, meta),
        ended: ended.map(Box::new),
        note,
        silent: up.and_then(end::silent),
        leaving: up.and_then(end::leaving),
    })
}

fn phase(pod: &Pod) -> Phase {
    let Some(main) = &pod.main else { return Phase::Provisioning };
    if main.started == Some(true) {
        Phase::Connected
    } else if main.state.running.is_some() {
        Phase::Booting
    } else {
        Phase::Provisioning
    }
}

/// The guest's own word where it has left one; else when the kubelet heard of it.
fn connected_at(pod: &Pod) -> Option<Timestamp> {
    let main = pod.main.as_ref()?;
    if let Some(message) = end::message(main) {
        return message.report.connected_at;
    }
    if main.started != Some(true) {
        return None;
    }
    let ready = pod.holds("Ready").and_then(|ready| ready.last_transition_time);
    ready.or_else(|| main.state.running.as_ref()?.started_at)
}

/// Counted from when the Job controller took the Job up. A machine that is suspended has none
/// yet, and is given one from its creation on.
fn deadline_at(job: Option<&Job>, meta: &Meta) -> Timestamp {
    let seconds = job.and_then(|job| job.spec.active_deadline_seconds).or(meta.deadline_s);
    let from = job.and_then(|job| job.status.start_time).unwrap_or(meta.created_at);
    let Some(seconds) = seconds else { return Timestamp::MAX };
    from.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
