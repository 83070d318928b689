//! What agents are given that wait for any job of their queue: one job with each ping, which they
//! accept. A job that is offered stays `scheduled` until then; Buildkite shows it as `assigned`.

use std::cmp::Reverse;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::job::{Job, State};
use super::{Agent, Engine};

/// A job that its agent has not accepted by then is offered to others.
const OFFER: Duration = Duration::from_secs(10);

impl Engine {
    /// The job that this agent is offered: the first in order that its tags allow, and to nobody
    /// else at the same time. None for agents that came for a job of their own.
    pub fn offer(&mut self, id: Uuid, now: Timestamp) -> Option<Uuid> {
        let agent = self.agents.get(&id)?;
        let waits = agent.is_up() && agent.job.is_none() && agent.bound.is_none();
        if !waits || agent.ignores_offers || agent.stop_asked {
            return None;
        }
        let queue = agent.queue;
        let jobs = &self.jobs;
        let open = |job: &Uuid| jobs.get(job).is_some_and(|job| job.state == State::Scheduled);
        self.queues[queue].offered.retain(|job, (_, until)| *until > now && open(job));
        if self.queues[queue].paused {
            return None;
        }
        let offered = &self.queues[queue].offered;
        if let Some((job, _)) = offered.iter().find(|(_, (to, _))| *to == id) {
            return Some(*job);
        }
        let scheduled = self.queues[queue].scheduled.iter().map(|(_, _, job)| &self.jobs[job]);
        let free = scheduled.filter(|job| !offered.contains_key(&job.id) && allows(agent, job));
        // Among those of the highest priority the first is the oldest.
        let job = free.min_by_key(|job| Reverse(job.command.priority))?.id;
        self.queues[queue].offered.insert(job, (id, now + OFFER));
        Some(job)
    }
}

/// Whether the agent carries what the job asks for. Both are of the same queue already.
fn allows(agent: &Agent, job: &Job) -> bool {
    job.rules.iter().filter(|rule| !rule.starts_with("queue=")).all(|rule| {
        let any = rule.strip_suffix("=*");
        agent.meta_data.iter().any(|tag| match any {
            Some(key) => tag.split_once('=').is_some_and(|(of, _)| of == key),
            None => tag == rule,
        })
    })
}
