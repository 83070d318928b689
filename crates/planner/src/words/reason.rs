//! Why a job waits, and what its developer is told of it.

use std::fmt;

use crate::shape::spell_duration;
use crate::{Bound, CutShort, FailureClass, Hold, Notice, Reason, Scope, Timestamp};

use super::{line, open_ended};

impl Reason {
    /// As metrics and JSON name it: the same word that it has where it is serialized.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Limit { .. } => "limit",
            Self::CreateRate { .. } => "create_rate",
            Self::QueuePaused => "queue_paused",
            Self::Draining => "draining",
            Self::JournalFull => "journal_full",
            Self::BuildkiteUnreachable => "buildkite_unreachable",
            Self::BackendUnreachable { .. } => "backend_unreachable",
            Self::CoolingDown { .. } => "cooling_down",
            Self::BackingOff { .. } => "backing_off",
            Self::TwoInstallations { .. } => "two_installations",
            Self::LookingUp { .. } => "looking_up",
            Self::Reserving => "reserving",
            Self::Creating { .. } => "creating",
            Self::Starting { .. } => "starting",
            Self::AgentConnected { .. } => "agent_connected",
            Self::Removing { .. } => "removing",
            Self::LeaseLapsing => "lease_lapsing",
            Self::Failing => "failing",
            Self::Foreign { .. } => "foreign",
        }
    }

    /// One line, at most 255 bytes. `now` is when it is read: what is due later says how much later.
    #[must_use]
    pub fn sentence(&self, now: Timestamp) -> String {
        line(&self.text(now))
    }

    fn text(&self, now: Timestamp) -> String {
        match self {
            Self::Limit { scope, limit } => match limit.words() {
                Some(limit) => format!("Waiting for room: {scope} has reached its limit of {limit}"),
                None => {
                    format!("Waiting for room: a larger job before it takes what {scope} has left")
                }
            },
            Self::CreateRate { backend } => {
                format!(
                    "Waiting for its turn: backend {backend} takes no more new machines just now"
                )
            }
            Self::QueuePaused => {
                "The queue is paused in Buildkite; jobs start when somebody resumes it".into()
            }
            Self::Draining => {
                "Jitney is being drained and starts no new jobs until its operator says `jitney drain --resume`"
                    .into()
            }
            Self::JournalFull => "Jitney cannot write its journal and starts no new jobs; its \
                                  operator has to make room on the disk"
                .into(),
            Self::BuildkiteUnreachable => {
                "Jitney cannot reach Buildkite; jobs start as soon as it answers".into()
            }
            Self::BackendUnreachable { backend, words } => format!(
                "Backend {backend} cannot be reached; jobs start as soon as it answers: {}",
                open_ended(words)
            ),
            Self::CoolingDown { backend, failure, until } => {
                format!("Backend {backend} is tried again {}: {failure}", in_time(*until, now))
            }
            Self::BackingOff { failure, until } => {
                format!("Another machine is made {}: {failure}", in_time(*until, now))
            }
            Self::TwoInstallations { instance } => format!(
                "Another Jitney with the same name is at work (instance {instance}); the operator \
                 has to stop it or rename one of the two"
            ),
            Self::LookingUp { policies, words } => looking_up(policies, words.as_deref()),
            Self::Reserving => "Being reserved in Buildkite".into(),
            Self::Creating { backend } => {
                format!("A machine is asked for on {backend}; the answer is not there yet")
            }
            Self::Starting { backend, note: None } => {
                format!("Its machine on {backend} is starting")
            }
            Self::Starting { backend, note: Some(note) } => {
                format!("Its machine on {backend} is starting: {}", open_ended(note))
            }
            Self::AgentConnected { backend } => {
                format!("Its agent on {backend} has connected and is about to take the job")
            }
            Self::Removing { backend } => format!(
                "The machine of an earlier attempt on {backend} is being removed; then another is \
                 made"
            ),
            Self::LeaseLapsing => "Its machine is gone and its reservation was left behind; it \
                                   starts when the reservation lapses"
                .into(),
            Self::Failing => "Being failed; the reason follows in a moment".into(),
            Self::Foreign { tag, nearest: None } => {
                format!("Left to other agents: ours do not carry {tag}")
            }
            Self::Foreign { tag, nearest: Some(nearest) } => {
                format!("Left to other agents: ours do not carry {tag}. Did you mean {nearest}?")
            }
        }
    }

    /// Whether it waits in line: then its place says something.
    const fn in_line(&self) -> bool {
        match self {
            Self::Limit { .. }
            | Self::CreateRate { .. }
            | Self::QueuePaused
            | Self::Draining
            | Self::JournalFull
            | Self::BuildkiteUnreachable
            | Self::BackendUnreachable { .. }
            | Self::CoolingDown { .. }
            | Self::TwoInstallations { .. } => true,
            Self::BackingOff { .. }
            | Self::LookingUp { .. }
            | Self::Reserving
            | Self::Creating { .. }
            | Self::Starting { .. }
            | Self::AgentConnected { .. }
            | Self::Removing { .. }
            | Self::LeaseLapsing
            | Self::Failing
            | Self::Foreign { .. } => false,
        }
    }
}

impl Bound {
    /// What there is a limit of, as people say it.
    const fn words(self) -> Option<&'static str> {
        match self {
            Self::Machines => Some("machines"),
            Self::Cpu => Some("vCPU"),
            Self::Memory => Some("memory"),
            Self::CostPerHour => Some("cost per hour"),
            Self::Turn => None,
        }
    }
}

