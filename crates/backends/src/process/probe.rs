//! What `doctor` wants to know before the first job: agent, control groups, directory, disk, user.
//! It returns what it found; the words for people are made elsewhere.

use std::path::{Path, PathBuf};

use guest::cgroup::{Groups, Layout, Limits};

use super::agents::{Agents, Version};
use super::{Options, io_error};
use crate::contract::Error;

/// The state of this host for the `process` backend.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The agent's program and its version, if it says it; else why there is none to start.
    pub agent: Result<(PathBuf, Option<Version>), Error>,
    /// What of limits and metering is not to be had here, in words. Empty: everything is.
    pub unlimited: Vec<String>,
    /// Whether a version 2 group, and with it a kill that nothing escapes, can be made.
    pub groups_v2: bool,
    /// The version 1 controllers that are used.
    pub groups_v1: Vec<String>,
    pub directory: Result<Room, Error>,
    /// The configured user, if there is one, and whether jobs can run as it.
    pub user: Option<Result<String, String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// The agent's program and its version, if it says it.
///
/// # Errors
/// Why there is none to start: absent, too old, or dumb.
pub async fn find_agent(options: &Options) -> Result<(PathBuf, Option<Version>), Error> {
    Agents::default().look(options).await.map(|found| (found.path, found.version))
}

pub(super) async fn probe(options: &Options, machines: &Path) -> Probe {
    let agent = find_agent(options).await;
    let (unlimited, groups) = try_groups();
    let user = options.user.as_ref().map(|user| {
        super::make::check_user(user).map(|()| user.clone()).map_err(|error| error.words)
    });
    Probe {
        agent,
        unlimited,
        groups_v2: groups.v2.is_some(),
        groups_v1: groups.v1.into_iter().map(|single| single.controller).collect(),
        directory: room(machines),
        user,
    }
}

/// Makes groups as for a machine and removes them: nothing else tells what is permitted.
fn try_groups() -> (Vec<String>, Groups) {
    let name = format!("probe-{}", rustix::process::getpid().as_raw_nonzero());
    let mut groups = Groups::plan(&Layout::read(), &name);
    let limits = Limits { cpu_millis: Some(1000), memory_bytes: Some(64 << 20) };
    let mut problems = groups.make(limits);
    if let Err(error) = groups.remove() {
        problems.push(format!("a control group cannot be removed: {error}"));
    }
    (problems, groups)
}

fn room(machines: &Path) -> Result<Room, Error> {
    let trial = machines.join(format!(".probe-{}", rustix::process::getpid().as_raw_nonzero()));
    std::fs::create_dir(&trial)
        .and_then(|()| std::fs::remove_dir(&trial))
        .map_err(|error| io_error("write in", machines, &error))?;
    let found = rustix::fs::statvfs(machines)
        .map_err(|error| io_error("look at", machines, &error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Room { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
}
