//! The JSON of the REST API, as both ends of the wire see it. Only `id` and `state` of a job are
//! relied on: everything else may be absent, as it is of steps that run nothing.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a token must be allowed for which calls.
pub mod scope {
    /// Builds, jobs and annotations, to look at.
    pub const READ_BUILDS: &str = "read_builds";
    /// Retries, annotations, cancels.
    pub const WRITE_BUILDS: &str = "write_builds";
}

/// A job. `state` is spelled as elsewhere, but for `finished`: that is `passed` or `failed` here.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    pub id: Uuid,
    pub graphql_id: Option<String>,
    /// `script` for a command, `manual` for a block, `waiter` for a wait.
    #[serde(rename = "type")]
    pub kind: String,
    pub name: Option<String>,
    pub step_key: Option<String>,
    pub step: Option<Step>,
    pub priority: Option<Priority>,
    /// `key=value` texts.
    pub agent_query_rules: Vec<String>,
    pub state: String,
    pub build_url: Option<String>,
    pub web_url: Option<String>,
    pub log_url: Option<String>,
    pub raw_log_url: Option<String>,
    pub artifacts_url: Option<String>,
    pub command: Option<String>,
    pub soft_failed: bool,
    pub exit_status: Option<i32>,
    pub signal: Option<String>,
    /// `agent_stop`, `stack_error`, …; absent where an agent was lost.
    pub signal_reason: Option<String>,
    pub broken_reason: Option<String>,
    pub artifact_paths: Option<String>,
    pub agent: Option<Agent>,
    pub created_at: Option<Timestamp>,
    pub scheduled_at: Option<Timestamp>,
    pub runnable_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub expired_at: Option<Timestamp>,
    pub concurrency_wait_time_ms: Option<u64>,
    /// Whether another job has taken this one's place, by rule or by request.
    pub retried: bool,
    /// The job that has.
    pub retried_in_job_id: Option<Uuid>,
    /// How many retries led to this job.
    pub retries_count: Option<u32>,
    /// Of which job this one is the retry.
    pub retry_source: Option<RetrySource>,
    /// How it was retried: `automatic` or `manual`.
    pub retry_type: Option<String>,
    pub parallel_group_index: Option<u32>,
    pub parallel_group_total: Option<u32>,
    pub matrix: Option<serde_json::Value>,
    pub cluster_id: Option<Uuid>,
    pub cluster_url: Option<String>,
    pub cluster_queue_id: Option<Uuid>,
    pub cluster_queue_url: Option<String>,
}

/// The command may hold secrets of the pipeline, so it is not printed.
impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("exit_status", &self.exit_status)
            .field("signal_reason", &self.signal_reason)
            .field("retried_in_job_id", &self.retried_in_job_id)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub id: Option<Uuid>,
    pub signature: Option<serde_json::Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Priority {
    pub number: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrySource {
    pub job_id: Uuid,
    /// `automatic` or `manual`.
    pub retry_type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agent {
    pub id: Uuid,
    pub name: String,
    pub hostname: Option<String>,
    /// `connected`, `disconnected`, `stopping`, `stopped`, `lost` or `never_connected`.
    pub connection_state: String,
    pub version: Option<String>,
    /// Its tags, `key=value`.
    pub meta_data: Vec<String>,
    pub created_at: Option<Timestamp>,
}

/// A note for people, to be put on a build's or a job's page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NewAnnotation {
    /// Markdown, at most 1 MiB.
    pub body: String,
    /// `success`, `info`, `warning` or `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
    /// Its name: a page has one annotation per context; `default` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Adds to the one with the same context in place of replacing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append: Option<bool>,
    /// 1 to 10, higher ones first; 3 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    pub id: Uuid,
    pub context: String,
    pub style: Option<String>,
    /// `build` or `job`.
    #[serde(default)]
    pub scope: String,
    /// Which job, of scope `job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<Uuid>,
    #[serde(default)]
    pub priority: Option<u32>,
    pub body_html: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `GET /access-token`: whose token it is. Its times are texts that are no RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessToken {
    pub uuid: Uuid,
    /// What it may do, as `read_builds`.
    pub scopes: Vec<String>,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(default)]
    pub expires_at: Option<String>,
    #[serde(default)]
    pub user: Option<User>,
}

impl AccessToken {
    /// Whether the token may do what needs this scope.
    #[must_use]
    pub fn may(&self, scope: &str) -> bool {
        self.scopes.iter().any(|allowed| allowed == scope)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    pub name: String,
    pub email: String,
}
