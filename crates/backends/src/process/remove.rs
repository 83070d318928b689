//! Removing one machine: its guest is told to stop and waited for, what is left is killed, the
//! directory goes. Whoever holds the machine's lock may take it apart, nobody else.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use guest::place::{Place, read_json, remove_tree, try_lock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep, timeout};

use super::make::{GONE, labels};
use super::ready::registered;
use super::{Inner, Process, Stamp, io_error};
use crate::contract::{Class, Error};

/// How long a guest may take beyond its agent's grace before it is killed too.
const LONGEST_STOP: Duration = Duration::from_secs(20);
/// Beyond that: for a guest that was killed to be gone, and others who have the lock to be done.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

pub(super) async fn machine(backend: &Process, name: &str) -> Result<(), Error> {
    let place = backend.inner.place(name)?;
    let longest_stop = backend.inner.options.grace + LONGEST_STOP;
    let until = Instant::now() + longest_stop + LONGEST_WAIT;
    let mut told = false;
    while Instant::now() < until {
        let looked = place.clone();
        match backend.aside(move |inner| take(inner, &looked)).await? {
            Held::Gone => return Ok(()),
            Held::Theirs if told => sleep(BETWEEN_LOOKS).await,
            Held::Theirs => match guest_of(&place) {
                Some(guest) => {
                    stop(guest, longest_stop, name).await?;
                    told = true;
                }
                // Just started, or in somebody's hands who makes or removes it.
                None => sleep(BETWEEN_LOOKS).await,
            },
        }
    }
    let words = format!("somebody else is at {}", place.dir().display());
    Err(Error::new(Class::Ambiguous, words))
}

enum Held {
    /// Nothing is left, or nothing was there.
    Gone,
    /// The guest's, or somebody's who makes or removes this machine.
    Theirs,
}

/// Takes the machine apart if nobody else has it.
fn take(inner: &Inner, place: &Place) -> Result<Held, Error> {
    inner.reap();
    let path = labels(place);
    let stamp: Option<Stamp> = read_json(&path).map_err(|error| io_error("read", &path, &error))?;
    let Some(stamp) = stamp else { return Ok(Held::Gone) };
    if *stamp.labels.mark != *inner.options.mark {
        let words = format!(
            "{} belongs to the installation `{}`; it is left alone",
            place.dir().display(),
            stamp.labels.mark
        );
        return Err(Error::new(Class::Rejected, words));
    }
    let locked = place.open_lock().and_then(|lock| Ok((try_lock(&lock)?, lock)));
    match locked {
        Ok((true, lock)) if place.is_lock(&lock) => {
            take_apart(inner, place, lock).map(|()| Held::Gone)
        }
        Ok(_) => Ok(Held::Theirs),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Held::Gone),
        Err(error) => Err(io_error("lock", place.dir(), &error)),
    }
}

/// The guest's process, held so that its number cannot become another's. The number in the file
/// proves nothing by itself: it may be long dead and used again.
fn guest_of(place: &Place) -> Option<OwnedFd> {
    let number: i32 = fs::read_to_string(place.pid()).ok()?.trim().parse().ok()?;
    let held = pidfd_open(Pid::from_raw(number)?, PidfdFlags::NONBLOCK).ok()?;
    let line = fs::read(format!("/proc/{number}/cmdline")).ok()?;
    let is_guest =
        line.split(|byte| *byte == 0).any(|arg| arg == place.dir().as_os_str().as_bytes());
    is_guest.then_some(held)
}

/// Tells the guest to stop and waits until it is gone, killing it if it does not go.
async fn stop(guest: OwnedFd, longest: Duration, name: &str) -> Result<(), Error> {
    let ambiguous = |what: &str, error: io::Error| {
        Error::new(Class::Ambiguous, format!("cannot {what} the guest of {name}: {error}"))
    };
    let gone = registered(guest).map_err(|error| ambiguous("watch", error))?;
    send(gone.get_ref(), Signal::TERM).map_err(|error| ambiguous("stop", error))?;
    if timeout(longest, gone.readable()).await.is_ok() {
        return Ok(());
    }
    tracing::warn!(machine = name, "the guest did not stop in time and is killed");
    send(gone.get_ref(), Signal::KILL).map_err(|error| ambiguous("kill", error))
}

fn send(guest: &OwnedFd, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(guest, signal) {
        Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
        _ => Ok(()),
    }
}

/// The machine stays in the listing until all that can be big or stubborn is gone, so that what
/// fails here is seen and tried again.
fn take_apart(inner: &Inner, place: &Place, lock: File) -> Result<(), Error> {
    guest::kill_remains(place).map_err(|error| {
        let words = format!("cannot end what {} left: {error}", place.dir().display());
        Error::new(Class::Ambiguous, words)
    })?;
    // Never to be used again; the token only if no guest has read it.
    for path in [place.token(), place.build(), place.plugins(), place.tmp()] {
        let removed = if path.is_dir() { remove_tree(&path) } else { remove_file(&path) };
        removed.map_err(|error| io_error("remove", &path, &error))?;
    }
    let name = place.dir().file_name().unwrap_or_default().to_string_lossy();
    let gone = inner.machines.join(format!("{GONE}{name}"));
    let renamed = remove_tree(&gone).and_then(|()| fs::rename(place.dir(), &gone));
    renamed.map_err(|error| io_error("remove", place.dir(), &error))?;
    drop(lock);
    remove_tree(&gone).map_err(|error| io_error("remove", &gone, &error))?;
    inner.reap();
    Ok(())
}

/// What is gone already is as good as removed.
pub(super) fn remove_file(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
