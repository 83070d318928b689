//! What a machine's groups have counted: CPU time, peak of memory, kills for want of memory.

use std::fs;
use std::path::{Path, PathBuf};

use super::Groups;
use crate::report::Usage;

impl Groups {
    /// Fields that no group counts are empty.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let v2 = self.v2.as_deref();
        let memory = self.single("memory");
        let peak =
            number(v2, "memory.peak").or_else(|| number(memory, "memory.max_usage_in_bytes"));
        let kills = field(v2, "memory.events", "oom_kill")
            .or_else(|| field(memory, "memory.oom_control", "oom_kill"));
        Usage {
            cpu_seconds: self.cpu_micros().map(seconds),
            peak_memory_bytes: peak,
            oom_killed: kills.is_some_and(|count| count > 0),
        }
    }

    fn cpu_micros(&self) -> Option<u64> {
        let v1 = number(self.single("cpuacct"), "cpuacct.usage").map(|nanos| nanos / 1000);
        v1.or_else(|| field(self.v2.as_deref(), "cpu.stat", "usage_usec"))
    }
}

/// Microseconds as seconds; a machine does not live for the 100,000 years from which on a float
/// is not exact any more.
fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

fn number(group: Option<&Path>, file: &str) -> Option<u64> {
    read(group, file)?.trim().parse().ok()
}

/// The value of one line of a file of `name value` lines.
fn field(group: Option<&Path>, file: &str, name: &str) -> Option<u64> {
    read(group, file)?.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == name).then(|| value.trim().parse().ok())?
    })
}

fn read(group: Option<&Path>, file: &str) -> Option<String> {
    let path: PathBuf = group?.join(file);
    fs::read_to_string(path).ok()
}
