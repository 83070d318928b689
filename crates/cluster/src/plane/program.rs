//! A program of the control plane as a child process that ends with us, also when we are killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::io;
use crate::{Error, Result};

/// How much of a log stands in an error.
const LAST_LINES: usize = 15;

#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it, its output going to `NAME.log` in the folder. The kernel kills it when the
    /// calling thread ends, so this is to be called on a thread that lives as long as it should.
    pub(crate) fn start(
        name: &'static str,
        path: &Path,
        arguments: &[String],
        folder: &Path,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(io(format!("open the log of {name}")))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(path)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.0)
            .stderr(output.1)
            .spawn()
            .map_err(io(format!("start {name}")))?;
        Ok(Self { name, child, log })
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|errno| io(format!("signal {}", self.name))(errno.into()))
    }

    /// An error with the end of its log once it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(Error::Ended { program: self.name, log: self.last_words() }),
            Err(error) => Err(io(format!("ask for {}", self.name))(error)),
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn end(mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(io(format!("end {}", self.name)))
    }
}
