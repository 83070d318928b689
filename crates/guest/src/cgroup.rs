//! Control groups around the agent and all that it starts: limits, metering, and a kill that
//! nothing escapes. Version 2 first, version 1 where a controller is only there, both at once on
//! hybrid hosts. Where neither is permitted it says so; others then do what can be done without.

mod layout;
mod usage;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use layout::Layout;
pub(crate) use usage::Gauge;

use crate::place::named;

/// The period that a share of CPU time is counted in.
const PERIOD_US: u64 = 100_000;
/// How often a group is tried to be removed while the kernel still takes its last process apart.
const REMOVALS: u32 = 100;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(10);

/// The groups of one machine. Kept in a file, so that whoever finds a dead guest can clean up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// In the unified hierarchy.
    pub v2: Option<PathBuf>,
    /// In each hierarchy of a controller's own.
    pub v1: Vec<Single>,
}

/// A group in a version 1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Single {
    pub controller: String,
    pub path: PathBuf,
}

/// What may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_millis: Option<u32>,
    pub memory_bytes: Option<u64>,
}

impl Groups {
    /// Where the groups of `name` would be, without making any.
    #[must_use]
    pub fn plan(layout: &Layout, name: &str) -> Self {
        let dir = format!("jitney-{name}");
        let v2 = layout.parent_v2().map(|parent| parent.join(&dir));
        let v1 = layout
            .v1
            .iter()
            .map(|(controller, own)| Single {
                controller: controller.clone(),
                path: own.join(&dir),
            })
            .collect();
        Self { v2, v1 }
    }

    /// The groups that this process is in, not to be changed: a container's are all its own.
    #[must_use]
    pub fn around_us(layout: &Layout) -> Self {
        let v2 = layout.v2.as_ref().map(|(_, own)| own.clone());
        let single = |(controller, own): (&String, &PathBuf)| Single {
            controller: controller.clone(),
            path: own.clone(),
        };
        Self { v2, v1: layout.v1.iter().map(single).collect() }
    }

    /// Makes the planned groups and sets the limits. Groups that cannot be made are taken out of
    /// the plan. What is not enforced comes back in words.
    pub fn make(&mut self, limits: Limits) -> Vec<String> {
        let mut refused = Vec::new();
        if let Some(path) = &self.v2
            && let Err(error) = make_dir(path)
        {
            refused.push(error.to_string());
            self.v2 = None;
        }
        self.v1.retain(|single| match make_dir(&single.path) {
            Ok(()) => true,
            Err(error) => {
                refused.push(error.to_string());
                false
            }
        });
        let mut problems = Vec::new();
        if let Some(bytes) = limits.memory_bytes
            && let Err(why) = self.limit_memory(bytes)
        {
            problems.push(format!("memory is not limited: {}", reason(&why, &refused)));
        }
        if let Some(millis) = limits.cpu_millis
            && let Err(why) = self.limit_cpu(millis)
        {
            problems.push(format!("cpu is not limited: {}", reason(&why, &refused)));
        }
        problems
    }

    fn limit_memory(&self, bytes: u64) -> Result<(), String> {
        if let Some(v2) = self.v2.as_ref().filter(|path| path.join("memory.max").exists()) {
            // Swap would make the limit a slow one; it is only there where the kernel counts it.
            let swap = v2.join("memory.swap.max");
            if swap.exists() {
                write(&swap, "0").map_err(|error| error.to_string())?;
            }
            return write(&v2.join("memory.max"), &bytes.to_string())
                .map_err(|error| error.to_string());
        }
        let Some(own) = self.single("memory") else { return Err(no_controller("memory")) };
        write(&own.join("memory.limit_in_bytes"), &bytes.to_string())
            .map_err(|error| error.to_string())
    }

    fn limit_cpu(&self, millis: u32) -> Result<(), String> {
        let quota = u64::from(millis) * PERIOD_US / 1000;
        if let Some(v2) = self.v2.as_ref().filter(|path| path.join("cpu.max").exists()) {
            return write(&v2.join("cpu.max"), &format!("{quota} {PERIOD_US}"))
                .map_err(|error| error.to_string());
        }
        let Some(own) = self.single("cpu") else { return Err(no_controller("cpu")) };
        write(&own.join("cpu.cfs_period_us"), &PERIOD_US.to_string())
            .and_then(|()| write(&own.join("cpu.cfs_quota_us"), &quota.to_string()))
            .map_err(|error| error.to_string())
    }

    fn single(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|one| one.controller == controller).map(|one| one.path.as_path())
    }

    /// Whether there is any of them, as far as they still are where they were made.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.paths().any(Path::is_dir)
    }

    /// The files to which a process writes `0` to be in the groups from then on.
    pub fn doors(&self) -> io::Result<Vec<File>> {
        self.paths()
            .map(|path| {
                let door = path.join("cgroup.procs");
                OpenOptions::new().write(true).open(&door).map_err(|error| named(error, &door))
            })
            .collect()
    }

    /// Everything that is in any of the groups, or in groups below them.
    #[must_use]
    pub fn members(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for path in self.paths() {
            for group in with_below(path) {
                let Ok(text) = fs::read_to_string(group.join("cgroup.procs")) else { continue };
                found.extend(text.lines().filter_map(|line| line.trim().parse::<i32>().ok()));
            }
        }
        // 0 is a process of another pid namespace, which cannot be named from here.
        found.retain(|pid| *pid > 0);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Kills all at once where the kernel can (5.14); else the caller kills `members` in rounds.
    pub fn kill(&self) {
        if let Some(v2) = &self.v2 {
            let switch = v2.join("cgroup.kill");
            if switch.exists() {
                // A group that went away meanwhile holds nothing to kill; `members` tells the rest.
                drop(write(&switch, "1"));
            }
        }
    }

    /// Removes the groups, those below them first. They must be empty.
    pub fn remove(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for path in self.paths() {
            for group in with_below(path).into_iter().rev() {
                if let Err(error) = remove_dir(&group) {
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let singles = self.v1.iter().map(|single| single.path.as_path());
        self.v2.iter().map(PathBuf::as_path).chain(singles)
    }
}

fn no_controller(name: &str) -> String {
    format!("no control group with the `{name}` controller is ours to use")
}

fn reason(why: &str, refused: &[String]) -> String {
    refused.first().map_or_else(|| why.to_owned(), |first| format!("{why} ({first})"))
}

/// A group and all below it, parents first.
fn with_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    let mut next = 0;
    while let Some(group) = found.get(next).cloned() {
        next += 1;
        let Ok(entries) = fs::read_dir(&group) else { continue };
        let below = entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
        found.extend(below.map(|entry| entry.path()));
    }
    found
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(named(error, path)),
        // One of the same name is left of an earlier try.
        _ => Ok(()),
    }
}

fn remove_dir(path: &Path) -> io::Result<()> {
    for _ in 0..REMOVALS {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(BETWEEN_REMOVALS);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(named(error, path));
            }
            _ => return Ok(()),
        }
    }
    let words = format!("{}: still busy", path.display());
    Err(io::Error::new(io::ErrorKind::ResourceBusy, words))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(|error| named(error, path))
}

#[cfg(test)]
mod tests;
