//! The listing: what the machines' directories say. A machine whose guest was killed is put to
//! rest here, because nobody else is left who would.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use guest::place::{Place, is_locked, read_json, try_lock, write_json};
use guest::report::{Cause, Ended, Phase as GuestPhase, Report, Usage};

use super::make::labels;
use super::remove::remove_file;
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
            // It was removed just now.
            Err(_) if !entry.path().exists() => {}
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
    if *stamp.labels.mark != *inner.options.mark {
        return Ok(None);
    }
    // In this order: a guest writes its last report before it lets go of the lock.
    let alive = is_locked(place)?;
    let report: Option<Report> = match read_json::<Report>(&place.report()) {
        Ok(Some(report)) if report.ended.is_some() => Some(report),
        found if alive => found?,
        Ok(_) | Err(_) => bury(inner, place)?,
    };
    let phase = report.as_ref().map_or(Phase::Provisioning, phase_of);
    Ok(Some(Machine {
        name: name.to_owned(),
        labels: stamp.labels,
        phase,
        created_at: stamp.created_at,
        connected_at: report.as_ref().and_then(|report| report.connected_at),
        deadline_at: stamp.deadline_at,
        ended: report.and_then(|report| report.ended).map(|ended| Box::new(end_of(ended))),
        note: None,
        silent: None,
        leaving: None,
    }))
}

fn phase_of(report: &Report) -> Phase {
    match report.phase {
        GuestPhase::Booting => Phase::Booting,
        GuestPhase::Connected => Phase::Connected,
        GuestPhase::Ended => Phase::Ended,
    }
}

/// Ends what a dead guest has left alive, which nothing else watches any more, and writes the
/// report that the guest could not. One that never came up is dead too: nobody repeats the create
/// of a machine that is listed, and a repeat that is under way finds its end and starts nothing.
/// Left to the next listing while somebody else has the lock.
fn bury(inner: &Inner, place: &Place) -> io::Result<Option<Report>> {
    let lock = fs::File::open(place.lock())?;
    if !try_lock(&lock)? || !place.is_lock(&lock) {
        return read_json(&place.report());
    }
    let at = (inner.options.now)();
    let fresh =
        Report { phase: GuestPhase::Ended, started_at: at, connected_at: None, ended: None };
    // Under the lock nobody else writes, so what cannot be read now never will be.
    let (mut report, cause) = match read_json::<Report>(&place.report()) {
        Ok(Some(report)) if report.ended.is_some() => return Ok(Some(report)),
        Ok(Some(report)) => (report, Cause::GuestLost),
        Ok(None) => (fresh, Cause::NotStarted { reason: "its guest did not come up".to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => (fresh, Cause::GuestLost),
        Err(error) => return Err(error),
    };
    guest::kill_remains(place).map_err(io::Error::other)?;
    remove_file(&place.token())?;
    report.phase = GuestPhase::Ended;
    report.ended = Some(Ended { at, cause, log_tail: String::new(), usage: Usage::default() });
    if let Err(error) = write_json(&place.report(), &report) {
        // On a full disk, say. It is over all the same, and is written down when there is room.
        tracing::warn!(%error, "cannot write the last report in {}", place.dir().display());
    }
    Ok(Some(report))
}

fn end_of(ended: Ended) -> MachineEnd {
    MachineEnd {
        at: ended.at,
        deadline_reached: ended.cause == Cause::Deadline,
        taken: false,
        cause: ended.cause.to_string(),
        log_tail: ended.log_tail,
        cpu_seconds: ended.usage.cpu_seconds,
        peak_memory_bytes: ended.usage.peak_memory_bytes,
        oom_killed: ended.usage.oom_killed,
        ran: None,
        refused: None,
        fields: BTreeMap::new(),
    }
}
