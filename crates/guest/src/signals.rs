//! Signals as bytes in pipes, so that one `poll` waits for everything. It decides nothing.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;

#[derive(Debug)]
pub(crate) struct Signals {
    /// TERM, INT, QUIT: stop the agent now.
    stop: UnixStream,
    /// USR1: the job has finished, an agent that lingers may go.
    nudge: UnixStream,
    child: UnixStream,
    /// HUP is caught only in order not to die of it.
    _hangup: UnixStream,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            stop: caught(&[SIGTERM, SIGINT, SIGQUIT])?,
            nudge: caught(&[SIGUSR1])?,
            child: caught(&[SIGCHLD])?,
            _hangup: caught(&[SIGHUP])?,
        })
    }

    pub(crate) fn stop_fd(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    pub(crate) fn nudge_fd(&self) -> BorrowedFd<'_> {
        self.nudge.as_fd()
    }

    pub(crate) fn child_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }

    pub(crate) fn take_stop(&self) -> bool {
        drain(&self.stop)
    }

    pub(crate) fn take_nudge(&self) -> bool {
        drain(&self.nudge)
    }

    pub(crate) fn take_child(&self) -> bool {
        drain(&self.child)
    }
}

fn caught(signals: &[i32]) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

/// Whether anything was in the pipe. Errors of a nonblocking read mean that it is empty.
fn drain(mut stream: &UnixStream) -> bool {
    let mut bytes = [0; 64];
    let mut any = false;
    while matches!(stream.read(&mut bytes), Ok(count) if count > 0) {
        any = true;
    }
    any
}
