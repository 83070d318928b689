//! The organisation: its clusters, their queues, and whose a token is.
//! What holders of tokens may do stands with the calls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use buildkite::wire;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::job::{Count, State};
use super::{Engine, Refusal};

/// Words that mean a cluster's default queue, in the spellings of documentation and clients.
const DEFAULT_QUEUE: [&str; 4] = ["__default__", "_default", "~", "-"];

#[derive(Clone, Debug)]
pub struct Cluster {
    pub id: Uuid,
    pub name: String,
    /// False for the pool of agents that belong to no cluster.
    pub clustered: bool,
    /// Index of the default queue.
    pub default_queue: usize,
    token_id: Uuid,
}

#[derive(Clone, Debug)]
pub struct Queue {
    pub id: Uuid,
    pub key: String,
    /// Index of its cluster.
    pub cluster: usize,
    pub paused: bool,
    /// What can be listed, oldest first.
    pub(super) scheduled: BTreeSet<(Timestamp, u64, Uuid)>,
    /// Reservations of late, for a listing that is behind.
    pub(super) lately_reserved: VecDeque<(Timestamp, Uuid)>,
    /// Jobs that an agent was offered, and until when it may accept.
    pub(super) offered: BTreeMap<Uuid, (Uuid, Timestamp)>,
    counts: wire::JobCounts,
}

/// What a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `bkct_`, or `bkar_` for the pool without a cluster.
    Cluster { cluster: usize },
    /// `bkjat_`: one job, while its stack holds it.
    Acquisition { job: Uuid, stack: String, expires_at: Timestamp },
    /// `bkaa_`
    Session { agent: Uuid },
    /// `bkaj_`
    Job { job: Uuid },
}

impl Credential {
    /// The kind's name, as the request journal has it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Cluster { .. } => "cluster",
            Self::Acquisition { .. } => "acquisition",
            Self::Session { .. } => "session",
            Self::Job { .. } => "job",
        }
    }
}

impl Engine {
    /// Makes what the settings describe.
    pub(super) fn found(&mut self, now: Timestamp) {
        for cluster in self.settings.clusters.clone() {
            self.add_cluster(&cluster.name, true, &cluster.token, &cluster.queues, now);
        }
        if let Some(token) = self.settings.unclustered_token.clone() {
            self.add_cluster("", false, &token, &["default".to_owned()], now);
        }
        for token in self.settings.api_tokens.clone() {
            self.add_api_token(token, now);
        }
    }

    fn add_cluster(
        &mut self,
        name: &str,
        clustered: bool,
        token: &str,
        queues: &[String],
        now: Timestamp,
    ) {
        let cluster = self.clusters.len();
        let (id, token_id) = (self.ids.uuid(now), self.ids.uuid(now));
        let default_queue = self.queues.len();
        self.clusters.push(Cluster {
            id,
            name: name.to_owned(),
            clustered,
            default_queue,
            token_id,
        });
        for key in queues {
            self.add_queue(cluster, key, now);
        }
        if queues.is_empty() {
            self.add_queue(cluster, "default", now);
        }
        self.tokens.insert(token.to_owned(), Credential::Cluster { cluster });
    }

    /// The index of the queue with this key, made if it is missing.
    pub fn add_queue(&mut self, cluster: usize, key: &str, now: Timestamp) -> usize {
        if let Some(at) = self.queues.iter().position(|q| q.cluster == cluster && q.key == key) {
            return at;
        }
        let id = self.ids.uuid(now);
        self.queues.push(Queue {
            id,
            key: key.to_owned(),
            cluster,
            paused: false,
            scheduled: BTreeSet::new(),
            lately_reserved: VecDeque::new(),
            offered: BTreeMap::new(),
            counts: wire::JobCounts::default(),
        });
        self.queues.len() - 1
    }

    #[must_use]
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    #[must_use]
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// The cluster with this name, or the first one.
    pub fn cluster_named(&self, name: Option<&str>) -> Result<usize, Refusal> {
        let Some(name) = name else { return Ok(0) };
        self.clusters
            .iter()
            .position(|cluster| cluster.name == name)
            .ok_or_else(|| Refusal::NotFound(format!("no cluster {name:?}")))
    }

