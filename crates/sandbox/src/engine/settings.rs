//! What an operator of the sandbox may choose. It holds no state.

use std::fmt;
use std::time::Duration;

use super::access::NewApiToken;

/// Everything that does not change while the server runs.
#[derive(Clone)]
pub struct Settings {
    pub organization: String,
    /// At least one; the first is where builds go by default.
    pub clusters: Vec<ClusterSettings>,
    /// With it there is also a pool of agents without a cluster.
    pub unclustered_token: Option<String>,
    /// For the REST API. Without one every call to it is 401.
    pub api_tokens: Vec<NewApiToken>,
    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub base_url: String,
    pub ping_interval_s: u32,
    pub job_status_interval_s: u32,
    pub heartbeat_interval_s: u32,
    pub chunks_max_size_bytes: u32,
    /// Of one job's log.
    pub log_limit_bytes: usize,
    /// Of all artifacts together; they are kept in memory.
    pub artifacts_limit_bytes: usize,
    pub stack_quota: usize,
    /// False plays an organisation that has no job acquisition tokens.
    pub job_tokens: bool,
    pub checkout: Checkout,
    pub timing: Timing,
    /// Makes ids and tokens the same in each run.
    pub seed: Option<u64>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("organization", &self.organization)
            .field("clusters", &self.clusters)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
pub struct ClusterSettings {
    pub name: String,
    /// The cluster's agent token, `bkct_…`.
    pub token: String,
    /// At least one; the first is the default queue.
    pub queues: Vec<String>,
}

impl fmt::Debug for ClusterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSettings")
            .field("name", &self.name)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

/// What an agent checks out before it runs a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checkout {
    /// Nothing: agents from 3.117 on obey `BUILDKITE_SKIP_CHECKOUT`.
    Skip,
    /// The default branch of this repository, for older agents.
    Repository(String),
}

/// How long the server waits for what.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Without a heartbeat for so long an agent is lost.
    pub lost_after: Duration,
    /// An agent that left without a word about its job: how long until the job is ended.
    pub abandoned_after: Duration,
    /// A job whose agent does not react to a cancel or a time limit.
    pub cancel_watchdog: Duration,
    /// Never started for so long.
    pub job_expiry: Duration,
    /// A finished job's token still sends what is left of the log.
    pub token_grace: Duration,
    /// A finished job still takes notifications.
    pub notification_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lost_after: Duration::from_secs(180),
            abandoned_after: Duration::from_secs(60),
            cancel_watchdog: Duration::from_secs(60),
            job_expiry: Duration::from_secs(30 * 24 * 3600),
            token_grace: Duration::from_secs(60),
            notification_grace: Duration::from_secs(300),
        }
    }
}

impl Settings {
    /// One cluster with a queue `default`, for the given token.
    #[must_use]
    pub fn with_token(token: &str) -> Self {
        Self {
            organization: "demo".to_owned(),
            clusters: vec![ClusterSettings {
                name: "Default cluster".to_owned(),
                token: token.to_owned(),
                queues: vec!["default".to_owned()],
            }],
            unclustered_token: None,
            api_tokens: Vec::new(),
            base_url: "http://127.0.0.1".to_owned(),
            ping_interval_s: 1,
            job_status_interval_s: 1,
            heartbeat_interval_s: 10,
            chunks_max_size_bytes: 102_400,
            log_limit_bytes: 64 << 20,
            artifacts_limit_bytes: 256 << 20,
            stack_quota: 30,
            job_tokens: true,
            checkout: Checkout::Skip,
            timing: Timing::default(),
            seed: None,
        }
    }
}
