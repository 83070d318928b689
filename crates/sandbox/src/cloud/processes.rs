//! The processes of a machine: whatever bears its mark in its environment and whatever came from
//! that, also when it has left the session. Only Linux tells; elsewhere a machine is the process
//! group of its startup script.

use std::fmt;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use uuid::Uuid;

/// The variable that marks them.
pub(super) const MARK: &str = "SANDBOX_MACHINE";
/// How often what comes up anew is killed before it is called hopeless.
const ROUNDS: usize = 50;

/// What a machine's processes bear. Another cloud's machine may have the same id, so the cloud is
/// a part of it.
#[derive(Clone, Debug)]
pub(super) struct Mark(String);

impl Mark {
    pub(super) fn new(cloud: Uuid, machine: u64) -> Self {
        Self(format!("{cloud}/{machine}"))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A process that exists, as it was seen.
#[cfg(target_os = "linux")]
struct Seen {
    pid: Pid,
    parent: i32,
    marked: bool,
}

#[cfg(target_os = "linux")]
fn look(entry: &std::fs::DirEntry, mark: &[u8]) -> Option<Seen> {
    let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
    // What ends meanwhile is not there any more, which is as good.
    let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
    let marked = environment.split(|byte| *byte == 0).any(|variable| variable == mark);
    (state != "Z" && state != "X").then_some(Seen { pid, parent, marked })
}

#[cfg(target_os = "linux")]
fn of_machine(mark: &Mark) -> Vec<Pid> {
    let mark = format!("{MARK}={mark}").into_bytes();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let all: Vec<Seen> = entries.flatten().filter_map(|entry| look(&entry, &mark)).collect();
    let mut found: Vec<Pid> = all.iter().filter(|it| it.marked).map(|it| it.pid).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = all.iter().filter(|it| it.parent == parent.as_raw_nonzero().get());
        let new: Vec<Pid> = children.map(|it| it.pid).filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
    }
    found
}

#[cfg(not(target_os = "linux"))]
fn of_machine(_: &Mark) -> Vec<Pid> {
    Vec::new()
}

fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        if let Err(error) = rustix::process::kill_process(*pid, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, ?pid, "a process of a machine could not be signalled");
        }
    }
}

/// Waits until a process has ended.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "Tokio wants a promise that the descriptor stays open")]
async fn ended(pid: Pid) {
    use rustix::process::{PidfdFlags, pidfd_open};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    // Without a descriptor it is gone already.
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::NONBLOCK) else { return };
    // SAFETY: the descriptor is owned by what it is registered for, and stays open as long.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    match registered {
        Ok(descriptor) => {
            if let Err(error) = descriptor.readable().await {
                tracing::warn!(%error, "the end of a process could not be waited for");
            }
        }
        Err(error) => tracing::warn!(%error, "the end of a process cannot be waited for"),
    }
}

#[cfg(not(target_os = "linux"))]
async fn ended(_: Pid) {}

async fn all_ended(pids: &[Pid]) {
    futures_util::future::join_all(pids.iter().map(|pid| ended(*pid))).await;
}

/// Asks all of them to end, and kills those that have not when the patience is over.
pub(super) async fn end(mark: &Mark, patience: Duration) {
    let mut told: Vec<Pid> = Vec::new();
    let soft = async {
        loop {
            let there = of_machine(mark);
            if there.is_empty() {
                return;
            }
            let new: Vec<Pid> = there.iter().copied().filter(|pid| !told.contains(pid)).collect();
            signal(&new, Signal::TERM);
            told.extend(new);
            all_ended(&there).await;
        }
    };
    if tokio::time::timeout(patience, soft).await.is_err() {
        tracing::info!(machine = %mark, "a machine did not shut down in time and is switched off");
    }
    kill(mark).await;
}

/// Kills all of them, and what they start meanwhile.
pub(super) async fn kill(mark: &Mark) {
    for _ in 0..ROUNDS {
        let there = of_machine(mark);
        if there.is_empty() {
            return;
        }
        signal(&there, Signal::KILL);
        all_ended(&there).await;
    }
    tracing::error!(machine = %mark, "processes of a machine could not be killed");
}

/// The same without waiting for their ends.
pub(super) fn kill_now(mark: &Mark) {
    signal(&of_machine(mark), Signal::KILL);
}
