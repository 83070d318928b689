//! Agents: their registration and connection, and how one acquires a job.
//! What the job then does is in `run`.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Serialize;
use uuid::Uuid;

use super::job::{Actor, EventKind, State};
use super::timers::Due;
use super::{Credential, Engine, Refusal};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    NeverConnected,
    Connected,
    Disconnected,
    Lost,
}

#[derive(Clone, Debug, Serialize)]
pub struct Agent {
    pub id: Uuid,
    pub name: String,
    pub version: String,
    pub hostname: String,
    pub meta_data: Vec<String>,
    pub connection: Connection,
    pub registered_at: Timestamp,
    pub last_seen: Timestamp,
    /// What it runs now.
    pub job: Option<Uuid>,
    /// Somebody wants it to leave.
    pub stop_asked: bool,
    /// It came for one job.
    pub ignores_offers: bool,
    #[serde(skip)]
    pub(super) queue: usize,
    #[serde(skip)]
    pub(super) cluster: usize,
    /// From a job acquisition token: the one job, its stack, and until when.
    #[serde(skip)]
    pub(super) bound: Option<(Uuid, String, Timestamp)>,
}

impl Agent {
    pub(super) fn is_up(&self) -> bool {
        self.connection == Connection::Connected
    }
}

/// What an agent says of itself when it registers.
#[derive(Clone, Debug, Default)]
pub struct NewAgent {
    pub name: String,
    pub version: String,
    pub hostname: String,
    pub meta_data: Vec<String>,
    pub ignores_offers: bool,
}

#[derive(Clone, Debug)]
pub struct Registered {
    pub id: Uuid,
    pub name: String,
    pub session_token: SecretString,
}

/// A job in an agent's hands. Its variables may hold secrets of the pipeline.
#[derive(Clone)]
pub struct Acquired {
    pub job: Uuid,
    pub token: SecretString,
    pub env: BTreeMap<String, String>,
}

impl fmt::Debug for Acquired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquired").field("job", &self.job).finish_non_exhaustive()
    }
}

impl Engine {
    pub fn register_agent(
        &mut self,
        credential: &Credential,
        new: NewAgent,
        now: Timestamp,
    ) -> Result<Registered, Refusal> {
        let (cluster, bound) = match credential {
            Credential::Cluster { cluster } => (*cluster, None),
            Credential::Acquisition { job, stack, expires_at } => {
                let of = self.known_job(*job)?;
                let bound = Some((*job, stack.clone(), *expires_at));
                (self.builds[of.build].cluster, bound)
            }
            Credential::Session { .. } | Credential::Job { .. } => {
                return Err(Refusal::Unauthorized(
                    "an agent registers with an agent token or a job acquisition token".to_owned(),
                ));
            }
        };
        let queue = self.queue_of_tags(cluster, &new.meta_data)?;
        let id = self.ids.uuid(now);
        let session_token = self.ids.token("bkaa_");
        // An empty name would come back as an empty variable, without which no job runs.
        let name = if new.name.is_empty() { format!("agent-{id}") } else { new.name };
        self.agents.insert(
            id,
            Agent {
                id,
                name: name.clone(),
                version: new.version,
                hostname: new.hostname,
                meta_data: new.meta_data,
                connection: Connection::NeverConnected,
                registered_at: now,
                last_seen: now,
                job: None,
                stop_asked: false,
                ignores_offers: new.ignores_offers,
                queue,
                cluster,
                bound,
            },
        );
        self.tokens.insert(session_token.clone(), Credential::Session { agent: id });
        self.due_at(now + self.settings.timing.lost_after, Due::AgentLost(id));
        Ok(Registered { id, name, session_token: session_token.into() })
    }

    fn queue_of_tags(&self, cluster: usize, tags: &[String]) -> Result<usize, Refusal> {
        match tags.iter().find_map(|tag| tag.strip_prefix("queue=")) {
            Some(key) => self.queue_named(cluster, key),
            None => Ok(self.clusters[cluster].default_queue),
        }
    }

    pub fn connect(&mut self, agent: Uuid, now: Timestamp) -> Result<(), Refusal> {
        let agent = self.known_agent(agent)?;
        agent.connection = Connection::Connected;
        agent.last_seen = now;
        Ok(())
    }

