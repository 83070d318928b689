//! Killing everything of a machine: what is below the guest while it lives, and what is left of
//! a machine whose guest is gone. It reads `/proc`; it does not know why anything has to die.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::Groups;
use crate::clock;
use crate::place::{Place, read_json};
use crate::report::Report;

/// The variable by which processes of a machine are known: its value is the machine's directory.
pub(crate) const MARK: &str = "JITNEY_MACHINE";

/// How long the kernel may take to end what was killed; longer means that it hangs in a device.
const LONGEST_DEATH: Duration = Duration::from_secs(10);
const BETWEEN_ROUNDS: Duration = Duration::from_millis(5);
/// How often in a row nothing may be found before it is believed, where processes are known by
/// their environment alone: for a moment of its exec a process has none.
const QUIET_ROUNDS: u32 = 8;

/// Processes that could not be killed.
#[derive(Debug, thiserror::Error)]
#[error("{} still alive after being killed: {pids:?}", self.pids.len())]
pub struct Unkillable {
    pub pids: Vec<i32>,
}

/// Kills all that `find` finds, again and again until it finds nothing `quiet` times in a row: what
/// is killed may have forked just before. `reap` is called between the rounds.
pub(crate) fn kill_all(
    find: impl Fn() -> Vec<i32>,
    mut reap: impl FnMut(),
    quiet: u32,
) -> Result<(), Unkillable> {
    let until = clock::since_boot() + LONGEST_DEATH;
    let mut quiet_for = 0;
    loop {
        reap();
        let pids = find();
        quiet_for = if pids.is_empty() { quiet_for + 1 } else { 0 };
        if quiet_for >= quiet {
            return Ok(());
        }
        if clock::since_boot() > until {
            return Err(Unkillable { pids });
        }
        for pid in &pids {
            if let Some(pid) = Pid::from_raw(*pid) {
                // Gone meanwhile is what we want; not permitted shows in the next round.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        reap();
        std::thread::sleep(BETWEEN_ROUNDS);
    }
}

/// CPU seconds of all children that were reaped, and of theirs: for hosts without control groups.
pub(crate) fn cpu_of_children() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    // Fields 16 and 17 of the line, counted from 1; the state is number 3.
    let fields: Vec<u64> =
        rest.split_whitespace().skip(13).take(2).filter_map(|field| field.parse().ok()).collect();
    let [user, system] = fields[..] else { return None };
    let tick =
        Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some((tick * u32::try_from(user + system).ok()?).as_secs_f64())
}

/// Everything below this process, zombies apart: a subreaper is the parent of all that was left.
pub(crate) fn below_us() -> Vec<i32> {
    descendants(&processes(), &BTreeSet::from([us()]))
}

/// The same with what is known of each.
pub(crate) fn running_below_us() -> Vec<Process> {
    let mut all = running();
    let parents = all.iter().map(|(pid, process)| (*pid, process.parent)).collect();
    let below = descendants(&parents, &BTreeSet::from([us()]));
    below.into_iter().filter_map(|pid| all.remove(&pid)).collect()
}

fn us() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Kills what a dead guest has left behind, and removes its control groups. Only to be called by
/// who holds the machine's lock.
pub fn kill_remains(place: &Place) -> Result<(), Remains> {
    let groups: Groups = read_json(&place.cgroups())?.unwrap_or_default();
    // A guest that has reported the end has seen to it, one that has reported nothing has started
    // nothing, and control groups know all their members. A report that cannot be read says none
    // of it, and must not keep the machine from being removed.
    let is_over = read_json::<Report>(&place.report())
        .is_ok_and(|report| report.is_none_or(|report| report.ended.is_some()));
    let is_exact = is_over || groups.is_any();
    groups.kill();
    kill_all(|| remains(place, &groups), || {}, if is_exact { 1 } else { QUIET_ROUNDS })?;
    groups.remove()?;
    Ok(())
}

/// Why a machine's remains could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum Remains {
    #[error(transparent)]
    Unkillable(#[from] Unkillable),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What belongs to the machine: by control group, by the mark in its environment; and all that
/// is below one of those. (Not by working in its directory: so does whoever takes a look.)
fn remains(place: &Place, groups: &Groups) -> Vec<i32> {
    let own = us();
    let all = processes();
    let mut roots: BTreeSet<i32> = groups.members().into_iter().collect();
    roots.extend(all.keys().filter(|pid| belongs(**pid, place.dir())));
    roots.remove(&own);
    let mut found: BTreeSet<i32> = descendants(&all, &roots).into_iter().collect();
    found.extend(roots.iter().filter(|pid| all.contains_key(*pid)));
    found.remove(&own);
    found.into_iter().collect()
}

fn belongs(pid: i32, dir: &Path) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    let Ok(environ) = fs::read(proc.join("environ")) else { return false };
    let mark = [MARK.as_bytes(), b"=", dir.as_os_str().as_bytes()].concat();
    environ.split(|byte| *byte == 0).any(|one| one == mark)
}

/// Parent by process, of all that are alive.
fn processes() -> BTreeMap<i32, i32> {
    running().into_iter().map(|(pid, process)| (pid, process.parent)).collect()
}

/// A process that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    parent: i32,
    /// Its program's, cut by the kernel at 15 bytes. Its arguments would say more, and may hold
    /// secrets.
    pub(crate) name: String,
    /// How many pages of memory it has, those that it shares with others included.
    pub(crate) pages: u64,
}

fn running() -> BTreeMap<i32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        // A name need not be text.
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, process(&String::from_utf8_lossy(&stat))?))
    })
    .collect()
}

/// A line of `/proc/<pid>/stat`; `None` for what is dead.
fn process(stat: &str) -> Option<Process> {
    // The name may hold anything, a closing parenthesis too; the last one ends it.
    let (before, rest) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // Number 24, where the state is 3.
    let pages = fields.nth(19).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    (!matches!(state, "Z" | "X")).then_some(Process { parent, name, pages })
}

fn descendants(all: &BTreeMap<i32, i32>, roots: &BTreeSet<i32>) -> Vec<i32> {
    let mut found: BTreeSet<i32> = BTreeSet::new();
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|(pid, parent)| {
                !roots.contains(pid)
                    && !found.contains(pid)
                    && (roots.contains(parent) || found.contains(parent))
            })
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found.into_iter().collect();
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_parent() {
        let named = |name: &str, pages| Process { parent: 7, name: name.to_owned(), pages };
        assert_eq!(process("12 (a) R 9) S 7 12 12 0 -1"), Some(named("a) R 9", 0)));
        assert_eq!(process("12 (gone) Z 7 12"), None);
        assert_eq!(process("12 gone"), None);
        let whole = "4242 (cc1plus) R 7 42 42 0 -1 4194304 9 0 0 0 31 4 0 0 20 0 1 0 99 512000 1234 \
                     18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(process(whole), Some(named("cc1plus", 1234)));
    }

    #[test]
    fn descendants_are_found_however_deep_and_in_any_order() {
        let all = [(2, 9), (9, 5), (5, 1), (7, 1), (8, 2)].into();
        assert_eq!(descendants(&all, &[5].into()), [2, 8, 9]);
        assert_eq!(descendants(&all, &[6].into()), Vec::<i32>::new());
    }
}
