//! The calls that the API server has answered, as its audit log tells them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;

use crate::Result;
use crate::error::{api, io};

/// What the API server is told to write down: every call of others than its own companions, and
/// when the controllers make pods, once it is answered, without bodies.
pub(super) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted, Panic]
rules:
  - level: Metadata
    users: [controllers]
    verbs: [create]
    resources: [{ group: '', resources: [pods] }]
  - level: None
    users: [controllers, scheduler, kubelet, 'system:apiserver', 'system:anonymous']
  - level: Metadata
";

/// One call, answered. A watch is there once it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `admin`, `controllers` or `system:serviceaccount:NAMESPACE:NAME`.
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
    pub answered_at: Timestamp,
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
    stage_timestamp: Timestamp,
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

/// A place in the log, from which it is read on.
#[derive(Debug)]
pub struct Tail {
    log: PathBuf,
    read: u64,
}

impl Tail {
    pub(super) fn new(log: PathBuf) -> Self {
        Self { log, read: 0 }
    }

    /// What has come since, in the order of the answers.
    ///
    /// # Errors
    ///
    /// Where the log cannot be read.
    pub fn more(&mut self) -> Result<Vec<Call>> {
        let mut text = Vec::new();
        File::open(&self.log)
            .and_then(|mut log| {
                log.seek(SeekFrom::Start(self.read))?;
                log.read_to_end(&mut text)
            })
            .map_err(io("read the audit log"))?;
        // The last line may still be being written.
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let calls: serde_json::Result<_> = lines.map(call).collect();
        let calls = calls.map_err(api("read the audit log"))?;
        self.read += u64::try_from(text.len()).expect("memory holds no more than 64 bits count");
        Ok(calls)
    }
}

fn call(line: &[u8]) -> serde_json::Result<Call> {
    let line: Line = serde_json::from_slice(line)?;
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
        answered_at: line.stage_timestamp,
    })
}
