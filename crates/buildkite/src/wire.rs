//! The JSON of the Stacks API and of the agent metrics endpoint, as both ends of the wire see it.
//! Units are in the names; texts that Buildkite may extend are kept as texts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `POST /stacks/register`, the request: create or update the stack `key`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegisterStack {
    /// `[A-Za-z0-9_-]+`, at most 80 bytes, unique in the organisation.
    pub key: String,
    /// `kubernetes`, `elastic` or `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    pub queue_key: String,
    /// At most 100 keys of at most 64 characters, values of at most 256.
    pub metadata: BTreeMap<String, String>,
}

/// `POST /stacks/register`, the reply: 201 for a new stack, 200 for an updated one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    pub id: Uuid,
    pub organization_uuid: String,
    /// The key of the queue with the default's sentinel resolved; never empty.
    pub cluster_queue_key: String,
    pub key: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub metadata: BTreeMap<String, String>,
    pub last_connected_on: Option<Timestamp>,
    /// `connected`, `disconnected` or `lost`.
    pub state: String,
}

/// `GET /stacks/:key/scheduled-jobs`: one page of jobs in `scheduled`, oldest `scheduled_at` first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduledJobs {
    pub jobs: Vec<ScheduledJob>,
    pub page_info: PageInfo,
    pub cluster_queue: ClusterQueue,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduledJob {
    pub id: Uuid,
    pub priority: i64,
    /// `key=value` texts; `queue=` may be absent when the job uses the default queue.
    pub agent_query_rules: Vec<String>,
    /// The ordering key; inherited by jobs that a pipeline upload added, so not the time of entry.
    pub scheduled_at: Timestamp,
    /// When the job became `scheduled`; older servers leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runnable_at: Option<Timestamp>,
    pub pipeline: PipelineRef,
    pub build: BuildRef,
    pub step: StepRef,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PipelineRef {
    pub slug: Option<String>,
    pub uuid: Option<Uuid>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildRef {
    pub uuid: Option<Uuid>,
    pub number: Option<u64>,
    pub branch: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRef {
    pub key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageInfo {
    pub has_next_page: bool,
    /// Opaque; null on the last page, but only `has_next_page` says that it is the last.
    pub end_cursor: Option<String>,
}

/// The queue that was listed. The documentation says `dispatch_paused`, Buildkite's own Go client
/// reads `paused`; either one pauses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterQueue {
    pub id: Uuid,
    #[serde(default)]
    pub dispatch_paused: bool,
    #[serde(default)]
    pub paused: bool,
}

impl ClusterQueue {
    /// Whether new jobs must not be started, in either spelling.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.dispatch_paused || self.paused
    }
}

/// `PUT …/scheduled-jobs/batch-reserve`: reserve jobs, or extend what this stack has reserved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchReserve {
    /// At most 1,000.
    pub job_uuids: Vec<Uuid>,
    /// At most 3,600; the server's default is 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation_expiry_seconds: Option<u32>,
}

/// Every requested id is in exactly one of the lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BatchReserved {
    pub reserved: Vec<Uuid>,
    pub not_reserved: Vec<Uuid>,
}

/// `GET …/jobs/:id`: may hold secrets of the pipeline, so it is never logged.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct JobDetail {
    pub id: Uuid,
    pub env: BTreeMap<String, String>,
    pub command: String,
}

impl std::fmt::Debug for JobDetail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobDetail").field("id", &self.id).finish_non_exhaustive()
    }
}

/// `POST …/jobs/get-states`, the request: at most 1,000 ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetStates {
    pub job_uuids: Vec<Uuid>,
}

/// Ids that the server does not know are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobStates {
    pub states: BTreeMap<Uuid, JobState>,
}

/// A job's state in the lower-case spelling of the agent and Stacks APIs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Pending,
    Waiting,
    WaitingFailed,
    Blocked,
    BlockedFailed,
    Unblocked,
    UnblockedFailed,
    Limiting,
    Limited,
    PlatformLimiting,
    PlatformLimited,
    Scheduled,
    Reserved,
    Assigned,
    Accepted,
    Running,
    Canceling,
    Canceled,
    TimingOut,
    TimedOut,
    Finished,
    Expired,
    Skipped,
    Broken,
    /// A state that this version does not know: never a reason to act.
    #[serde(untagged)]
    Other(String),
}

