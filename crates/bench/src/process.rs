//! The processes of a measurement: started, looked at through `/proc`, killed. They end with their
//! owner.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Done;
use crate::cores::Cores;

/// `_SC_CLK_TCK` on every Linux that there is.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

/// What `jitney` is called with: nothing of this process's environment reaches it.
pub(crate) fn jitney(args: &[&str], home: &Path) -> Done<Command> {
    let program = program()?;
    let mut command = Command::new(&program);
    command.args(args).env_clear().env("HOME", home);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    Ok(command)
}

/// What is shipped is built beside this one, and takes longer.
fn program() -> Done<PathBuf> {
    let here = std::env::current_exe()?;
    let target = here.parent().and_then(Path::parent).ok_or("there is no folder of builds")?;
    let program = target.join("dist/jitney");
    if !program.is_file() {
        let shown = program.display();
        return Err(format!("{shown} is not there: cargo build --profile dist -p jitney").into());
    }
    Ok(program)
}

impl Process {
    pub(crate) fn measured(cores: Cores, mut command: Command) -> Done<Self> {
        Ok(Self { child: cores.start_measured(&mut command)? })
    }

    /// Wherever this thread may run.
    pub(crate) fn start(mut command: Command) -> Done<Self> {
        Ok(Self { child: command.spawn()? })
    }

    /// On the core of this thread. Waits for the first line in which the look finds something.
    pub(crate) fn of_world<T>(
        mut command: Command,
        look: impl Fn(&str) -> Option<T>,
    ) -> Done<(Self, T)> {
        command.stdout(Stdio::piped());
        let mut process = Self { child: command.spawn()? };
        let out = process.child.stdout.take().ok_or("its output is not piped")?;
        for line in BufReader::new(out).lines() {
            if let Some(found) = look(&line?) {
                return Ok((process, found));
            }
        }
        Err("it ended without a word of where it serves".into())
    }

    /// As `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Done<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Resident memory now.
    pub(crate) fn memory(&self) -> Done<f64> {
        mib(&self.file("status")?, "VmRSS:")
    }

    /// The most that it ever was.
    pub(crate) fn peak_memory(&self) -> Done<f64> {
        mib(&self.file("status")?, "VmHWM:")
    }

    /// Seconds of a processor, user's and system's.
    pub(crate) fn processor(&self) -> Done<f64> {
        processor_seconds(&self.file("stat")?)
    }

    fn file(&self, name: &str) -> Done<String> {
        let path = format!("/proc/{}/{name}", self.child.id());
        std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}").into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is what is wanted.
        let _ = self.kill();
    }
}

/// Seconds of a processor that this very process has used.
pub(crate) fn own_processor() -> Done<f64> {
    processor_seconds(&std::fs::read_to_string("/proc/self/stat")?)
}

/// How long this thread has been at work, to the nanosecond: what `/proc` says of a thread that runs
/// is as old as the last tick of the system's clock.
pub(crate) fn thread_processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn mib(status: &str, name: &str) -> Done<f64> {
    let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib / 1024.0)
}

/// The name of the program stands in brackets and may hold anything.
fn processor_seconds(stat: &str) -> Done<f64> {
    let (_, fields) = stat.rsplit_once(") ").ok_or("an odd stat file")?;
    let mut fields = fields.split(' ').skip(11);
    let mut next = || -> Done<f64> { Ok(fields.next().ok_or("a short stat file")?.parse()?) };
    Ok((next()? + next()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_says_of_a_process() {
        let status = "Name:\tjitney\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(mib(status, "VmRSS:").unwrap(), 10.0);
        assert_eq!(mib(status, "VmHWM:").unwrap(), 20.0);
        assert!(mib(status, "VmSwap:").is_err());
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0";
        assert_eq!(processor_seconds(stat).unwrap(), 4.0);
        assert!(processor_seconds("7 (jitney) S 1").is_err());
    }
}
