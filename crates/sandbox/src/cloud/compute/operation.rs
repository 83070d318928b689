//! Operations: what a change is answered with, and how it went. What they do is elsewhere.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::due::{Due, after};
use super::settings::strike;
use super::{BASE, Compute};
use crate::cloud::refusal::{Failure, Refusal};

/// From an operation's beginning until it says that it runs.
const PENDING_MS: u64 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Pending,
    Running,
    Done,
}

impl Progress {
    fn shown(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Done => "DONE",
        }
    }
}

/// One operation of a zone.
#[derive(Clone, Debug)]
pub struct Operation {
    pub name: String,
    pub zone: String,
    /// `insert`, `delete`, `compute.instances.preempted`…
    pub kind: String,
    pub progress: Progress,
    /// `instances/m-1`
    pub target: String,
    pub target_id: u64,
    pub failure: Option<Failure>,
    pub request_id: Option<Uuid>,
    pub ended_at: Option<Timestamp>,
    id: u64,
    user: String,
    began_at: Timestamp,
    runs_at: Option<Timestamp>,
    /// It was told never to end.
    stuck: bool,
}

/// A change that is asked for.
pub(super) struct Asked<'a> {
    pub(super) kind: &'a str,
    pub(super) zone: &'a str,
    pub(super) target: String,
    pub(super) target_id: u64,
    pub(super) request_id: Option<Uuid>,
    pub(super) account: Option<&'a str>,
}

impl Compute {
    /// Notes an operation that has begun and answers its name.
    pub(super) fn begin(&mut self, asked: Asked<'_>, now: Timestamp) -> String {
        let stuck = strike(&mut self.knobs.stuck_operations);
        let name = self.add_operation(&asked, stuck, now);
        self.push_due(after(now, PENDING_MS), Due::OperationRuns(name.clone()));
        if let Some(request_id) = asked.request_id {
            let known = (now, name.clone());
            self.request_ids.insert((asked.zone.to_owned(), request_id), known);
        }
        name
    }

    /// Notes what the cloud did by itself, as an operation that is over.
    pub(super) fn note_system(
        &mut self,
        kind: &str,
        zone: &str,
        target: &str,
        id: u64,
        now: Timestamp,
    ) {
        let target = format!("instances/{target}");
        let account = Some("system@google.com");
        let asked = Asked { kind, zone, target, target_id: id, request_id: None, account };
        let name = self.add_operation(&asked, false, now);
        self.operation_runs(&name, now);
        self.end_operation(&name, None, now);
    }

    fn add_operation(&mut self, asked: &Asked<'_>, stuck: bool, now: Timestamp) -> String {
        let id = self.next_id();
        let stem = if asked.request_id.is_some() || asked.account != Some("system@google.com") {
            "operation"
        } else {
            "systemevent"
        };
        let name = format!("{stem}-{}-{id:x}", now.as_millisecond());
        let operation = Operation {
            name: name.clone(),
            zone: asked.zone.to_owned(),
            kind: asked.kind.to_owned(),
            progress: Progress::Pending,
            target: asked.target.clone(),
            target_id: asked.target_id,
            failure: None,
            request_id: asked.request_id,
            ended_at: None,
            id,
            user: asked.account.unwrap_or("anonymous@sandbox").to_owned(),
            began_at: now,
            runs_at: None,
            stuck,
        };
        self.operations.insert(name.clone(), operation);
        name
    }

    pub(super) fn operation_runs(&mut self, name: &str, at: Timestamp) {
        if let Some(operation) = self.operations.get_mut(name)
            && operation.progress == Progress::Pending
        {
            operation.progress = Progress::Running;
            operation.runs_at = Some(at);
        }
    }

    /// What it did is done whether or not it ever says so.
    pub(super) fn end_operation(&mut self, name: &str, failure: Option<Failure>, at: Timestamp) {
        let Some(operation) = self.operations.get_mut(name) else { return };
        operation.failure = failure;
        if operation.stuck {
            return;
        }
        operation.progress = Progress::Done;
        operation.runs_at.get_or_insert(at);
        operation.ended_at = Some(at);
        let forgotten = after(at, self.timing.operations_kept_ms);
        self.push_due(forgotten, Due::Forgotten(name.to_owned()));
    }

    /// The operation that this request id began in this zone, if it is remembered.
    pub(super) fn replayed(
        &mut self,
        zone: &str,
        id: Option<Uuid>,
        now: Timestamp,
    ) -> Option<Value> {
        let key = (zone.to_owned(), id?);
        let (since, name) = self.request_ids.get(&key)?;
        if after(*since, self.timing.request_ids_kept_ms) <= now {
            self.request_ids.remove(&key);
            return None;
        }
        self.operations.get(name).map(|operation| self.show_operation(operation))
    }

    pub(super) fn read_operation(&mut self, zone: &str, name: &str) -> Result<Value, Refusal> {
        self.check_zone(zone)?;
        let path = format!("{}/operations/{name}", self.zone_path(zone));
        if strike(&mut self.knobs.forget_operations) {
            return Err(Refusal::not_found(&path));
        }
        let operation = self.operations.get(name).filter(|operation| operation.zone == zone);
        let operation = operation.ok_or_else(|| Refusal::not_found(&path))?;
        Ok(self.show_operation(operation))
    }

    pub(super) fn show_operation(&self, operation: &Operation) -> Value {
        let zone = format!("{BASE}{}", self.zone_path(&operation.zone));
        let progress = match operation.progress {
            Progress::Pending | Progress::Running => 0,
            Progress::Done => 100,
        };
        let shown = json!({
            "kind": "compute#operation",
            "id": operation.id.to_string(),
            "name": operation.name,
            "zone": zone,
            "operationType": operation.kind,
            "targetLink": format!("{zone}/{}", operation.target),
            "targetId": operation.target_id.to_string(),
            "status": operation.progress.shown(),
            "progress": progress,
            "user": operation.user,
            "insertTime": operation.began_at.to_string(),
            "selfLink": format!("{zone}/operations/{}", operation.name),
        });
        let mut shown = shown.as_object().cloned().unwrap_or_default();
        self.show_end(operation, &mut shown);
        Value::Object(shown)
    }

    fn show_end(&self, operation: &Operation, shown: &mut Map<String, Value>) {
        let mut add = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                shown.insert(key.to_owned(), Value::String(value));
            }
        };
        add("startTime", operation.runs_at.map(|at| at.to_string()));
        add("endTime", operation.ended_at.map(|at| at.to_string()));
        add("clientOperationId", operation.request_id.map(|id| id.to_string()));
        // A failure shows when the operation has ended.
        if let Some(failure) = operation.failure.as_ref().filter(|_| operation.ended_at.is_some()) {
            shown.insert("error".to_owned(), failure.body());
            let (code, message) = failure.http;
            shown.insert("httpErrorStatusCode".to_owned(), json!(code));
            shown.insert("httpErrorMessage".to_owned(), json!(message));
        }
    }
}
