//! Where this process stands in the host's control groups, read from two files of `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The version 1 controllers that we use.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];
/// The version 2 controllers that we hand down to the groups that we make.
const HANDED_DOWN: [&str; 3] = ["memory", "cpu", "pids"];

/// Where the processes of a delegated group go.
const LEAF: &str = "jitney.self";

/// Our own groups: the directories in which others may be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The mount point of the unified hierarchy and our own group in it.
    pub v2: Option<(PathBuf, PathBuf)>,
    /// Our own group per version 1 controller.
    pub v1: BTreeMap<String, PathBuf>,
}

impl Layout {
    /// Of the running process; empty where there are no control groups or they cannot be read.
    #[must_use]
    pub fn read() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut layout = Self::parse(&mounts, &groups);
        // In a container a group's path may be one of the host's that is not to be seen here.
        layout.v2 = layout.v2.map(|(mount, own)| {
            let own = if own.is_dir() { own } else { mount.clone() };
            (mount, own)
        });
        layout.v1.retain(|_, own| own.is_dir());
        layout
    }

    /// `mountinfo` and `cgroup` are the texts of the files of these names in `/proc/self`.
    #[must_use]
    pub fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let mut layout = Self::default();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let before: Vec<_> = before.split(' ').collect();
            let after: Vec<_> = after.split(' ').collect();
            let (Some(root), Some(mount)) = (before.get(3), before.get(4)) else { continue };
            let mount = Path::new(mount);
            match after.first() {
                Some(&"cgroup2") => {
                    if let Some(path) = own_path(cgroup, |controllers| controllers.is_empty()) {
                        let own = mount.join(below(path, root));
                        layout.v2.get_or_insert((mount.to_owned(), own));
                    }
                }
                Some(&"cgroup") => {
                    let options = after.get(2).copied().unwrap_or_default();
                    for name in CONTROLLERS.into_iter().filter(|n| has(options, n)) {
                        if let Some(path) = own_path(cgroup, |controllers| has(controllers, name)) {
                            let own = mount.join(below(path, root));
                            layout.v1.entry(name.to_owned()).or_insert(own);
                        }
                    }
                }
                _ => {}
            }
        }
        layout
    }

    /// The group in which ours are made, with as many controllers handed down as can be: our own,
    /// or the one above it, because a group that holds processes itself hands nothing down.
    pub(super) fn parent_v2(&self) -> Option<PathBuf> {
        let (mount, own) = self.v2.as_ref()?;
        if hand_down(own) || (is_delegated(own) && evacuate(own) && hand_down(own)) {
            return Some(own.clone());
        }
        let above = own.parent().filter(|above| above.starts_with(mount));
        Some(above.filter(|above| hand_down(above)).unwrap_or(own).to_owned())
    }
}

/// Whether the service manager has given this group to its processes to divide (`Delegate=yes`);
/// it says so in an attribute.
fn is_delegated(group: &Path) -> bool {
    let mut value = [0; 8];
    ["user.delegate", "trusted.delegate"].into_iter().any(|name| {
        rustix::fs::getxattr(group, name, &mut value).is_ok_and(|length| &value[..length] == b"1")
    })
}

/// Moves the processes of a group of ours into one below it, so that it can hand controllers down.
/// (`DelegateSubgroup=` does the same, in newer versions of systemd than Debian 12 has.)
pub(super) fn evacuate(group: &Path) -> bool {
    let leaf = group.join(LEAF);
    if !leaf.is_dir() && fs::create_dir(&leaf).is_err() && !leaf.is_dir() {
        return false;
    }
    let Ok(members) = fs::read_to_string(group.join("cgroup.procs")) else { return false };
    for pid in members.lines() {
        // A process that has gone meanwhile is out of the way too.
        drop(fs::write(leaf.join("cgroup.procs"), pid));
    }
    fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|left| left.trim().is_empty())
}

/// Whether groups below this one have a memory controller, made so if it can be.
fn hand_down(group: &Path) -> bool {
    let handed = || fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
    let missing =
        |text: &str| HANDED_DOWN.iter().any(|name| !text.split_whitespace().any(|c| c == *name));
    if missing(&handed()) {
        for name in HANDED_DOWN {
            // One at a time, and refusals are fine: what counts is what is there afterwards.
            drop(fs::write(group.join("cgroup.subtree_control"), format!("+{name}")));
        }
    }
    handed().split_whitespace().any(|name| name == "memory")
}

/// Our group's path in the hierarchy whose controllers satisfy `wanted`.
fn own_path(cgroup: &str, wanted: impl Fn(&str) -> bool) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let path = parts.next()?;
        wanted(controllers).then_some(path)
    })
}

/// A group's path relative to the part of the hierarchy that is mounted.
fn below<'a>(path: &'a str, root: &str) -> &'a str {
    let rest = if root == "/" { path } else { path.strip_prefix(root).unwrap_or("") };
    rest.trim_start_matches('/')
}

fn has(list: &str, name: &str) -> bool {
    list.split(',').any(|one| one == name)
}
