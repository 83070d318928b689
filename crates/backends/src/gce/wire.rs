//! What of Google's resources is read, and nothing else of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::refusal::Failures;

/// The fields of a list of machines, of a list of operations, of all zones' machines or disks.
pub(super) const INSTANCES: &str = "items(id,name,status,description,creationTimestamp,labels),nextPageToken,warning(code,message)";
pub(super) const OPERATIONS: &str = "items(name,operationType,status,targetId,targetLink,user,insertTime,endTime,error),nextPageToken,warning(code,message)";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<T> {
    #[serde(default = "Vec::new")]
    pub(super) items: Vec<T>,
    pub(super) next_page_token: Option<String>,
    pub(super) warning: Option<Warning>,
}

/// A list that lacks something says so.
#[derive(Debug, Deserialize)]
pub(super) struct Warning {
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: Status,
    #[serde(default)]
    pub(super) description: String,
    pub(super) creation_timestamp: Timestamp,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(super) enum Status {
    /// It is on its way up.
    Making,
    Running,
    /// It is on its way down, or suspended.
    Stopping,
    /// It is off.
    Off,
    /// One that we do not know; most likely it is alive.
    Other(String),
}

impl From<String> for Status {
    fn from(text: String) -> Self {
        match text.as_str() {
            "PENDING" | "PROVISIONING" | "STAGING" => Self::Making,
            "RUNNING" => Self::Running,
            "PENDING_STOP" | "STOPPING" | "SUSPENDING" | "DEPROVISIONING" => Self::Stopping,
            "STOPPED" | "SUSPENDED" | "TERMINATED" => Self::Off,
            _ => Self::Other(text),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    #[serde(default)]
    pub(super) operation_type: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) target_id: String,
    #[serde(default)]
    pub(super) target_link: String,
    #[serde(default)]
    pub(super) user: String,
    pub(super) insert_time: Option<Timestamp>,
    pub(super) end_time: Option<Timestamp>,
    pub(super) error: Option<Failures>,
}

impl Operation {
    pub(super) fn is_done(&self) -> bool {
        self.status == "DONE"
    }

    pub(super) fn deletes(&self) -> bool {
        self.operation_type == "delete"
    }

    /// The name of what it is about.
    pub(super) fn target(&self) -> &str {
        self.target_link.rsplit('/').next().unwrap_or_default()
    }
}

/// A list of all zones.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Everywhere {
    #[serde(default)]
    pub(super) items: BTreeMap<String, Scope>,
    #[serde(default)]
    pub(super) unreachables: Vec<String>,
    pub(super) next_page_token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scope {
    pub(super) instances: Vec<Instance>,
    pub(super) disks: Vec<Disk>,
    pub(super) warning: Option<Warning>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Disk {
    pub(super) name: String,
    pub(super) creation_timestamp: Timestamp,
    #[serde(default)]
    pub(super) users: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SerialPort {
    pub(super) contents: String,
}

/// The zone of `zones/us-central1-a`.
pub(super) fn zone_of(scope: &str) -> Option<&str> {
    scope.strip_prefix("zones/")
}
