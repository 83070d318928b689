//! One machine: what it was asked to be, what it is doing, and how it is shown.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::serial::{Part, Serial};
use super::stops::Stop;
use super::{BASE, Compute, MachineType};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Provisioning,
    Staging,
    Running,
    Stopping,
    Terminated,
}

impl Status {
    #[must_use]
    pub fn shown(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Staging => "STAGING",
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Terminated => "TERMINATED",
        }
    }
}

/// A disk that a machine holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// Of a disk of its own; a local one has none.
    pub(super) disk: Option<String>,
    pub(super) auto_delete: bool,
    pub(super) boot: bool,
}

/// What will become of a machine, decided when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Boots,
    NeverBoots,
    /// It cannot be had, and its operation will say so.
    Doomed,
}

/// Whether it has a process beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    NotYet,
    On,
    Off,
}

/// A service account and its scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub email: String,
    pub scopes: Vec<String>,
}

/// One machine.
#[derive(Clone, Debug)]
pub struct Instance {
    pub id: u64,
    pub zone: String,
    pub name: String,
    pub status: Status,
    pub machine_type: MachineType,
    pub spot: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    /// When it will have run as long as it may.
    pub terminates_at: Option<Timestamp>,
    /// What its metadata server says of it: that a preemption is under way.
    pub preempted: bool,
    pub account: Option<Account>,
    /// By how many seconds its clock is wrong.
    pub clock_skew_s: i64,
    pub internal_ip: String,
    /// As its guest wrote them: `namespace/key`.
    pub guest_attributes: BTreeMap<String, String>,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) tags: Vec<String>,
    /// What was sent and is shown as it came.
    pub(super) sent: Map<String, Value>,
    pub(super) disks: Vec<Attached>,
    pub(super) local_ssds: u32,
    pub(super) external_ip: bool,
    pub(super) run_for_s: Option<u64>,
    pub(super) notice_s: u64,
    /// What becomes of it when it is preempted or has run long enough.
    pub(super) delete_at_end: bool,
    pub(super) skip_shutdown: bool,
    pub(super) fate: Fate,
    pub(super) power: Power,
    pub(super) stop: Option<Stop>,
    /// The delete that waits for the insert's end.
    pub(super) delete_after_insert: Option<String>,
    pub(super) serial: Serial,
}

impl Instance {
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    #[must_use]
    pub fn network_tags(&self) -> &[String] {
        &self.tags
    }

    /// Whether it takes part in what is billed as a machine.
    pub(super) fn uses_cpus(&self) -> bool {
        self.fate != Fate::Doomed && self.status != Status::Terminated
    }

    /// The text that its serial port has put out so far.
    #[must_use]
    pub fn serial_output(&self) -> String {
        self.serial.read(0).contents
    }
}

impl Compute {
    /// What its startup script and its guest say.
    pub fn serial_write(&mut self, id: u64, bytes: &[u8]) {
        if let Some(instance) = self.by_id_mut(id) {
            instance.serial.push(bytes);
        }
    }

