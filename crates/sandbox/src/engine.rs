//! The server's mind: an organisation, its queues, builds and jobs, as plain values.
//! It reads no clock and speaks no HTTP; every call brings the time with it.

pub(crate) mod access;
mod agents;
mod build;
mod environment;
mod facts;
mod form;
mod ids;
mod insert;
mod job;
mod lines;
mod log;
mod offers;
mod organization;
mod people;
mod quirks;
mod records;
mod retry;
mod run;
mod settings;
mod settle;
mod stacks;
mod steps;
mod timers;
#[cfg(test)]
mod walks;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

pub use access::{ApiToken, NewApiToken, SCOPES};
pub use agents::{Acquired, Agent, Connection, NewAgent, Registered};
pub use build::{
    Author, Build, BuildState, Group, NewBuild, Omitted, PullRequest, Step, StepState,
};
pub use form::{Answers, BlockedState, Choice, Entry, Field, Form};
pub use job::{Actor, Event, EventKind, Job, Outcome, Reservation, State, Told};
pub use log::Log;
pub use organization::{Cluster, Credential, Queue};
pub use quirks::Quirks;
pub use records::{
    Annotation, Artifact, ArtifactState, Batch, Board, NewAnnotation, NewArtifact, Search,
};
pub use run::AgentFinish;
pub use settings::{Checkout, ClusterSettings, Settings, Timing};
pub use settle::BlockedStep;
pub use stacks::{Page, PageRequest, Stack};
pub use steps::{
    Command, Concurrency, ConcurrencyMethod, Dependency, ExitMatch, Filter, NewGroup, NewStep,
    Only, Parallel, RetryRule, SoftFail, StepKind,
};

/// Why a call was not done, by the answer that it gets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Unauthorized(String),
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Unprocessable(String),
    /// Not now: the job waits for others.
    #[error("{0}")]
    Locked(String),
}

/// Something that a webhook tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    JobScheduled(Uuid),
    JobStarted(Uuid),
    JobFinished(Uuid),
    AgentLost(Uuid),
}

/// The whole state of the server. See the modules for its calls.
pub struct Engine {
    settings: Settings,
    pub quirks: Quirks,
    organization_id: Uuid,
    ids: ids::Ids,
    clusters: Vec<Cluster>,
    queues: Vec<Queue>,
    tokens: HashMap<String, Credential>,
    api_tokens: HashMap<String, ApiToken>,
    stacks: BTreeMap<String, Stack>,
    agents: HashMap<Uuid, Agent>,
    pipelines: BTreeMap<String, build::Pipeline>,
    builds: Vec<Build>,
    build_ids: HashMap<Uuid, usize>,
    jobs: HashMap<Uuid, Job>,
    artifacts: HashMap<Uuid, Artifact>,
    batches: HashMap<String, Vec<Uuid>>,
    artifact_bytes: usize,
    lines: BTreeMap<String, lines::Line>,
    due: BinaryHeap<Reverse<(Timestamp, u64, timers::Due)>>,
    hooks: Vec<Hook>,
    sequence: u64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("settings", &self.settings)
            .field("builds", &self.builds.len())
            .field("jobs", &self.jobs.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    #[must_use]
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        let mut ids = ids::Ids::new(settings.seed);
        let organization_id = ids.uuid(now);
        let mut engine = Self {
            settings,
            quirks: Quirks::default(),
            organization_id,
            ids,
            clusters: Vec::new(),
            queues: Vec::new(),
            tokens: HashMap::new(),
            api_tokens: HashMap::new(),
            stacks: BTreeMap::new(),
            agents: HashMap::new(),
            pipelines: BTreeMap::new(),
            builds: Vec::new(),
            build_ids: HashMap::new(),
            jobs: HashMap::new(),
            artifacts: HashMap::new(),
            batches: HashMap::new(),
            artifact_bytes: 0,
            lines: BTreeMap::new(),
            due: BinaryHeap::new(),
            hooks: Vec::new(),
            sequence: 0,
        };
        engine.found(now);
        engine
    }

    /// Forgets everything but the settings.
    pub fn reset(&mut self, now: Timestamp) {
        *self = Self::new(self.settings.clone(), now);
    }

    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the server can be reached; known once it listens.
    pub fn set_base_url(&mut self, url: &str) {
        url.clone_into(&mut self.settings.base_url);
    }

    #[must_use]
    pub fn organization_id(&self) -> Uuid {
        self.organization_id
    }

    /// Builds in the order of their creation.
    #[must_use]
    pub fn builds(&self) -> &[Build] {
        &self.builds
    }

    #[must_use]
    pub fn build(&self, id: Uuid) -> Option<&Build> {
        self.build_ids.get(&id).map(|index| &self.builds[*index])
    }

    #[must_use]
    pub fn job(&self, id: Uuid) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// All jobs, in no order.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    #[must_use]
    pub fn agent(&self, id: Uuid) -> Option<&Agent> {
        self.agents.get(&id)
    }

    /// All agents that ever registered, in no order.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }

    /// What webhooks should tell, in order; the list is empty afterwards.
    pub fn take_hooks(&mut self) -> Vec<Hook> {
        std::mem::take(&mut self.hooks)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn known_job(&self, id: Uuid) -> Result<&Job, Refusal> {
        self.jobs.get(&id).ok_or_else(|| Refusal::NotFound(format!("no job {id}")))
    }

    fn known_job_mut(&mut self, id: Uuid) -> Result<&mut Job, Refusal> {
        self.jobs.get_mut(&id).ok_or_else(|| Refusal::NotFound(format!("no job {id}")))
    }

    /// A job that is known to be there because something of ours points at it.
    fn own_job(&mut self, id: Uuid) -> &mut Job {
        self.jobs.get_mut(&id).expect("a job that is pointed at is never removed")
    }
}
