//! Layouts and files as recorded on real hosts; limits on trees of plain files.

use super::*;
use crate::report::Usage;

const HYBRID_MOUNTS: &str = "\
31 23 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:29 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
36 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:36 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
42 31 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
const HYBRID_GROUPS: &str = "\
9:name=systemd:/
4:memory:/process_api/d0a7
2:cpuacct:/
1:cpu:/
0::/
";

#[test]
fn a_hybrid_host_has_both() {
    let layout = Layout::parse(HYBRID_MOUNTS, HYBRID_GROUPS);
    let unified = PathBuf::from("/sys/fs/cgroup/unified");
    assert_eq!(layout.v2, Some((unified.clone(), unified.join(""))));
    let expected = [
        ("cpu", "/sys/fs/cgroup/cpu/"),
        ("cpuacct", "/sys/fs/cgroup/cpuacct/"),
        ("memory", "/sys/fs/cgroup/memory/process_api/d0a7"),
    ];
    let expected = expected.map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
    assert_eq!(layout.v1, expected.into());
}

#[test]
fn a_debian_12_service_and_a_container_have_version_2_alone() {
    let mounts = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    let layout = Layout::parse(mounts, "0::/system.slice/jitney.service/main\n");
    let own = PathBuf::from("/sys/fs/cgroup/system.slice/jitney.service/main");
    assert_eq!(layout, Layout { v2: Some(("/sys/fs/cgroup".into(), own)), v1: [].into() });

    let mounts = "29 23 0:26 /kubepods/pod1/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    let layout = Layout::parse(mounts, "0::/kubepods/pod1/c1/inner\n");
    assert_eq!(layout.v2, Some(("/sys/fs/cgroup".into(), "/sys/fs/cgroup/inner".into())));
}

#[test]
fn joint_controllers_and_nonsense_are_understood() {
    let mounts =
        "30 25 0:26 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\nbroken\n1 2 - x\n";
    let layout = Layout::parse(mounts, "3:cpu,cpuacct:/a\nbroken\n");
    let own = PathBuf::from("/cg/cpu,cpuacct/a");
    assert_eq!(layout.v1, [("cpu".to_owned(), own.clone()), ("cpuacct".to_owned(), own)].into());
    assert_eq!(Layout::parse("", ""), Layout::default());
}

fn files(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir).expect("a temporary directory can be written");
    for (name, text) in files {
        fs::write(dir.join(name), text).expect("a temporary directory can be written");
    }
}

#[test]
fn version_2_limits_and_counts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let v2 = dir.path().join("jitney-m");
    files(&v2, &[("memory.max", "max"), ("memory.swap.max", "max"), ("cpu.max", "max 100000")]);
    let mut groups = Groups { v2: Some(v2.clone()), v1: Vec::new() };
    let limits = Limits { cpu_millis: Some(1500), memory_bytes: Some(1 << 30) };
    assert_eq!(groups.make(limits), Vec::<String>::new());
    let text = |name: &str| fs::read_to_string(v2.join(name)).expect("the file is there");
    assert_eq!(text("memory.max"), "1073741824");
    assert_eq!(text("memory.swap.max"), "0");
    assert_eq!(text("cpu.max"), "150000 100000");

    let cpu = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n";
    let events = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n";
    files(&v2, &[("cpu.stat", cpu), ("memory.events", events), ("memory.peak", "1073741824\n")]);
    let expected =
        Usage { cpu_seconds: Some(2.5), peak_memory_bytes: Some(1 << 30), oom_killed: true };
    assert_eq!(groups.usage(), expected);
}

#[test]
fn a_group_without_controllers_says_what_it_does_not_do() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut groups = Groups { v2: Some(dir.path().join("bare")), v1: Vec::new() };
    let limits = Limits { cpu_millis: Some(1000), memory_bytes: Some(1) };
    let problems = groups.make(limits);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("`memory` controller"), "{problems:?}");
    assert_eq!(groups.usage(), Usage::default());
}

#[test]
fn a_group_that_cannot_be_made_is_named_and_left_out() {
    let absent = PathBuf::from("/proc/no-such-place/jitney-m");
    let mut groups = Groups { v2: Some(absent), v1: Vec::new() };
    let problems = groups.make(Limits { cpu_millis: None, memory_bytes: Some(1) });
    assert!(problems[0].contains("/proc/no-such-place/jitney-m"), "{problems:?}");
    assert_eq!(groups, Groups::default());
    assert!(groups.doors().expect("no door to open").is_empty());
}

/// Past the harness, which keeps what passing tests print.
fn not_tested(why: &str) {
    let line = format!("NOT TESTED: a version 2 group that is emptied: {why}\n");
    io::Write::write_all(&mut io::stderr(), line.as_bytes()).expect("stderr can be written");
}

#[test]
fn a_delegated_group_is_emptied_into_one_below_it() {
    let Some((mount, _)) = Layout::read().v2 else {
        not_tested("there are none here");
        return;
    };
    let group = mount.join(format!("jitney-test-{}", std::process::id()));
    if fs::create_dir(&group).is_err() {
        not_tested("that needs root");
        return;
    }
    let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
    write(&group.join("cgroup.procs"), &child.id().to_string()).expect("root can move it");
    let emptied = layout::evacuate(&group);
    let groups = Groups { v2: Some(group.clone()), v1: Vec::new() };
    let members = groups.members();
    groups.kill();
    let status = child.wait().expect("it is ours");
    let removed = groups.remove();
    assert!(emptied && removed.is_ok() && !group.exists(), "{removed:?}");
    assert_eq!(members, [i32::try_from(child.id()).expect("a process id")], "of the one below");
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), Some(9), "the group's own kill reaches those below");
}
