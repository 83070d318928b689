//! What a fleet sees: its dispatches in the cluster, and the counts of its queue in Buildkite.

use std::time::Duration;

use backends::fleet::{Cluster, Dispatched};
use planner::fleet::{Agents, Counts, Dispatch, DispatchId, Event, Listing};
use uuid::Uuid;

use super::{ASKED_AT_MOST, Fleet};
use crate::clock::from_jiff;

/// A dispatch that is older and has not come is asked why.
const ASK_WHY_AFTER: Duration = Duration::from_secs(5);
/// So many of them in one round.
const ASK_WHY_MOST: usize = 3;

impl Fleet {
    pub(super) async fn look_at_the_cluster(&mut self, round: DispatchId) {
        let began_at = self.clock.now();
        match self.dispatches().await {
            Ok(dispatches) => {
                let ended_at = self.clock.now();
                let listing = Listing { began_at, ended_at, dispatches };
                self.ledger.record(Event::Listed(&listing));
                self.seen.listing.saw(listing);
            }
            Err(words) => {
                self.seen.listing.failed(self.clock.now(), &words);
                let (fleet, dispatch_id) = (&self.options.name, round);
                tracing::warn!(fleet, %dispatch_id, "the cluster cannot be seen: {words}");
            }
        }
    }

    async fn dispatches(&mut self) -> Result<Vec<Dispatch>, String> {
        let options = &self.options;
        let cluster = match &self.cluster {
            Some(cluster) => cluster,
            None => {
                let cluster = Cluster::new(&options.access).await;
                self.cluster.insert(cluster.map_err(|error| error.to_string())?)
            }
        };
        let listed = cluster.dispatches(&options.mark, &options.name).await;
        let listed = listed.map_err(|error| error.words)?;
        let mut dispatches = Vec::with_capacity(listed.len());
        let mut asked = 0;
        for of in listed {
            let made_at = from_jiff(of.made_at);
            let late = self.clock.now().since(made_at) >= ASK_WHY_AFTER;
            let comes = of.online.saturating_add(of.done) >= of.wanted;
            let mut trouble = None;
            if late && !comes && asked < ASK_WHY_MOST && (!of.over || of.failed > 0) {
                asked += 1;
                trouble = why(cluster, &of).await;
            }
            dispatches.push(dispatch(&of, made_at, trouble)?);
        }
        Ok(dispatches)
    }

    pub(super) async fn count(&mut self, round: DispatchId) {
        let asked_at = self.clock.now();
        match self.client.queue_metrics(&self.options.queue).await {
            Ok(counts) => {
                self.poll_after = counts.poll_after.unwrap_or(ASKED_AT_MOST).max(ASKED_AT_MOST);
                let (jobs, agents) = (counts.metrics.jobs, counts.metrics.agents);
                self.seen.counts.saw(Counts {
                    asked_at,
                    // What may not be asked for again before may be as old as that.
                    lag: self.poll_after,
                    scheduled: small(jobs.scheduled),
                    running: small(jobs.running),
                    waiting: small(jobs.waiting),
                    agents: Agents {
                        total: small(agents.total),
                        idle: small(agents.idle),
                        busy: small(agents.busy),
                    },
                });
            }
            Err(error) => {
                let words = error.to_string();
                self.seen.counts.failed(self.clock.now(), &words);
                let (fleet, queue, dispatch_id) = (&self.options.name, &self.options.queue, round);
                tracing::warn!(fleet, queue, %dispatch_id, "the queue cannot be counted: {words}");
            }
        }
    }
}

/// Words that cannot be had are missed, and nothing else is.
async fn why(cluster: &Cluster, of: &Dispatched) -> Option<String> {
    match cluster.trouble(of).await {
        Ok(words) => words,
        Err(error) => {
            let (name, dispatch_id) = (&of.name, &of.dispatch_id);
            tracing::debug!(name, dispatch_id, %error, "why a dispatch does not come cannot be read");
            None
        }
    }
}

fn dispatch(
    of: &Dispatched,
    made_at: planner::Timestamp,
    trouble: Option<String>,
) -> Result<Dispatch, String> {
    let id = Uuid::parse_str(&of.dispatch_id)
        .map_err(|_| format!("{} bears no dispatch id but `{}`", of.name, of.dispatch_id))?;
    Ok(Dispatch {
        id: DispatchId(id),
        wanted: of.wanted,
        made_at,
        online: of.online,
        done: of.done,
        failed: of.failed,
        leaving: of.leaving,
        over: of.over,
        trouble: trouble.map(|words| words.as_str().into()),
        sized_on: of.sized_on.as_deref().map(Into::into),
    })
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
