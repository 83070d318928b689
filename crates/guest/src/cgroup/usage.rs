//! What a machine's groups have counted: CPU time, peak of memory, kills for want of memory; and
//! how much memory is in use now.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Groups;
use crate::report::Usage;

impl Groups {
    /// Fields that no group counts are empty.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let kills = field(self.v2.as_deref(), "memory.events", "oom_kill")
            .or_else(|| field(self.single("memory"), "memory.oom_control", "oom_kill"));
        Usage {
            cpu_seconds: self.cpu_micros().map(seconds),
            peak_memory_bytes: self.memory_peak(),
            oom_killed: kills.is_some_and(|count| count > 0),
        }
    }

    /// Kernels before 5.19 do not count it in version 2.
    pub(crate) fn memory_peak(&self) -> Option<u64> {
        number(self.v2.as_deref(), "memory.peak")
            .or_else(|| number(self.single("memory"), "memory.max_usage_in_bytes"))
    }

    /// The most that may be in use; none where that is unlimited.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        let limit = number(self.v2.as_deref(), "memory.max")
            .or_else(|| number(self.single("memory"), "memory.limit_in_bytes"));
        limit.filter(|bytes| *bytes < UNLIMITED)
    }

    /// What tells how much memory is in use, where any group counts it.
    pub(crate) fn memory_gauge(&self) -> Option<Gauge> {
        let counted = [(self.v2.as_deref(), "memory.current")]
            .into_iter()
            .chain([(self.single("memory"), "memory.usage_in_bytes")]);
        let mut files = counted.filter_map(|(group, file)| File::open(group?.join(file)).ok());
        files.next().map(Gauge)
    }

    fn cpu_micros(&self) -> Option<u64> {
        let v1 = number(self.single("cpuacct"), "cpuacct.usage").map(|nanos| nanos / 1000);
        v1.or_else(|| field(self.v2.as_deref(), "cpu.stat", "usage_usec"))
    }
}

/// As much as version 1 says where there is no limit, in pages of any size.
const UNLIMITED: u64 = 1 << 62;
/// The longest number with its end of line.
const LONGEST_NUMBER: usize = 24;

/// An open file that says anew with each reading how much memory is in use, page cache included.
#[derive(Debug)]
pub(crate) struct Gauge(File);

impl Gauge {
    pub(crate) fn bytes(&self) -> Option<u64> {
        let mut text = [0; LONGEST_NUMBER];
        let length = self.0.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
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
