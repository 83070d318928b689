//! What this host has: the capacity of a process backend that is not told another one.

use planner::Arch;

/// What jobs on this host can have in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    /// None: an architecture that has no word of ours.
    pub arch: Option<Arch>,
    /// Whether this process is root.
    pub root: bool,
}

/// Why the host could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("failed to count this host's processors; set backends.NAME.process.capacity.cpu: {0}")]
    Processors(std::io::Error),
    #[error("failed to read this host's memory; set backends.NAME.process.capacity.memory: {0}")]
    Memory(std::io::Error),
}

impl Host {
    /// Asks the operating system; the processors are those that this process may use.
    pub fn measure() -> Result<Self, HostError> {
        let processors = std::thread::available_parallelism().map_err(HostError::Processors)?.get();
        let memory = std::fs::read_to_string("/proc/meminfo")
            .and_then(|text| {
                total_memory(&text).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
            })
            .map_err(HostError::Memory)?;
        // In a container the host's memory is not ours; without this file there is no such bound.
        let bound = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok());
        let memory_bytes = bound.map_or(memory, |bound| bound.min(memory));
        Ok(Self {
            cpu_millis: u32::try_from(processors).unwrap_or(u32::MAX).saturating_mul(1000),
            memory_bytes,
            arch: arch(std::env::consts::ARCH),
            root: rustix::process::geteuid().is_root(),
        })
    }
}

/// `MemTotal:       16314600 kB`, in bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn arch(name: &str) -> Option<Arch> {
    match name {
        "x86_64" => Some(Arch::Amd64),
        "aarch64" => Some(Arch::Arm64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_something() {
        let host = Host::measure().unwrap();
        assert!(host.cpu_millis >= 1000, "{host:?}");
        assert!(host.memory_bytes >= 64 << 20, "{host:?}");
    }

    #[test]
    fn memory_as_the_kernel_says() {
        assert_eq!(total_memory("MemTotal:   16 kB\nMemFree: 1 kB\n"), Some(16 * 1024));
        assert_eq!(total_memory("MemFree: 1 kB\n"), None);
        assert_eq!(total_memory("MemTotal: many kB\n"), None);
    }

    #[test]
    fn architectures() {
        assert_eq!(arch("x86_64"), Some(Arch::Amd64));
        assert_eq!(arch("aarch64"), Some(Arch::Arm64));
        assert_eq!(arch("riscv64"), None);
    }
}
