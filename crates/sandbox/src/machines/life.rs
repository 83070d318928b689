//! One machine's life: it boots, its agent plays the job, it ends, and its own deadline removes
//! what is left of it, whether or not anybody asks.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use backends::http::wire::CreateRequest;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Shared;
use super::faults::Fate;
use super::fleet::Reins;
use crate::player::{Milestone, Orders, play};

/// How long an agent that must stop may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long a machine that ended is still listed after its deadline.
const REMEMBERED: Duration = Duration::from_secs(60);

pub(super) struct Life {
    pub(super) name: String,
    pub(super) request_id: Uuid,
    pub(super) orders: Orders,
    pub(super) fate: Fate,
    pub(super) boot_delay: Duration,
    pub(super) deadline: Duration,
    pub(super) reins: Reins,
}

impl Life {
    pub(super) fn new(
        name: String,
        request: CreateRequest,
        fate: Fate,
        boot_delay_ms: u64,
        reins: Reins,
    ) -> Self {
        Self {
            name,
            request_id: request.request_id,
            fate,
            boot_delay: Duration::from_millis(boot_delay_ms),
            deadline: Duration::from_secs(request.deadline_s),
            reins,
            orders: Orders {
                endpoint: request.agent.endpoint,
                token: request.agent.token,
                job: request.labels.job,
                name: request.agent.name,
                tags: request.agent.tags,
            },
        }
    }

    pub(super) async fn live(self, shared: Arc<Shared>) {
        let deadline = Instant::now() + self.deadline;
        // Cancelled with the machine's deletion, or alone at the deadline.
        let stop = self.reins.stop.child_token();
        let cause = tokio::select! {
            cause = self.work(&shared, &stop) => cause,
            () = self.reins.kill.cancelled() => "the machine died".to_owned(),
            () = self.overdue(deadline, &stop) => "its agent did not stop".to_owned(),
        };
        let late = Instant::now() >= deadline;
        let cause = if late { format!("its deadline passed: {cause}") } else { cause };
        tracing::debug!(machine = self.name, cause, "a machine ended");
        shared.fleet.ended(&self.name, self.request_id, cause, (shared.now)());
        tokio::select! {
            () = self.reins.stop.cancelled() => {}
            () = sleep_until(deadline + REMEMBERED) => {}
        }
        shared.fleet.expire(&self.name, self.request_id);
    }

    async fn work(&self, shared: &Shared, stop: &CancellationToken) -> String {
        let boot = stop.run_until_cancelled(sleep(self.boot_delay)).await;
        if boot.is_none() {
            return "it was deleted while it booted".to_owned();
        }
        if self.fate == Fate::NeverBoots {
            stop.cancelled().await;
            return "it never booted".to_owned();
        }
        let heard = |milestone| {
            if milestone == Milestone::Connected {
                shared.fleet.connected(&self.name, self.request_id, (shared.now)());
            }
            match (self.fate, milestone) {
                (Fate::DiesConnected, Milestone::Connected)
                | (Fate::DiesStarted, Milestone::Started) => ControlFlow::Break(()),
                (Fate::Lives | Fate::NeverBoots | Fate::DiesConnected | Fate::DiesStarted, _) => {
                    ControlFlow::Continue(())
                }
            }
        };
        let outcome = play(&shared.wire, &self.orders, shared.now, stop, heard).await;
        outcome.to_string()
    }

    /// At the deadline the agent is told; it does not get for ever to obey.
    async fn overdue(&self, deadline: Instant, stop: &CancellationToken) {
        sleep_until(deadline).await;
        tracing::info!(machine = self.name, "a machine reached its deadline");
        stop.cancel();
        sleep(LAST_WORDS).await;
    }
}
