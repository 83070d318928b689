//! The JSON of the agent API as an agent reads and writes it: only the fields that it needs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};

/// The reply to `POST register`.
#[derive(Clone, Debug, Deserialize)]
pub struct Registered {
    pub name: String,
    #[serde(deserialize_with = "conceal")]
    pub access_token: SecretString,
    /// Where the rest of the session goes.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Seconds; a server must not send 0.
    pub job_status_interval: u64,
    pub heartbeat_interval: u64,
}

/// The reply to `PUT jobs/:id/acquire`. Its environment may hold secrets.
#[derive(Clone, Deserialize)]
pub struct Job {
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub token: Option<String>,
    pub chunks_max_size_bytes: usize,
    #[serde(default)]
    pub chunks_interval_seconds: u64,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

/// The reply to `GET jobs/:id`.
#[derive(Clone, Debug, Deserialize)]
pub struct JobNow {
    pub state: String,
}

impl JobNow {
    /// Whether the server wants the job to stop.
    #[must_use]
    pub fn wants_stop(&self) -> bool {
        matches!(self.state.as_str(), "canceling" | "canceled" | "timing_out" | "timed_out")
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Beat {
    pub(super) sent_at: Timestamp,
}

/// The body of `PUT jobs/:id/finish`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finish {
    /// A whole number as a text, `-1` where there is none.
    pub exit_status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_reason: Option<String>,
    pub finished_at: Timestamp,
    pub chunks_failed_count: u64,
}

fn conceal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}
