//! The listing: what the machines' directories say. A machine whose guest was killed is put to
//! rest here, because nobody else is left who would.

use std::fs;
use std::io;

use guest::place::{Place, is_locked, read_json, try_lock, write_json};
use guest::report::{Cause, Ended, Phase as GuestPhase, Report, Usage};
use jiff::Timestamp;

use super::make::labels;
use super::{Inner, Stamp, io_error};
use crate::contract::{Error, Listing, Machine, MachineEnd, Phase};

pub(super) fn machines(inner: &Inner) -> Result<Listing, Error> {
    let unreadable = |error: &io::Error| io_error("list", &inner.machines, error);
    let entries = fs::read_dir(&inner.machines).map_err(|error| unreadable(&error))?;
    let mut listing = Listing { machines: Vec::new(), complete: true };
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(&error))?;
        let name = entry.file_name();
        // Without a name yet, or any more.
        let Some(name) = name.to_str().filter(|name| crate::http::is_name(name)) else { continue };
        match machine(inner, name, &Place::new(entry.path())) {
            Ok(Some(machine)) => listing.machines.push(machine),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, machine = name, "cannot read what a machine bears");
                listing.complete = false;
            }
        }
    }
    Ok(listing)
}

/// `None` for what is not ours or was removed just now.
fn machine(inner: &Inner, name: &str, place: &Place) -> io::Result<Option<Machine>> {
    let Some(stamp) = read_json::<Stamp>(&labels(place))? else { return Ok(None) };
    if stamp.labels.mark != inner.options.mark {
        return Ok(None);
    }
    // In this order: a guest writes its last report before it lets go of the lock.
    let alive = is_locked(place)?;
    let mut report: Option<Report> = read_json(&place.report())?;
    if !alive && let Some(found) = report.as_mut().filter(|found| found.ended.is_none()) {
        bury(inner, place, found)?;
    }
    let (phase, ended) = match report.as_ref() {
        None if alive => (Phase::Provisioning, None),
        // Whoever makes a machine holds its lock until the guest has it, and a guest reports before
        // it lets go: nobody is coming any more.
        None => (Phase::Ended, Some(unstarted(stamp.created_at))),
        Some(report) => (phase_of(report), report.ended.clone().map(end_of)),
    };
    Ok(Some(Machine {
        name: name.to_owned(),
        labels: stamp.labels,
        phase,
        created_at: stamp.created_at,
        connected_at: report.as_ref().and_then(|report| report.connected_at),
        deadline_at: stamp.deadline_at,
        ended,
        note: None,
    }))
}

/// The end of a machine whose maker was killed before its guest lived, or whose guest died before
/// its first word.
fn unstarted(at: Timestamp) -> MachineEnd {
    MachineEnd {
        at,
        cause: "its guest was not started".to_owned(),
        log_tail: String::new(),
        cpu_seconds: None,
        peak_memory_bytes: None,
        oom_killed: false,
    }
}

fn phase_of(report: &Report) -> Phase {
    match report.phase {
        GuestPhase::Booting => Phase::Booting,
        GuestPhase::Connected => Phase::Connected,
        GuestPhase::Ended => Phase::Ended,
    }
}

/// Ends what a dead guest has left alive, which nothing else watches any more, and writes the
/// report that the guest could not. Left to the next listing while somebody else has the lock.
fn bury(inner: &Inner, place: &Place, report: &mut Report) -> io::Result<()> {
    let lock = fs::File::open(place.lock())?;
    if !try_lock(&lock)? || !place.is_lock(&lock) {
        return Ok(());
    }
    guest::kill_remains(place).map_err(io::Error::other)?;
    report.phase = GuestPhase::Ended;
    report.ended = Some(Ended {
        at: (inner.options.now)(),
        cause: Cause::GuestLost,
        log_tail: String::new(),
        usage: Usage::default(),
    });
    if let Err(error) = write_json(&place.report(), report) {
        // On a full disk, say. It is over all the same, and is written down when there is room.
        tracing::warn!(%error, "cannot write the last report in {}", place.dir().display());
    }
    Ok(())
}

fn end_of(ended: Ended) -> MachineEnd {
    MachineEnd {
        at: ended.at,
        cause: words(&ended.cause),
        log_tail: ended.log_tail,
        cpu_seconds: ended.usage.cpu_seconds,
        peak_memory_bytes: ended.usage.peak_memory_bytes,
        oom_killed: ended.usage.oom_killed,
    }
}

fn words(cause: &Cause) -> String {
    match cause {
        Cause::Exited { code } => format!("the agent exited with {code}"),
        Cause::Signaled { signal } => format!("the agent was killed by signal {signal}"),
        Cause::Deadline => "the machine's deadline was reached".to_owned(),
        Cause::Stopped => "the agent was stopped on request".to_owned(),
        Cause::NotStarted { reason } => format!("the agent could not be started: {reason}"),
        Cause::GuestLost => "the guest was killed; nothing more is known".to_owned(),
    }
}
