//! Calls to backends: creates and deletes, each with a time limit. How many are under way at once
//! is up to the lanes.

use std::sync::Arc;
use std::time::Duration;

use backends::{Backend, Class, Error, Hardware, Labels, Order, Resources, Vm};
use planner::{
    BackendName, Create, CreateOutcome, Failure, FailureClass, JobId, MachineName, Nic, Offer,
    Shape, Spot,
};
use secrecy::SecretString;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Executor, Stamp};
use crate::input::{Outcome, failure};

/// After this a create has no known outcome, and a delete is tried again.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A create that waits for its turn.
#[derive(Debug)]
pub(super) struct Ordered {
    create: Box<Create>,
    dispatch: Arc<str>,
    /// The queue's key at Buildkite.
    queue_key: Arc<str>,
    token: SecretString,
}

/// A delete that waits for its turn.
#[derive(Debug)]
pub(super) struct Removal {
    name: MachineName,
    job: JobId,
    attempt: u32,
}

pub(super) struct Maker {
    pub backend: Arc<dyn Backend>,
    pub stamp: Stamp,
}

pub(super) struct Remover {
    pub backend: Arc<dyn Backend>,
    pub name: BackendName,
}

impl Executor {
    pub(super) fn create(&mut self, create: Box<Create>, dispatch: Arc<str>) {
        let (job, attempt) = (create.job, create.attempt);
        let backend = create.offer.backend.clone();
        let secret = self.vault.get(job, attempt, self.clock.now());
        let (Some(token), Some(lanes)) = (secret, self.lanes.get(&backend)) else {
            let outcome = CreateOutcome::NotSent;
            return self.spawn(async move { Outcome::Created { backend, job, attempt, outcome } });
        };
        let queue_key = self
            .stacks
            .get(&create.queue)
            .map_or_else(|| create.queue.as_str().into(), |stack| Arc::clone(&stack.queue_key));
        let ordered = Ordered { create, dispatch, queue_key, token };
        lanes.creates.send(ordered).expect("lanes are open as long as the executor is there");
    }

    pub(super) fn delete(
        &mut self,
        backend: BackendName,
        name: MachineName,
        job: JobId,
        attempt: u32,
    ) {
        let Some(lanes) = self.lanes.get(&backend) else {
            let (ok, retry_after) = (false, None);
            let failed = Outcome::Deleted { backend, job, attempt, ok, retry_after };
            return self.spawn(async move { failed });
        };
        let removal = Removal { name, job, attempt };
        lanes.deletes.send(removal).expect("lanes are open as long as the executor is there");
    }
}

impl Maker {
    pub(super) async fn create(&self, ordered: Ordered) -> Outcome {
        let (job, attempt) = (ordered.create.job, ordered.create.attempt);
        let backend = ordered.create.offer.backend.clone();
        let Ordered { create, dispatch, queue_key, token } = ordered;
        let order = order(*create, &self.stamp, &dispatch, &queue_key, token);
        let outcome = match timeout(TIMEOUT, self.backend.create(&order)).await {
            Ok(Ok(())) => CreateOutcome::Made,
            Ok(Err(error)) => CreateOutcome::Failed(failure(&error)),
            Err(_) => CreateOutcome::Failed(no_answer()),
        };
        Outcome::Created { backend, job, attempt, outcome }
    }
}

/// What a backend is told to make: no choice is left in it.
pub(crate) fn order(
    create: Create,
    stamp: &Stamp,
    dispatch: &str,
    queue_key: &str,
    token: SecretString,
) -> Order {
    let Create { job, attempt, name, queue, offer, shape, tags, deadline } = create;
    let mut agent_tags = tags;
    if !agent_tags.iter().any(|tag| tag.starts_with("queue=")) {
        agent_tags.insert(0, format!("queue={queue_key}"));
    }
    Order {
        name: name.to_string(),
        request_id: request_id(job, attempt, &offer),
        labels: Labels {
            mark: Arc::clone(&stamp.mark),
            instance: Arc::clone(&stamp.instance),
            job: job.0,
            attempt,
            queue: queue.as_str().into(),
            dispatch_id: dispatch.into(),
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
        vm: offer.vm.as_deref().map(vm),
        hardware: hardware(&shape),
        deadline,
        endpoint: stamp.endpoint.to_string(),
        token,
        agent_name: name.to_string(),
        agent_tags,
        image: shape.image.as_deref().map(str::to_owned),
        no_rights: shape.no_rights,
    }
}

impl Remover {
    pub(super) async fn delete(&self, removal: Removal) -> Outcome {
        let Removal { name, job, attempt } = removal;
        let backend = self.name.clone();
        let (ok, retry_after) = match timeout(TIMEOUT, self.backend.delete(name.as_str())).await {
            Ok(Ok(())) => (true, None),
            Ok(Err(Error { class: Class::Rate, retry_after: Some(wait), .. })) => {
                (false, Some(wait))
            }
            Ok(Err(error)) => {
                tracing::warn!(%backend, machine = %name, %job, %error, "failed to delete a machine");
                (false, None)
            }
            Err(_) => {
                let seconds = TIMEOUT.as_secs();
                tracing::warn!(%backend, machine = %name, %job, seconds, "a delete got no answer");
                (false, None)
            }
        };
        Outcome::Deleted { backend, job, attempt, ok, retry_after }
    }
}

fn vm(vm: &planner::Vm) -> Vm {
    Vm {
        disk_type: vm.disk_type.to_string(),
        disk_gib: vm.disk.get().div_ceil(1 << 30),
        attached_ssds: vm.attached_ssds,
        gvnic: match vm.nic {
            Nic::Gvnic => true,
            Nic::Virtio => false,
        },
    }
}

fn hardware(shape: &Shape) -> Hardware {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    // A wish that may go unheard is none to a backend, which has nothing to choose.
    let families = shape.families.iter().filter(|_| !shape.or_any_family);
    Hardware {
        arch: shape.arch.map(|arch| arch.to_string()),
        families: families.map(|family| family.to_string()).collect(),
        zone: text(&shape.zone),
        region: text(&shape.region),
        gpu: text(&shape.gpu),
        prefers_spot: shape.spot == Spot::Prefer,
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
        shortage: None,
    }
}