    /// A heartbeat, unless the server is told to overlook it. An agent that was given up may go on
    /// beating; it is not taken back.
    pub fn heartbeat(&mut self, agent: Uuid, now: Timestamp) -> Result<(), Refusal> {
        if self.quirks.ignore_heartbeats {
            return Ok(());
        }
        self.known_agent(agent)?.last_seen = now;
        Ok(())
    }

    /// The agent leaves. A job that it still holds is ended when nothing more comes of it.
    pub fn disconnect(&mut self, agent: Uuid, now: Timestamp) -> Result<(), Refusal> {
        let of = self.known_agent(agent)?;
        of.connection = Connection::Disconnected;
        of.last_seen = now;
        let queue = of.queue;
        let job = of.job;
        // An agent asks once more before it leaves, and does not take what it is offered then.
        self.queues[queue].offered.retain(|_, (to, _)| *to != agent);
        if let Some(job) = job {
            self.own_job(job).tell(now, EventKind::AgentDisconnected, Actor::Agent(agent));
            self.due_at(now + self.settings.timing.abandoned_after, Due::Abandoned(job));
        }
        Ok(())
    }

    fn known_agent(&mut self, agent: Uuid) -> Result<&mut Agent, Refusal> {
        self.agents.get_mut(&agent).ok_or_else(|| Refusal::NotFound(format!("no agent {agent}")))
    }

    /// `acquire`: gives the job to this agent and to nobody else.
    pub fn acquire(&mut self, job: Uuid, agent: Uuid, now: Timestamp) -> Result<Acquired, Refusal> {
        self.may_acquire(job, agent, now)?;
        let token = self.ids.token("bkaj_");
        self.known_agent(agent)?.job = Some(job);
        self.shift(job, State::Accepted);
        let of = self.own_job(job);
        of.reservation = None;
        of.agent = Some(agent);
        of.accepted_at = Some(now);
        of.token = Some(token.clone().into());
        of.tell(now, EventKind::Accepted, Actor::Agent(agent));
        self.tokens.insert(token.clone(), Credential::Job { job });
        // An agent that left between its call and this answer leaves the job behind at once.
        if self.agents[&agent].connection == Connection::Disconnected {
            self.due_at(now + self.settings.timing.abandoned_after, Due::Abandoned(job));
        }
        Ok(Acquired { job, token: token.into(), env: self.job_environment(job) })
    }

    fn may_acquire(&self, job: Uuid, agent: Uuid, now: Timestamp) -> Result<(), Refusal> {
        let by = self
            .agents
            .get(&agent)
            .ok_or_else(|| Refusal::NotFound(format!("no agent {agent}")))?;
        if by.bound.as_ref().is_some_and(|(only, _, _)| *only != job) {
            return Err(Refusal::Forbidden("this agent's token is for another job".to_owned()));
        }
        let of = self.known_job(job)?;
        if self.builds[of.build].cluster != by.cluster {
            return Err(Refusal::NotFound(format!("no job {job} in this cluster")));
        }
        if by.connection == Connection::Lost {
            return Err(Refusal::Unprocessable("this agent was given up as lost".to_owned()));
        }
        let refuse = |why: &str| Err(Refusal::Unprocessable(format!("job {job} {why}")));
        if by.job.is_some() {
            return refuse("cannot be acquired: this agent has a job already");
        }
        match (of.state, &by.bound) {
            (State::Scheduled | State::Reserved, None) => Ok(()),
            (State::Reserved, Some((_, stack, until))) => {
                let same = of.reservation.as_ref().is_some_and(|held| held.stack == *stack);
                if !same {
                    return refuse("is reserved by another stack");
                }
                if now >= *until {
                    return refuse("cannot be acquired: the token has expired");
                }
                Ok(())
            }
            (State::Scheduled, Some(_)) => refuse("is no longer reserved"),
            (State::Waiting | State::Limited, _) => {
                Err(Refusal::Locked(format!("job {job} is {}", of.state.name())))
            }
            (state, _) => refuse(&format!("cannot be acquired: it is {}", state.name())),
        }
    }
}