    pub(super) fn queue_named(&self, cluster: usize, key: &str) -> Result<usize, Refusal> {
        if DEFAULT_QUEUE.contains(&key) {
            return Ok(self.clusters[cluster].default_queue);
        }
        self.queues
            .iter()
            .position(|queue| queue.cluster == cluster && queue.key == key)
            .ok_or_else(|| Refusal::NotFound(format!("no queue {key:?} in this cluster")))
    }

    /// Pauses or resumes the queue with this key, in every cluster that has one.
    pub fn pause_queue(&mut self, key: &str, paused: bool) -> Result<(), Refusal> {
        let mut found = false;
        for queue in self.queues.iter_mut().filter(|queue| queue.key == key) {
            queue.paused = paused;
            found = true;
        }
        found.then_some(()).ok_or_else(|| Refusal::NotFound(format!("no queue {key:?}")))
    }

    /// Whose token this is. Expired and dead ones are unknown.
    pub fn credential(&self, token: &str, now: Timestamp) -> Result<Credential, Refusal> {
        let unknown = || Refusal::Unauthorized("the token is unknown or has expired".to_owned());
        let credential = self.tokens.get(token).ok_or_else(unknown)?;
        let alive = match credential {
            Credential::Cluster { .. } | Credential::Session { .. } => true,
            Credential::Acquisition { expires_at, .. } => now < *expires_at,
            Credential::Job { job } => self.jobs.get(job).is_some_and(|job| {
                job.token.as_ref().is_some_and(|own| own.expose_secret() == token)
                    && job.finished_at.is_none_or(|at| now <= at + self.settings.timing.token_grace)
            }),
        };
        alive.then(|| credential.clone()).ok_or_else(unknown)
    }

    /// `GET /token`.
    #[must_use]
    pub fn token_identity(&self, cluster: usize) -> wire::TokenIdentity {
        let of = &self.clusters[cluster];
        let (cluster_uuid, cluster_name) = if of.clustered {
            (of.id.to_string(), of.name.clone())
        } else {
            (String::new(), String::new())
        };
        wire::TokenIdentity {
            uuid: of.token_id.to_string(),
            description: "sandbox".to_owned(),
            token_type: if of.clustered { "cluster" } else { "unclustered" }.to_owned(),
            organization_slug: self.settings.organization.clone(),
            organization_uuid: self.organization_id.to_string(),
            cluster_uuid,
            cluster_name,
            organization_queue_uuid: String::new(),
            organization_queue_key: String::new(),
        }
    }

    /// Moves a job to another state and keeps the queue's listing and counts true.
    pub(super) fn shift(&mut self, id: Uuid, to: State) {
        let job = self.own_job(id);
        let from = std::mem::replace(&mut job.state, to);
        let (place, queue) = (job.place(), job.queue);
        let queue = &mut self.queues[queue];
        queue.count(from, false);
        queue.count(to, true);
        if from == State::Scheduled {
            queue.scheduled.remove(&place);
        }
        if to == State::Scheduled {
            queue.scheduled.insert(place);
        }
    }

    /// Jobs and agents of one queue, for the metrics endpoint.
    #[must_use]
    pub fn queue_metrics(&self, queue: usize) -> (wire::AgentCounts, wire::JobCounts) {
        let mut agents = wire::AgentCounts::default();
        for agent in self.agents.values().filter(|agent| agent.is_up() && agent.queue == queue) {
            agents.total += 1;
            match agent.job {
                Some(_) => agents.busy += 1,
                None => agents.idle += 1,
            }
        }
        let mut jobs = self.queues[queue].counts;
        jobs.total = jobs.scheduled + jobs.running + jobs.waiting;
        (agents, jobs)
    }
}

impl Queue {
    /// A job enters or leaves the count that its state belongs to.
    pub(super) fn count(&mut self, state: State, enters: bool) {
        let field = match state.count() {
            None => return,
            Some(Count::Waiting) => &mut self.counts.waiting,
            Some(Count::Scheduled) => &mut self.counts.scheduled,
            Some(Count::Running) => &mut self.counts.running,
        };
        *field = if enters { *field + 1 } else { field.saturating_sub(1) };
    }
}
