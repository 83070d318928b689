//! Which core a process runs on. The world (sandbox, machines, this program) has one, what is
//! measured has another, so that neither slows the other down by more than memory and caches.

use std::io;
use std::process::{Child, Command};

/// The core of the world, and that of the program that is measured; the same where there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    world: usize,
    measured: usize,
}

impl Cores {
    /// The first and the last of those that we may use.
    pub(crate) fn choose() -> io::Result<Self> {
        let usable = usable()?;
        let first = usable.first().copied().unwrap_or_default();
        let last = usable.last().copied().unwrap_or_default();
        Ok(Self { world: first, measured: last })
    }

    pub(crate) fn apart(self) -> bool {
        self.world != self.measured
    }

    /// Does something on the world's core: every thread and every process that it starts stays
    /// there.
    pub(crate) fn in_world<T: Send>(self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on(self.world, work)
    }

    /// Does something on the core of what is measured.
    pub(crate) fn on_measured<T: Send>(self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on(self.measured, work)
    }

    /// Starts a process on the core of what is measured: it inherits the cores of the thread that
    /// starts it.
    pub(crate) fn start_measured(self, command: &mut Command) -> io::Result<Child> {
        self.on_measured(|| command.spawn())?
    }
}

/// In a thread that lives no longer.
fn on<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let there = || {
        pin(core)?;
        Ok(work())
    };
    std::thread::scope(|scope| scope.spawn(there).join())
        .unwrap_or_else(|_| Err(io::Error::other("what runs on a core of its own has failed")))
}

#[cfg(target_os = "linux")]
fn usable() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

#[cfg(target_os = "linux")]
fn pin(core: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Elsewhere the system chooses.
#[cfg(not(target_os = "linux"))]
fn usable() -> io::Result<Vec<usize>> {
    Ok(Vec::new())
}

#[cfg(not(target_os = "linux"))]
fn pin(_core: usize) -> io::Result<()> {
    Ok(())
}
