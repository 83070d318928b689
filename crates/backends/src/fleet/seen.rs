//! What a dispatch's Job says of itself. Its status has all numbers, so that no pod has to be looked
//! at while all goes well.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::{DISPATCH, DISPATCHED_AT, SIZED_ON};

/// One dispatch that the cluster has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// The Job's name.
    pub name: String,
    pub dispatch_id: String,
    pub wanted: u32,
    /// When it was decided; where that cannot be read, when the cluster made it.
    pub made_at: Timestamp,
    /// Pods that are ready.
    pub online: u32,
    /// Pods whose agent left by itself.
    pub done: u32,
    pub failed: u32,
    /// Pods that are being deleted and have not gone.
    pub leaving: u32,
    /// It is complete, has failed, or is being deleted.
    pub over: bool,
    /// Somebody who queues Jobs lets it wait.
    pub suspended: bool,
    /// What it was reckoned from, as it says itself.
    pub sized_on: Option<String>,
}

/// Reads a Job; an error names what cannot be read.
pub fn dispatched(job: &Job) -> Result<Dispatched, String> {
    let meta = &job.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let label = meta.labels.as_ref().and_then(|labels| labels.get(DISPATCH));
    let dispatch_id = label.ok_or_else(|| format!("{name} bears no {DISPATCH}"))?.clone();
    let annotation = |key: &str| meta.annotations.as_ref().and_then(|texts| texts.get(key));
    let decided = annotation(DISPATCHED_AT).and_then(|text| text.parse::<Timestamp>().ok());
    let sized_on = annotation(SIZED_ON).cloned();
    let created = meta.creation_timestamp.as_ref().map(|time| time.0);
    let spec = job.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.completions).unwrap_or(1);
    let status = job.status.clone().unwrap_or_default();
    let holds = |kinds: &[&str]| {
        let conditions = status.conditions.iter().flatten();
        let mut held = conditions.filter(|condition| condition.status == "True");
        held.any(|condition| kinds.contains(&condition.type_.as_str()))
    };
    let leaving = count(status.terminating);
    let over = holds(&["Complete", "Failed"]) || meta.deletion_timestamp.is_some();
    // What is being deleted with its Job is not told apart from what runs.
    let going = if meta.deletion_timestamp.is_some() { count(status.active) } else { 0 };
    Ok(Dispatched {
        name,
        dispatch_id,
        wanted: count(Some(wanted)),
        made_at: decided.or(created).unwrap_or(Timestamp::UNIX_EPOCH),
        online: if over { 0 } else { count(status.ready) },
        done: count(status.succeeded),
        failed: count(status.failed),
        leaving: leaving.max(going),
        over,
        suspended: holds(&["Suspended"]),
        sized_on,
    })
}

fn count(number: Option<i32>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}
