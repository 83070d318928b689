//! Tells a URL what happens to jobs and agents, signed as Buildkite signs.
//! Deliveries are hints: one that fails is logged and not sent again.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::engine::{Engine, Hook};

/// Of one delivery.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where deliveries go, and the secret that signs them.
#[derive(Clone)]
pub struct Webhook {
    pub url: String,
    pub secret: SecretString,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Delivery {
    event: &'static str,
    body: Value,
    sent_at: Timestamp,
}

impl Delivery {
    pub(crate) fn of(engine: &Engine, hook: Hook, now: Timestamp) -> Self {
        let (event, body) = match hook {
            Hook::JobScheduled(job) => ("job.scheduled", of_job(engine, job)),
            Hook::JobStarted(job) => ("job.started", of_job(engine, job)),
            Hook::JobFinished(job) => ("job.finished", of_job(engine, job)),
            Hook::AgentLost(agent) => ("agent.lost", json!({"agent": engine.agent(agent)})),
        };
        let mut body = body;
        body["event"] = json!(event);
        body["sender"] = json!({"id": engine.organization_id(), "name": "sandbox"});
        Self { event, body, sent_at: now }
    }
}

/// The parts of Buildkite's bodies that its documentation shows.
fn of_job(engine: &Engine, id: Uuid) -> Value {
    let Some(job) = engine.job(id) else { return json!({"job": {"id": id}}) };
    let build = &engine.builds()[job.build];
    let queue = &engine.queues()[job.queue];
    let clustered = engine.clusters()[queue.cluster].clustered;
    json!({
        "job": {
            "id": job.id,
            "type": "script",
            "name": job.label,
            "step_key": job.step_key,
            "state": job.state,
            "agent_query_rules": job.rules,
            "priority": {"number": job.command.priority},
            "cluster_id": clustered.then(|| engine.clusters()[queue.cluster].id),
            "cluster_queue_id": clustered.then_some(queue.id),
            "created_at": job.created_at,
            "scheduled_at": job.scheduled_at,
            "runnable_at": job.runnable_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
            "exit_status": job.outcome.exit_status,
            "signal_reason": job.outcome.signal_reason,
        },
        "build": {"id": build.id, "number": build.number, "branch": build.branch,
                  "state": build.state},
        "pipeline": {"id": build.pipeline_id, "slug": build.pipeline},
    })
}

/// Sends what comes, one after the other, until nothing can come any more.
pub(crate) fn sender(
    to: Webhook,
    mut deliveries: mpsc::Receiver<Delivery>,
) -> Result<impl Future<Output = ()>, reqwest::Error> {
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
    Ok(async move {
        while let Some(delivery) = deliveries.recv().await {
            if let Err(error) = send(&client, &to, &delivery).await {
                tracing::warn!(event = delivery.event, %error, "a webhook was not delivered");
            }
        }
    })
}

async fn send(
    client: &reqwest::Client,
    to: &Webhook,
    delivery: &Delivery,
) -> Result<(), reqwest::Error> {
    let body = delivery.body.to_string();
    let signature =
        buildkite::webhook::sign(&to.secret, delivery.sent_at.as_second(), body.as_bytes());
    client
        .post(&to.url)
        .header(reqwest::header::CONTENT_TYPE, "application/json")
        .header(buildkite::webhook::EVENT_HEADER, delivery.event)
        .header(buildkite::webhook::SIGNATURE_HEADER, signature)
        .body(body)
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}