    /// What the guest writes to its metadata server; false if guest attributes are not enabled.
    pub fn set_guest_attribute(&mut self, id: u64, key: &str, value: Option<&str>) -> bool {
        let Some(instance) = self.by_id_mut(id) else { return false };
        let enabled = instance.attribute("enable-guest-attributes");
        if !enabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return false;
        }
        match value {
            Some(value) => instance.guest_attributes.insert(key.to_owned(), value.to_owned()),
            None => instance.guest_attributes.remove(key),
        };
        true
    }

    pub(super) fn show_serial(&self, instance: &Instance, start: i64) -> Value {
        let Part { contents, start, next } = instance.serial.read(start);
        let path = self.instance_path(&instance.zone, &instance.name);
        json!({
            "kind": "compute#serialPortOutput", "selfLink": format!("{BASE}{path}/serialPort"),
            "contents": contents, "start": start.to_string(), "next": next.to_string(),
        })
    }

    pub(super) fn show_instance(&self, instance: &Instance) -> Value {
        let zone = format!("{BASE}{}", self.zone_path(&instance.zone));
        let mut shown = instance.sent.clone();
        let always = json!({
            "kind": "compute#instance",
            "id": instance.id.to_string(),
            "name": instance.name,
            "zone": zone,
            "selfLink": format!("{zone}/instances/{}", instance.name),
            "machineType": format!("{zone}/machineTypes/{}", instance.machine_type.name),
            "status": instance.status.shown(),
            "creationTimestamp": instance.created_at.to_string(),
            "cpuPlatform": if instance.machine_type.is_arm() { "Ampere Altra" } else { "Intel Cascade Lake" },
            "labels": instance.labels,
            "labelFingerprint": fingerprint(&json!(instance.labels)),
            "metadata": self.show_metadata(instance),
            "tags": {"items": instance.tags, "fingerprint": fingerprint(&json!(instance.tags))},
            "disks": self.show_attached(instance),
            "fingerprint": fingerprint(&json!(instance.id)),
        });
        shown.extend(always.as_object().cloned().unwrap_or_default());
        let mut add = |key: &str, at: Option<Timestamp>| {
            if let Some(at) = at {
                shown.insert(key.to_owned(), Value::String(at.to_string()));
            }
        };
        add("lastStartTimestamp", instance.started_at);
        add("lastStopTimestamp", instance.stopped_at);
        let mut scheduling = json!({});
        if let Some(at) = instance.terminates_at {
            scheduling["terminationTimestamp"] = json!(at.to_string());
        }
        shown.insert("resourceStatus".to_owned(), json!({"scheduling": scheduling}));
        if let Some(account) = &instance.account {
            let shown_account = json!([{"email": account.email, "scopes": account.scopes}]);
            shown.insert("serviceAccounts".to_owned(), shown_account);
        }
        Value::Object(shown)
    }

    fn show_metadata(&self, instance: &Instance) -> Value {
        let items: Vec<Value> = instance
            .metadata
            .iter()
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect();
        json!({"kind": "compute#metadata", "fingerprint": metadata_fingerprint(instance), "items": items})
    }

    fn show_attached(&self, instance: &Instance) -> Vec<Value> {
        let zone = format!("{BASE}{}", self.zone_path(&instance.zone));
        let shown = instance.disks.iter().enumerate().map(|(index, attached)| {
            let mut shown = json!({
                "kind": "compute#attachedDisk", "index": index, "boot": attached.boot,
                "autoDelete": attached.auto_delete, "mode": "READ_WRITE",
                "deviceName": attached.disk.clone().unwrap_or_else(|| format!("local-ssd-{index}")),
            });
            match &attached.disk {
                Some(name) => {
                    shown["type"] = json!("PERSISTENT");
                    shown["source"] = json!(format!("{zone}/disks/{name}"));
                    let key = (instance.zone.clone(), name.clone());
                    if let Some(disk) = self.disks.get(&key) {
                        shown["diskSizeGb"] = json!(disk.size_gb.to_string());
                    }
                }
                None => {
                    shown["type"] = json!("SCRATCH");
                    shown["interface"] = json!("NVME");
                    shown["diskSizeGb"] = json!("375");
                }
            }
            shown
        });
        shown.collect()
    }
}

pub(super) fn metadata_fingerprint(instance: &Instance) -> String {
    fingerprint(&json!(instance.metadata))
}

/// A short text that changes with the value, in base64 as the schema wants it.
pub(super) fn fingerprint(value: &Value) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(value.to_string().as_bytes());
    let short: Vec<u8> = digest.iter().take(8).copied().collect();
    base64::engine::general_purpose::URL_SAFE.encode(short)
}

/// Labels as they may be: lower case, so many, so long.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), (String, String)> {
    if labels.len() > 64 {
        return Err((labels.len().to_string(), "There may be at most 64 labels.".to_owned()));
    }
    let plain = |text: &str| {
        text.chars().all(|c| c.is_alphanumeric() && !c.is_uppercase() || c == '-' || c == '_')
    };
    let rules = "Label keys have 1 to 63 characters and begin with a lower case letter, values have at most 63; lower case letters, digits, '-' and '_'.";
    for (key, value) in labels {
        let begins = key.chars().next().is_some_and(|c| c.is_alphabetic() && c.is_lowercase());
        let short = key.chars().count() <= 63 && value.chars().count() <= 63;
        if !begins || !short || !plain(key) || !plain(value) {
            return Err((format!("{key}={value}"), rules.to_owned()));
        }
    }
    Ok(())
}

/// Metadata as it may be: keys once each, 256 KiB each, 512 KiB together.
pub(super) fn check_metadata(items: &[(String, String)]) -> Result<(), (String, String)> {
    let mut seen = BTreeSet::new();
    let mut total = 0;
    for (key, value) in items {
        total += key.len() + value.len();
        if !seen.insert(key) {
            return Err((key.clone(), "The metadata key is there twice.".to_owned()));
        }
        if value.len() > 256 << 10 {
            return Err((
                key.clone(),
                "The metadata value is too large: at most 262144 bytes.".to_owned(),
            ));
        }
    }
    if total > 512 << 10 {
        return Err((
            total.to_string(),
            "The metadata is too large: at most 524288 bytes.".to_owned(),
        ));
    }
    Ok(())
}