/// `POST …/jobs/:id/finish`. The status is always written: left out, the server takes −1 for a 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishJob {
    #[serde(default = "failed")]
    pub exit_status: i32,
    /// At most 4,096 bytes.
    pub detail: String,
}

fn failed() -> i32 {
    -1
}

/// `POST …/notifications`, the request: at most 1,000 items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notifications {
    pub notifications: Vec<Notification>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub job_uuid: Uuid,
    /// 1 to 256 characters.
    pub detail: String,
    /// Not in the future and not before the job's creation; the server's now when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
}

/// Partial success: what is not named here was stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NotificationErrors {
    pub errors: Vec<NotificationError>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotificationError {
    pub error: String,
    pub indexes: Vec<usize>,
}

/// `POST …/job-acquisition-tokens`, the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IssueTokens {
    /// At most 1,000, each reserved by this stack.
    pub job_uuids: Vec<Uuid>,
    /// 1 to 3,600; the server's default is 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_lifetime_seconds: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IssuedTokens {
    pub job_acquisition_tokens: Vec<JobAcquisitionToken>,
    pub not_issued: Vec<Uuid>,
}

/// Registers exactly one agent for one reserved job.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct JobAcquisitionToken {
    pub job_uuid: Uuid,
    /// `bkjat_…`: a secret.
    pub job_acquisition_token: String,
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for JobAcquisitionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobAcquisitionToken")
            .field("job_uuid", &self.job_uuid)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// `GET /token`: whose token it is. `cluster_uuid` is empty for an unclustered one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenIdentity {
    pub uuid: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub token_type: String,
    pub organization_slug: String,
    #[serde(default)]
    pub organization_uuid: String,
    #[serde(default)]
    pub cluster_uuid: String,
    #[serde(default)]
    pub cluster_name: String,
    #[serde(default)]
    pub organization_queue_uuid: String,
    #[serde(default)]
    pub organization_queue_key: String,
}

/// The body of every error: `{"message": …}`, with the window's numbers on 429.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u32>,
    /// Seconds until the window is free again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<u32>,
}

/// `GET /metrics/queue?name=`: counts of one queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueMetrics {
    pub agents: AgentCounts,
    pub jobs: JobCounts,
    pub organization: Organization,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentCounts {
    pub idle: u64,
    pub busy: u64,
    pub total: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobCounts {
    pub scheduled: u64,
    pub running: u64,
    pub waiting: u64,
    #[serde(default)]
    pub total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Organization {
    pub slug: String,
}

/// The scopes of the documented limits, with the requests a second that each allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    ListScheduledJobs,
    BatchReserve,
    ShowJob,
    BatchLoadJobStates,
    FinishJob,
    StackNotification,
    /// Not published: capped like the smallest of the others.
    JobAcquisitionTokens,
    Default,
}

impl Scope {
    pub const ALL: [Self; 8] = [
        Self::ListScheduledJobs,
        Self::BatchReserve,
        Self::ShowJob,
        Self::BatchLoadJobStates,
        Self::FinishJob,
        Self::StackNotification,
        Self::JobAcquisitionTokens,
        Self::Default,
    ];

    /// The spelling in `RateLimit-Scope`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ListScheduledJobs => "list-scheduled-jobs",
            Self::BatchReserve => "batch-reserve",
            Self::ShowJob => "show-job",
            Self::BatchLoadJobStates => "batch-load-job-states",
            Self::FinishJob => "finish-job",
            Self::StackNotification => "stack-notification",
            Self::JobAcquisitionTokens => "job-acquisition-tokens",
            Self::Default => "default",
        }
    }

    /// Requests a second, in a sliding window, per organisation, cluster and stack key.
    #[must_use]
    pub const fn per_second(self) -> u32 {
        match self {
            Self::ShowJob => 1000,
            Self::StackNotification => 200,
            Self::FinishJob => 100,
            Self::BatchLoadJobStates => 20,
            Self::ListScheduledJobs
            | Self::BatchReserve
            | Self::JobAcquisitionTokens
            | Self::Default => 10,
        }
    }
}
