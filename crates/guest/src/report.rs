//! What a guest is told (`Orders`) and what it writes down (`Report`): the only types that others
//! know of it. Both are JSON files; the token never stands in either.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `orders.json`: everything that the guest has to know about its one agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Orders {
    pub job: Uuid,
    /// The agent's program; its file name must be `buildkite-agent`, jobs call it by that name.
    pub agent: PathBuf,
    /// The agent's name: not empty, and a folder in the build path.
    pub agent_name: String,
    /// Where agents register, e.g. `https://agent.buildkite.com/v3`.
    pub endpoint: String,
    /// `key=value` tags that the agent registers with.
    pub tags: Vec<String>,
    /// A `buildkite-agent.cfg` of the operator's, for hooks, plugins and experiments.
    #[serde(default)]
    pub agent_config: Option<PathBuf>,
    /// The whole environment of the agent beside what the guest itself sets; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// The agent and everything below it is stopped at this moment at the latest.
    pub deadline: Timestamp,
    /// The same counted from the guest's start. The lesser of both holds at the start; from then on
    /// only time that passes counts, however the wall clock is set.
    #[serde(default)]
    pub lifetime_s: Option<u64>,
    /// From the order to stop until everything that is still alive is killed. The agent gives its
    /// job 10 s by default, so less than that takes the agent's last words away.
    #[serde(default = "default_grace_s")]
    pub grace_s: u64,
    #[serde(default)]
    pub token_by: TokenBy,
    /// Run the agent as this user (needs root).
    #[serde(default)]
    pub user: Option<String>,
    /// Limits to put on the agent and all that it starts, where the machine can.
    #[serde(default)]
    pub cpu_millis: Option<u32>,
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Whether to refuse to run when the limits cannot be enforced.
    #[serde(default)]
    pub isolate: Isolate,
}

fn default_grace_s() -> u64 {
    15
}

/// How the agent gets its token. It is never an argument and never a file that stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenBy {
    /// `BUILDKITE_AGENT_TOKEN`; agents from 3.133 on take it out of their environment themselves.
    #[default]
    Environment,
    /// A configuration that the agent reads from a pipe: for agents that would leave the token in
    /// their environment, where the job can read it. `agent_config` goes through the same pipe.
    Config,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolate {
    /// Control groups where permitted, process groups and a subreaper elsewhere.
    #[default]
    Auto,
    Require,
    Never,
}

/// `report.json`: replaced as a whole at each change of phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub phase: Phase,
    pub started_at: Timestamp,
    /// When the agent said that it had registered, where its log tells.
    #[serde(default)]
    pub connected_at: Option<Timestamp>,
    #[serde(default)]
    pub ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The guest runs, its agent has not registered yet.
    Booting,
    /// The agent has registered.
    Connected,
    /// The agent has left and nothing of it is alive.
    Ended,
}

/// How the agent ended, and what it had used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub at: Timestamp,
    pub cause: Cause,
    /// The last lines of the agent's own log (not the job's), for an agent that never connected.
    pub log_tail: String,
    #[serde(default)]
    pub usage: Usage,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Cause {
    /// The agent left by itself; its code proves nothing about the job.
    Exited { code: i32 },
    /// The agent was killed by a signal that was not ours.
    Signaled { signal: i32 },
    /// The guest stopped it at the deadline.
    Deadline,
    /// The guest was told to stop it.
    Stopped,
    /// The agent could not be started.
    NotStarted { reason: String },
    /// The guest itself died; nothing more is known.
    GuestLost,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "the agent exited with {code}"),
            Self::Signaled { signal } => write!(f, "the agent was killed by signal {signal}"),
            Self::Deadline => f.write_str("the machine's deadline was reached"),
            Self::Stopped => f.write_str("the agent was stopped on request"),
            Self::NotStarted { reason } => {
                write!(f, "the agent could not be started: {reason}")
            }
            Self::GuestLost => f.write_str("the guest was killed; nothing more is known"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub cpu_seconds: Option<f64>,
    pub peak_memory_bytes: Option<u64>,
    /// Whether the kernel killed something of the job for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
}
