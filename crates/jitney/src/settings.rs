//! What the shell works with: the operator's wishes, parsed, and the parts that they name. It reads
//! no file and no environment; the configuration does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backends::Backend;
use backends::gce::Door;
use planner::{BackendName, Policy};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::{event_log, fleet, journal};

/// The operator's wishes; may be replaced while running, where that makes sense.
#[derive(Clone, Debug)]
pub struct Settings {
    pub policy: Arc<Policy>,
    pub poll: Poll,
    /// Where agents register: Buildkite's agent endpoint.
    pub endpoint: String,
    pub job_tokens: JobTokens,
    pub web: Web,
}

/// How often a queue is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    pub idle: Duration,
    /// While there are jobs for us.
    pub busy: Duration,
}

impl Default for Poll {
    fn default() -> Self {
        Self { idle: Duration::from_millis(250), busy: Duration::from_millis(150) }
    }
}

/// What machines are given to register with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobTokens {
    /// A token for one job only, or nothing at all.
    #[default]
    Required,
    /// The cluster's own token, where the organisation has no others: accepted knowingly.
    Optional,
}

/// Who may do what over HTTP.
#[derive(Clone, Debug, Default)]
pub struct Web {
    /// With one, reading and writing need it; without, reading is free and nobody may write.
    pub access_token: Option<SecretString>,
    /// A header that an authenticating proxy sets: its presence lets read.
    pub proxy_header: Option<String>,
    /// No secret, no `/webhook`.
    pub webhook_secret: Option<SecretString>,
}

/// Everything that a run needs. Production and tests hand in the same.
#[derive(Debug)]
pub struct Options {
    pub settings: Settings,
    pub client: buildkite::Client,
    /// With a token for it.
    pub rest: Option<buildkite::RestClient>,
    pub backends: BTreeMap<BackendName, Arc<dyn Backend>>,
    /// Where guests of these backends come in.
    pub doors: BTreeMap<BackendName, Arc<Door>>,
    pub fleets: Vec<fleet::Options>,
    pub journal: journal::Options,
    /// What rounds see and decide is written down, where somebody asked for it.
    pub event_log: Option<event_log::Options>,
    pub listener: TcpListener,
    pub clock: Clock,
    /// Cancelled: take no more work, leave machines running, write down, leave.
    pub shutdown: CancellationToken,
    /// New settings, from a configuration that was read again.
    pub reloads: tokio::sync::mpsc::Receiver<Settings>,
}
