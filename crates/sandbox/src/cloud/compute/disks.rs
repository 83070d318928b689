//! Disks of their own: made with a machine, used again where one of the same name is left, deleted
//! with their machine or by themselves. Local disks are none of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::due::{Due, after};
use super::instance::{check_labels, fingerprint};
use super::operation::Asked;
use super::order::{Order, WantedKind, texts};
use super::{BASE, Compute, Key};
use crate::cloud::refusal::{Failure, Refusal};

/// One disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    pub id: u64,
    pub zone: String,
    pub name: String,
    pub disk_type: String,
    pub size_gb: u64,
    pub labels: BTreeMap<String, String>,
    /// The name of the machine that has it.
    pub user: Option<String>,
    /// How many machines have had it; what is more than one came upon the leavings of another.
    pub used_by: u32,
    image: String,
    created_at: Timestamp,
    deleting: bool,
}

/// A disk that is asked for.
#[derive(Clone, Debug, Default)]
pub struct NewDisk {
    pub name: String,
    pub disk_type: String,
    pub size_gb: u64,
    pub labels: BTreeMap<String, String>,
    /// The URL of its image.
    pub image: String,
}

impl Compute {
    /// Puts a disk there that no machine has, as one that was left behind.
    pub fn leave_disk(&mut self, zone: &str, new: NewDisk, now: Timestamp) {
        self.make_or_reuse(zone, new, now);
    }

    pub(super) fn make_or_reuse(&mut self, zone: &str, new: NewDisk, now: Timestamp) {
        let key: Key = (zone.to_owned(), new.name.clone());
        if self.disks.contains_key(&key) {
            self.note("disk reused", zone, &new.name, "", now);
            return;
        }
        let disk = Disk {
            id: self.next_id(),
            zone: zone.to_owned(),
            name: new.name,
            disk_type: new.disk_type,
            size_gb: new.size_gb,
            labels: new.labels,
            user: None,
            used_by: 0,
            image: new.image,
            created_at: now,
            deleting: false,
        };
        self.disks.insert(key, disk);
    }

    pub(super) fn attach(&mut self, zone: &str, name: &str, machine: &str) {
        if let Some(disk) = self.disks.get_mut(&(zone.to_owned(), name.to_owned())) {
            disk.user = Some(machine.to_owned());
            disk.used_by += 1;
        }
    }

    /// That a disk which is asked for belongs to another machine, or is going away.
    pub(super) fn disk_in_use(&self, zone: &str, order: &Order) -> Option<Failure> {
        order.disks.iter().find_map(|wanted| {
            let name = match &wanted.kind {
                WantedKind::Local => return None,
                WantedKind::New { name, .. } | WantedKind::Existing(name) => name,
            };
            let disk = self.disks.get(&(zone.to_owned(), name.clone()))?;
            let by = match &disk.user {
                Some(user) => self.instance_path(zone, user),
                None if disk.deleting => "an operation that deletes it".to_owned(),
                None => return None,
            };
            let path = self.disk_path(zone, name);
            let words = format!("The disk resource '{path}' is already being used by '{by}'");
            Some(Failure::plain("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", &words))
        })
    }

    pub(super) fn disk_path(&self, zone: &str, name: &str) -> String {
        format!("{}/disks/{name}", self.zone_path(zone))
    }

    pub(super) fn known_disk(&self, zone: &str, name: &str) -> Result<&Disk, Refusal> {
        self.check_zone(zone)?;
        let disk = self.disks.get(&(zone.to_owned(), name.to_owned()));
        disk.ok_or_else(|| Refusal::not_found(&self.disk_path(zone, name)))
    }

    pub(super) fn delete_disk(
        &mut self,
        zone: &str,
        name: &str,
        request_id: Option<Uuid>,
        account: Option<&str>,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        if let Some(replayed) = self.replayed(zone, request_id, now) {
            return Ok(replayed);
        }
        let path = self.disk_path(zone, name);
        let disk = self.known_disk(zone, name)?;
        if let Some(user) = &disk.user {
            return Err(Refusal::in_use(&path, &self.instance_path(zone, user)));
        }
        if disk.deleting {
            return Err(Refusal::not_ready(&path));
        }
        let (target, target_id) = (format!("disks/{name}"), disk.id);
        if let Some(disk) = self.disks.get_mut(&(zone.to_owned(), name.to_owned())) {
            disk.deleting = true;
        }
        let asked = Asked { kind: "delete", zone, target, target_id, request_id, account };
        let operation = self.begin(asked, now);
        let due = Due::DiskDeleted(zone.to_owned(), name.to_owned(), operation.clone());
        self.push_due(after(now, self.timing.delete_ms), due);
        Ok(self.show_operation(&self.operations[&operation]))
    }

    pub(super) fn disk_deleted(&mut self, zone: &str, name: &str, operation: &str, at: Timestamp) {
        self.disks.remove(&(zone.to_owned(), name.to_owned()));
        self.note("disk deleted", zone, name, "", at);
        self.end_operation(operation, None, at);
    }

    pub(super) fn label_disk(
        &mut self,
        zone: &str,
        name: &str,
        body: &Value,
        asked: (Option<Uuid>, Option<&str>),
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        let (request_id, account) = asked;
        if let Some(replayed) = self.replayed(zone, request_id, now) {
            return Ok(replayed);
        }
        let disk = self.known_disk(zone, name)?;
        let labels = texts(body.get("labels"));
        check_labels(&labels).map_err(|(value, why)| Refusal::invalid("labels", &value, &why))?;
        check_fingerprint(body.get("labelFingerprint"), &fingerprint(&json!(disk.labels)))?;
        let (target, target_id) = (format!("disks/{name}"), disk.id);
        if let Some(disk) = self.disks.get_mut(&(zone.to_owned(), name.to_owned())) {
            disk.labels = labels;
        }
        let asked = Asked { kind: "setLabels", zone, target, target_id, request_id, account };
        let operation = self.begin(asked, now);
        self.push_due(after(now, self.timing.delete_ms), Due::Done(operation.clone()));
        Ok(self.show_operation(&self.operations[&operation]))
    }

    pub(super) fn show_disk(&self, disk: &Disk) -> Value {
        let zone = format!("{BASE}{}", self.zone_path(&disk.zone));
        let mut shown = json!({
            "kind": "compute#disk", "id": disk.id.to_string(), "name": disk.name, "zone": zone,
            "selfLink": format!("{zone}/disks/{}", disk.name),
            "type": format!("{zone}/diskTypes/{}", disk.disk_type),
            "sizeGb": disk.size_gb.to_string(),
            "status": if disk.deleting { "DELETING" } else { "READY" },
            "labels": disk.labels, "labelFingerprint": fingerprint(&json!(disk.labels)),
            "creationTimestamp": disk.created_at.to_string(),
        });
        if !disk.image.is_empty() {
            shown["sourceImage"] = json!(disk.image);
        }
        if let Some(user) = &disk.user {
            shown["users"] = json!([format!("{zone}/instances/{user}")]);
        }
        shown
    }
}

/// Whoever changes labels or metadata has to have seen them as they are.
pub(super) fn check_fingerprint(sent: Option<&Value>, is: &str) -> Result<(), Refusal> {
    if sent.and_then(Value::as_str) == Some(is) {
        return Ok(());
    }
    Err(Refusal::condition("Fingerprint is invalid or resource labels have changed".to_owned()))
}
