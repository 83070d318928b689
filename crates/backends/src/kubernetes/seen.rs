//! What the API server shows of our objects, as little of it as we need: thousands are kept. What
//! it means is read elsewhere.

mod from_wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::stamp;
use super::template::JOB_CONTAINER;
use crate::contract::Labels;

/// The label by which the Job controller ties a pod to its Job.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// What stands on an object until the garbage collector has made orphans of what it owns.
const ORPHAN: &str = "orphan";

/// The part of an object that all have.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "RawMeta")]
pub struct Meta {
    pub name: Arc<str>,
    /// Nil where it cannot be read: Kubernetes has no others than these.
    pub uid: Uuid,
    /// Grows with each change, over all objects of a kind. 0: it cannot be read as a number.
    pub version: u64,
    pub created_at: Timestamp,
    /// When it is to be gone, its grace included.
    pub deleted_at: Option<Timestamp>,
    /// What it bears; an error names what cannot be read.
    pub labels: Result<Arc<Labels>, Arc<str>>,
    pub deadline_s: Option<i64>,
    pub secret: Option<Arc<str>>,
    /// Of a pod: its Job.
    pub job: Option<Arc<str>>,
    /// Where a queueing system lets Jobs in.
    pub kueue_queue: Option<Arc<str>>,
    /// Somebody deletes it so that what it owns stays behind.
    pub leaves_orphans: bool,
    /// There is an object with which it goes by itself.
    pub is_owned: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMeta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    finalizers: Vec<String>,
    #[serde(default)]
    owner_references: Vec<serde::de::IgnoredAny>,
}

/// Whether a label or an annotation of this name is ever looked at.
fn is_read(name: &str) -> bool {
    name.starts_with(stamp::OURS) || name == JOB_NAME || name == KUEUE_QUEUE
}

impl From<RawMeta> for Meta {
    fn from(mut raw: RawMeta) -> Self {
        let labels = stamp::read(&raw.labels, &raw.annotations);
        let labels = labels.map(Arc::new).map_err(Arc::from);
        let deadline = raw.annotations.get(stamp::DEADLINE);
        Self {
            name: raw.name.into(),
            uid: raw.uid.parse().unwrap_or_default(),
            version: raw.resource_version.parse().unwrap_or_default(),
            created_at: raw.creation_timestamp.unwrap_or(Timestamp::UNIX_EPOCH),
            deleted_at: raw.deletion_timestamp,
            labels,
            deadline_s: deadline.and_then(|seconds| seconds.parse().ok()),
            secret: raw.annotations.remove(stamp::SECRET).map(Arc::from),
            job: raw.labels.remove(JOB_NAME).map(Arc::from),
            kueue_queue: raw.labels.remove(KUEUE_QUEUE).map(Arc::from),
            leaves_orphans: raw.finalizers.iter().any(|one| one == ORPHAN),
            is_owned: !raw.owner_references.is_empty(),
        }
    }
}

/// One entry of an object's `status.conditions`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    pub status: Arc<str>,
    #[serde(default)]
    pub reason: Option<Arc<str>>,
    #[serde(default)]
    pub message: Option<Arc<str>>,
    pub last_transition_time: Option<Timestamp>,
}