impl Hold {
    /// The reason, with the job's place where it waits in line.
    #[must_use]
    pub fn sentence(&self, now: Timestamp) -> String {
        placed(&self.reason, self.ahead, now)
    }
}

impl Notice {
    /// As metrics and JSON name it.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Made { .. } => "made",
            Self::Assumed { .. } => "assumed",
            Self::Replaced { .. } => "replaced",
            Self::NotRetried { .. } => "not_retried",
            Self::Retrying { .. } => "retrying",
            Self::CutShort { .. } => "cut_short",
        }
    }

    /// What the developer reads: one line, at most 255 bytes. `at` is when it is told.
    #[must_use]
    pub fn sentence(&self, at: Timestamp) -> String {
        match self {
            Self::Waiting { reason, ahead } => placed(reason, *ahead, at),
            Self::Made { name, backend, machine, attempt, after } => {
                let machine = match &**machine {
                    "" => String::new(),
                    machine => format!(" ({machine})"),
                };
                let attempt = match attempt {
                    0 | 1 => String::new(),
                    number => format!(", attempt {number}"),
                };
                let before = match after {
                    Some(failure) => format!(". Before: {failure}"),
                    None => String::new(),
                };
                line(&format!(
                    "Machine {name}{machine} is made on {backend}{attempt}; its agent is starting{before}"
                ))
            }
            Self::Assumed { why } => line(&format!(
                "Where its build comes from is not known, so that policies on it count as if they \
                 matched: {}",
                open_ended(why)
            )),
            Self::Replaced { by } => {
                line(&format!("It was lost with its machine: job {by} takes its place"))
            }
            Self::NotRetried { why } => {
                line(&format!("It was lost with its machine and is not retried: {why}"))
            }
            Self::Retrying { attempt, of, failure } => {
                // What a place refuses uses up none of them.
                let free = matches!(failure.class, FailureClass::Capacity | FailureClass::Quota);
                let of = if free || attempt > of { String::new() } else { format!(" of {of}") };
                line(&format!(
                    "Attempt {attempt}{of} came to nothing, another machine is made: {failure}"
                ))
            }
            Self::CutShort { attempt: _, why } => line(&why.to_string()),
        }
    }
}

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory { memory, ran } => {
                let ran = ran.as_ref().map(|ran| format!(", and ran {ran}"));
                let ran = ran.unwrap_or_default();
                write!(
                    f,
                    "The kernel killed something of this job for want of memory: its machine has {memory}{ran}. Ask for more with the tag memory"
                )
            }
            Self::Deadline => f.write_str(
                "The machine was stopped at its deadline: all the time that the job may take is used up. Ask for more with the tag time",
            ),
            Self::Lost { cause } => write!(
                f,
                "Its machine ended under it: {cause}. Buildkite ends the job when it misses the agent"
            ),
            Self::Taken { cause } => {
                write!(f, "Its machine was taken away: {cause}. The job ends with it")
            }
            Self::Silent { cause } => write!(
                f,
                "Its machine may be lost: {cause}. The job goes on if the machine comes back; else Buildkite ends it when it misses the agent"
            ),
        }
    }
}

/// The reason, and how many come before: the place is never cut off.
fn placed(reason: &Reason, ahead: Option<u32>, now: Timestamp) -> String {
    let place = match ahead.filter(|_| reason.in_line()) {
        None => return reason.sentence(now),
        Some(0) => " (next in line)".to_string(),
        Some(1) => " (1 job before it)".to_string(),
        Some(jobs) => format!(" ({jobs} jobs before it)"),
    };
    super::crop(&reason.text(now), super::LINE - place.len()) + &place
}

/// Policies are counted from one, as the configuration is read.
fn looking_up(policies: &[usize], failed: Option<&str>) -> String {
    let numbers: Vec<String> =
        policies.iter().map(|index| index.saturating_add(1).to_string()).collect();
    let asks = match numbers.as_slice() {
        [] => "A policy asks".into(),
        [only] => format!("Policy {only} asks"),
        [first @ .., last] => format!("Policies {} and {last} ask", first.join(", ")),
    };
    let so_far = match failed {
        None => "Buildkite is asked".into(),
        Some(words) => format!("Buildkite has not told yet: {}", open_ended(words)),
    };
    format!("{asks} where its build comes from, and {so_far}")
}

/// `in 12s`, to the second and rounded up; `at once` where it is due.
fn in_time(until: Timestamp, now: Timestamp) -> String {
    let seconds = until.since(now).as_millis().div_ceil(1000);
    match u64::try_from(seconds) {
        Ok(0) => "at once".into(),
        Ok(seconds) => format!("in {}", spell_duration(std::time::Duration::from_secs(seconds))),
        Err(_) => "much later".into(),
    }
}

impl Scope {
    /// As metrics and JSON name it.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queue(_) => "queue",
            Self::Policy(_) => "policy",
            Self::Backend(_) => "backend",
        }
    }
}

/// `queue jit`; policies are counted from one, as the configuration is read.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("this Jitney"),
            Self::Queue(queue) => write!(f, "queue {queue}"),
            Self::Policy(index) => write!(f, "policy {}", index.saturating_add(1)),
            Self::Backend(backend) => write!(f, "backend {backend}"),
        }
    }
}
