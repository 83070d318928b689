//! The calls that the API server has answered, as its audit log tells them.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use crate::Result;
use crate::error::{api, io};

/// What the API server is told to write down: every call of others than its own companions, once
/// it is answered, without bodies.
pub(super) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted, Panic]
rules:
  - level: None
    users: [controllers, scheduler, kubelet, 'system:apiserver', 'system:anonymous']
  - level: Metadata
";

/// One call, answered. A watch is there once it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `admin`, or `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    pub user_agent: String,
    /// As RBAC names it: `create`, `list`, `deletecollection`, …
    pub verb: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// The HTTP status.
    pub code: u16,
    /// When the request came.
    pub at: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: Object,
    response_status: Status,
    request_received_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct Status {
    code: u16,
}

/// All calls in the log, in the order of their answers.
pub(super) fn read(log: &Path) -> Result<Vec<Call>> {
    let text = fs::read_to_string(log).map_err(io("read the audit log"))?;
    // The last line may still be being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parsed = whole.lines().map(|line| {
        let line: Line = serde_json::from_str(line)?;
        Ok(Call {
            user: line.user.username,
            user_agent: line.user_agent,
            verb: line.verb,
            resource: line.object_ref.resource,
            subresource: line.object_ref.subresource,
            namespace: line.object_ref.namespace,
            name: line.object_ref.name,
            code: line.response_status.code,
            at: line.request_received_timestamp,
        })
    });
    parsed.collect::<serde_json::Result<_>>().map_err(api("read the audit log"))
}