impl Condition {
    fn holds(&self) -> bool {
        &*self.status == "True"
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Job {
    pub metadata: Meta,
    #[serde(default)]
    pub spec: JobSpec,
    #[serde(default)]
    pub status: JobStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSpec {
    pub active_deadline_seconds: Option<i64>,
    pub suspend: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    pub conditions: Vec<Condition>,
    pub start_time: Option<Timestamp>,
}

impl Job {
    /// The condition that says that it is over, or as good as over.
    #[must_use]
    pub fn finish(&self) -> Option<&Condition> {
        let of = |kinds: &[&str]| {
            let mut all = self.status.conditions.iter();
            all.find(|one| one.holds() && kinds.contains(&&*one.kind))
        };
        of(&["Failed", "Complete"]).or_else(|| of(&["FailureTarget", "SuccessCriteriaMet"]))
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "RawPod")]
pub struct Pod {
    pub metadata: Meta,
    pub node: Option<Arc<str>>,
    /// Pending, Running, Succeeded, Failed, Unknown.
    pub phase: Arc<str>,
    /// Why the pod as a whole is in its phase: `Evicted`.
    pub reason: Option<Arc<str>>,
    pub message: Option<Arc<str>>,
    pub started_at: Option<Timestamp>,
    pub conditions: Box<[Condition]>,
    /// The container that runs the guest.
    pub main: Option<Container>,
    /// Those that come before it and have not done their work.
    pub before: Box<[Container]>,
}

#[derive(Deserialize)]
struct RawPod {
    metadata: Meta,
    #[serde(default)]
    spec: RawPodSpec,
    #[serde(default)]
    status: RawPodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodSpec {
    node_name: Option<Arc<str>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodStatus {
    phase: Arc<str>,
    reason: Option<Arc<str>>,
    message: Option<Arc<str>>,
    start_time: Option<Timestamp>,
    conditions: Vec<Condition>,
    container_statuses: Vec<Container>,
    init_container_statuses: Vec<Container>,
}

impl From<RawPod> for Pod {
    fn from(raw: RawPod) -> Self {
        let status = raw.status;
        let mut before = status.init_container_statuses;
        before.retain(|one| one.state.terminated.as_ref().is_none_or(|end| end.exit_code != 0));
        let mut conditions = status.conditions;
        // The rest says nothing that the node or the containers do not.
        conditions.retain(|one| match &*one.kind {
            "PodScheduled" => &*one.status == "False",
            "DisruptionTarget" | "Ready" => true,
            _ => false,
        });
        Self {
            metadata: raw.metadata,
            node: raw.spec.node_name,
            phase: status.phase,
            reason: status.reason,
            message: status.message,
            started_at: status.start_time,
            conditions: conditions.into(),
            main: status.container_statuses.into_iter().find(|one| &*one.name == JOB_CONTAINER),
            before: before.into(),
        }
    }
}

impl Pod {
    /// The name of its machine, which is its Job's.
    pub(super) fn machine(&self) -> &Arc<str> {
        self.metadata.job.as_ref().unwrap_or(&self.metadata.name)
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.metadata.name == other.metadata.name
    }

    /// Greater for a younger one; of those that were made in one second any may be.
    pub(super) fn born(&self) -> (Timestamp, &str) {
        (self.metadata.created_at, &self.metadata.name)
    }

    /// The condition of this kind, whether it holds or not.
    pub(super) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|one| &*one.kind == kind)
    }

    /// The condition of this kind, if it holds.
    pub(super) fn holds(&self, kind: &str) -> Option<&Condition> {
        self.condition(kind).filter(|one| one.holds())
    }

    /// Whether its guest has been started, which reads the token, or never will be.
    pub(super) fn is_past_start(&self) -> bool {
        let state = self.main.as_ref().map(|main| &main.state);
        let started =
            state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
        started || self.is_over()
    }

    /// Whether none of its containers will run any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(&*self.phase, "Succeeded" | "Failed")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Container {
    pub name: Arc<str>,
    #[serde(default)]
    pub image: Arc<str>,
    #[serde(default)]
    pub state: State,
    /// Its startup probe has succeeded.
    #[serde(default)]
    pub started: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct State {
    pub waiting: Option<Box<Waiting>>,
    pub running: Option<Running>,
    pub terminated: Option<Box<Terminated>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    pub reason: Arc<str>,
    pub message: Arc<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    pub started_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminated {
    pub exit_code: i32,
    #[serde(default)]
    pub reason: Arc<str>,
    #[serde(default)]
    pub message: String,
    pub finished_at: Option<Timestamp>,
}

/// An event of the kinds that say what no object does.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub metadata: Meta,
    pub involved_object: Involved,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Involved {
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub name: String,
    /// Nil where it is about what has no such id.
    #[serde(default)]
    pub uid: Uuid,
}
