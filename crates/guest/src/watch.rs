//! The loop around a running agent: one `poll` over signals, the agent's log and a timer, and the
//! steps from "stop" to "nothing is alive". It knows the agent by its process id alone.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::clock;
use crate::report::Cause;
use crate::signals::Signals;
use crate::tail::{Sign, Tail};

/// Between the agent's two SIGTERMs: the first means "finish your job", the second "now". Two at
/// once would be one.
const BETWEEN_TERMS: Duration = Duration::from_millis(100);
/// For an agent that has no session yet: there is no job that would want its grace, and old agents
/// try for minutes, deaf to signals.
const GRACE_WITHOUT_JOB: Duration = Duration::from_secs(2);
/// How much of the agent's log is read at once.
const CHUNK: usize = 16 << 10;
/// And how often in a row: who writes without end must not keep us from signals and the deadline.
const CHUNKS: usize = 8;

/// How far the stopping of the agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    /// It had one SIGTERM.
    Asked {
        cause: Cause,
        again_at: Duration,
        kill_at: Duration,
    },
    /// It had both.
    Told {
        cause: Cause,
        kill_at: Duration,
    },
    Killed {
        cause: Cause,
    },
}

/// Watches one agent until it is gone.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    pub(crate) signals: &'a Signals,
    pub(crate) agent: Pid,
    pub(crate) log: OwnedFd,
    pub(crate) tail: Tail,
    /// Both since the boot.
    pub(crate) deadline: Duration,
    pub(crate) grace: Duration,
    timer: OwnedFd,
    stopping: Stopping,
    nudged: bool,
    /// Its log says so.
    leaving: bool,
    /// Its log says so; where the log says nothing, it may have a job.
    jobless: bool,
    log_open: bool,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        signals: &'a Signals,
        agent: Pid,
        log: OwnedFd,
        tail: Tail,
        deadline: Duration,
        grace: Duration,
    ) -> rustix::io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self {
            signals,
            agent,
            log,
            tail,
            deadline,
            grace,
            timer,
            stopping: Stopping::No,
            nudged: false,
            leaving: false,
            jobless: false,
            log_open: true,
        })
    }

    /// Returns why the agent is gone. `registered` is called when its log says that it has.
    pub(crate) fn until_gone(&mut self, mut registered: impl FnMut()) -> rustix::io::Result<Cause> {
        loop {
            if let Some(status) = reap(self.agent) {
                self.read_log(&mut registered);
                return Ok(self.cause(status));
            }
            self.step(clock::since_boot());
            self.sleep()?;
            self.read_log(&mut registered);
            if self.signals.take_stop() && self.stopping == Stopping::No {
                self.ask(Cause::Stopped);
            }
            if self.signals.take_nudge() {
                self.nudge();
            }
            self.signals.take_child();
        }
    }

    /// What is due now.
    fn step(&mut self, now: Duration) {
        match self.stopping.clone() {
            Stopping::No if now >= self.deadline => self.ask(Cause::Deadline),
            Stopping::Asked { cause, again_at, kill_at } if now >= again_at => {
                self.signal(Signal::TERM);
                self.stopping = Stopping::Told { cause, kill_at };
            }
            Stopping::Told { cause, kill_at } if now >= kill_at => {
                self.signal(Signal::KILL);
                self.stopping = Stopping::Killed { cause };
            }
            Stopping::No | Stopping::Asked { .. } | Stopping::Told { .. } => {}
            Stopping::Killed { .. } => {}
        }
    }

    fn ask(&mut self, cause: Cause) {
        self.signal(Signal::TERM);
        let now = clock::since_boot();
        let again_at = if self.nudged { now } else { now + BETWEEN_TERMS };
        let grace = if self.jobless { self.grace.min(GRACE_WITHOUT_JOB) } else { self.grace };
        self.stopping = Stopping::Asked { cause, again_at, kill_at: now + grace };
    }

    /// An agent whose job has finished may linger until its next ping; one SIGTERM ends that, and
    /// would do a running job no harm. One that leaves already gets none: agents panic at a signal
    /// in their last moments, before their `agent-shutdown` hook.
    fn nudge(&mut self) {
        if !self.nudged && !self.leaving && self.stopping == Stopping::No {
            self.nudged = true;
            self.signal(Signal::TERM);
        }
    }

    fn signal(&self, signal: Signal) {
        // It is our child and not reaped yet, so the number is still its own; a refusal can only
        // mean that it is dead.
        let _ = kill_process(self.agent, signal);
    }

    fn sleep(&self) -> rustix::io::Result<()> {
        let due = match &self.stopping {
            Stopping::No => Some(self.deadline),
            Stopping::Asked { again_at, .. } => Some(*again_at),
            Stopping::Told { kill_at, .. } => Some(*kill_at),
            Stopping::Killed { .. } => None,
        };
        self.set_timer(due)?;
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.stop_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.nudge_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.child_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.timer.as_fd(), PollFlags::IN),
        ];
        if self.log_open {
            fds.push(PollFd::from_borrowed_fd(self.log.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn set_timer(&self, due: Option<Duration>) -> rustix::io::Result<()> {
        // All zero would disarm it; a time that is past fires at once.
        let due = due.map(|due| due.max(Duration::from_nanos(1))).unwrap_or_default();
        let it_value = Timespec {
            tv_sec: i64::try_from(due.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: due.subsec_nanos().into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let new = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &new).map(drop)
    }

    fn read_log(&mut self, registered: &mut impl FnMut()) {
        let mut bytes = [0; CHUNK];
        let mut finished = false;
        for _ in 0..CHUNKS {
            if !self.log_open {
                break;
            }
            let count = match rustix::io::read(&self.log, &mut bytes) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                // Empty for now; and of any other error there will be no more log.
                Err(error) => {
                    self.log_open = error == Errno::AGAIN;
                    break;
                }
            };
            self.log_open = count > 0;
            for sign in self.tail.push(&bytes[..count]) {
                match sign {
                    Sign::Registering => self.jobless = true,
                    Sign::Registered => {
                        self.jobless = false;
                        registered();
                    }
                    Sign::JobFinished => finished = true,
                    Sign::Leaving => self.leaving = true,
                }
            }
        }
        if finished {
            self.nudge();
        }
    }

    fn cause(&self, status: WaitStatus) -> Cause {
        match self.stopping.clone() {
            Stopping::No => {}
            Stopping::Asked { cause, .. }
            | Stopping::Told { cause, .. }
            | Stopping::Killed { cause } => return cause,
        }
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Cause::Exited { code },
            (None, Some(signal)) => Cause::Signaled { signal },
            (None, None) => Cause::Exited { code: -1 },
        }
    }
}

/// Reaps all dead children, the adopted ones too; the status of `agent` if it is among them.
pub(crate) fn reap(agent: Pid) -> Option<WaitStatus> {
    let mut found = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == agent {
            found = Some(status);
        }
    }
    found
}
