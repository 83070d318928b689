//! Where and of what a figure was measured: a figure without these says nothing.

use std::process::Command;

use jitney::clock::process_now;
use serde::{Deserialize, Serialize};

use crate::Done;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// UTC, to the minute.
    pub(crate) at: String,
    /// `-dirty` after it: the tree held changes that are in no commit.
    pub(crate) commit: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// Whether the world and the program each had a core of their own.
    pub(crate) apart: bool,
    pub(crate) kernel: String,
    pub(crate) memory: String,
    /// Over the last minute, as the measurement began.
    pub(crate) load: String,
}

impl Setting {
    /// As things stand now.
    pub(crate) fn read(apart: bool) -> Done<Self> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let models = || cpuinfo.lines().filter_map(|line| value(line, "model name"));
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let kib = meminfo.lines().find_map(|line| value(line, "MemTotal")).ok_or("no memory")?;
        let kib: f64 = kib.trim_end_matches(" kB").parse()?;
        let load = std::fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            at: process_now().strftime("%Y-%m-%d %H:%M").to_string(),
            commit: commit()?,
            processor: models().next().unwrap_or("unknown").to_owned(),
            cores: cpuinfo.lines().filter_map(|line| value(line, "processor")).count(),
            apart,
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            memory: format!("{:.1} GiB", kib / 1024.0 / 1024.0),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let Self { at, commit, processor, cores, kernel, memory, load, apart } = self;
        let shared = if *apart { "" } else { ", shared by the world and the program" };
        format!(
            "{at} UTC, commit {commit}; {cores} cores of {processor}{shared}, {memory}, \
             Linux {kernel}, load average {load} at the start"
        )
    }
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    (found.trim() == name).then(|| value.trim())
}

fn commit() -> Done<String> {
    let git = |args: &[&str]| -> Done<String> {
        let out = Command::new("git").args(["-c", "safe.directory=*"]).args(args).output()?;
        if !out.status.success() {
            let words = String::from_utf8_lossy(&out.stderr).into_owned();
            return Err(format!("git {}: {words}", args.join(" ")).into());
        }
        Ok(String::from_utf8(out.stdout)?.trim().to_owned())
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    // What the benchmarks themselves write is no change to what is measured.
    let changed = git(&["status", "--porcelain", "--", ":!docs"])?;
    Ok(if changed.is_empty() { head } else { format!("{head}-dirty") })
}
