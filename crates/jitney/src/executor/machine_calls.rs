//! Calls to backends: creates and deletes, each in its lane and with a time limit.

use std::sync::Arc;
use std::time::Duration;

use backends::{Labels, Order, Resources};
use planner::{
    BackendName, Create, CreateOutcome, Failure, FailureClass, JobId, MachineName, Offer,
};
use secrecy::SecretString;
use tokio::time::timeout;
use uuid::Uuid;

use super::Executor;
use crate::input::{Outcome, failure};

/// After this a create has no known outcome, and a delete is tried again.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Executor {
    pub(super) fn create(&mut self, create: Create, dispatch: Arc<str>) {
        let (job, attempt) = (create.job, create.attempt);
        let backend = create.offer.backend.clone();
        let ended = move |outcome| Outcome::Created { backend, job, attempt, outcome };
        let secret = self.vault.get(job, attempt, self.clock.now());
        let lanes = self.lanes.get(&create.offer.backend);
        let (Some(secret), Some(lanes)) = (secret, lanes) else {
            return self.spawn(async move { ended(CreateOutcome::NotSent) });
        };
        let (maker, lane) = (Arc::clone(&lanes.backend), Arc::clone(&lanes.creates));
        let order = self.order(create, &dispatch, secret);
        self.spawn(async move {
            let _turn = lane.acquire().await.expect("lanes are never closed");
            let outcome = match timeout(TIMEOUT, maker.create(&order)).await {
                Ok(Ok(())) => CreateOutcome::Made,
                Ok(Err(error)) => CreateOutcome::Failed(failure(&error)),
                Err(_) => CreateOutcome::Failed(no_answer()),
            };
            ended(outcome)
        });
    }

    fn order(&self, create: Create, dispatch: &str, token: SecretString) -> Order {
        let Create { job, attempt, name, queue, offer, shape, tags, deadline } = create;
        let mut agent_tags = tags;
        if !agent_tags.iter().any(|tag| tag.starts_with("queue=")) {
            let key = self.stacks.get(&queue).map_or(queue.as_str(), |stack| &stack.queue_key);
            agent_tags.insert(0, format!("queue={key}"));
        }
        Order {
            name: name.to_string(),
            request_id: request_id(job, attempt, &offer),
            labels: Labels {
                mark: self.stamp.mark.to_string(),
                instance: self.stamp.instance.to_string(),
                job: job.0,
                attempt,
                queue: queue.to_string(),
                dispatch_id: dispatch.to_owned(),
                cpu_millis: offer.cpu.millis(),
                memory_bytes: offer.memory.get(),
            },
            resources: Resources {
                cpu_millis: shape.cpu.millis(),
                memory_bytes: shape.memory.get(),
                disk_bytes: shape.disk.map(planner::Bytes::get),
                local_ssds: shape.local_ssds,
            },
            place: offer.place.to_string(),
            machine_type: offer.machine_type.to_string(),
            spot: offer.spot,
            deadline,
            endpoint: self.stamp.endpoint.to_string(),
            token,
            agent_name: name.to_string(),
            agent_tags,
            image: shape.image.as_deref().map(str::to_owned),
        }
    }

    pub(super) fn delete(
        &mut self,
        backend: BackendName,
        name: MachineName,
        job: JobId,
        attempt: u32,
    ) {
        let Some(lanes) = self.lanes.get(&backend) else {
            return self
                .spawn(async move { Outcome::Deleted { backend, job, attempt, ok: false } });
        };
        let (remover, lane) = (Arc::clone(&lanes.backend), Arc::clone(&lanes.deletes));
        self.spawn(async move {
            let _turn = lane.acquire().await.expect("lanes are never closed");
            let ok = match timeout(TIMEOUT, remover.delete(name.as_str())).await {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    tracing::warn!(%backend, machine = %name, %job, %error, "failed to delete a machine");
                    false
                }
                Err(_) => {
                    let seconds = TIMEOUT.as_secs();
                    tracing::warn!(%backend, machine = %name, %job, seconds, "a delete got no answer");
                    false
                }
            };
            Outcome::Deleted { backend, job, attempt, ok }
        });
    }
}

/// The same for each repetition of one request, another for every other one.
fn request_id(job: JobId, attempt: u32, offer: &Offer) -> Uuid {
    let Offer { backend, place, machine_type, spot, .. } = offer;
    let request = format!("create/{attempt}/{backend}/{place}/{machine_type}/{spot}");
    Uuid::new_v5(&job.0, request.as_bytes())
}

fn no_answer() -> Failure {
    Failure {
        class: FailureClass::Ambiguous,
        words: format!("no answer within {} s", TIMEOUT.as_secs()).into(),
        retry_after: None,
    }
}
