//! What each method does, and what a caller has to be allowed for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::disks::check_fingerprint;
use super::due::{Due, after};
use super::instance::{check_labels, check_metadata, fingerprint, metadata_fingerprint};
use super::lists::Listed;
use super::order::{metadata_items, relative, texts};
use super::stops::Change;
use super::{BASE, Compute};
use crate::cloud::refusal::Refusal;

/// A call that fits the discovery document.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `compute.instances.insert`
    pub method: &'a str,
    pub path: &'a BTreeMap<String, String>,
    pub query: &'a [(String, String)],
    pub body: &'a Value,
    /// Whose access token it came with, if it came with one.
    pub account: Option<&'a str>,
}

impl<'a> Call<'a> {
    fn at(&self, name: &str) -> &'a str {
        self.path.get(name).map_or("", String::as_str)
    }

    fn asks(&self, name: &str) -> Option<&'a str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn request_id(&self) -> Result<Option<Uuid>, Refusal> {
        let Some(text) = self.asks("requestId") else { return Ok(None) };
        match text.parse::<Uuid>() {
            Ok(id) if !id.is_nil() => Ok(Some(id)),
            Ok(_) | Err(_) => {
                let why = "Must be a valid UUID, and not the zero UUID.";
                Err(Refusal::invalid("requestId", text, why))
            }
        }
    }

    fn change(&self) -> Result<Change<'a>, Refusal> {
        Ok(Change {
            zone: self.at("zone"),
            name: self.at("instance"),
            request_id: self.request_id()?,
            account: self.account,
            hard: self.asks("noGracefulShutdown") == Some("true"),
        })
    }
}

impl Compute {
    /// Carries a call out, with everything done that was due before.
    pub fn call(&mut self, call: Call<'_>, now: Timestamp) -> Result<Value, Refusal> {
        self.advance(now);
        self.check_project(&call)?;
        self.check_permissions(&call)?;
        let (zone, query) = (call.at("zone"), call.query);
        match call.method {
            "compute.instances.insert" => {
                self.insert(zone, call.body, call.request_id()?, call.account, now)
            }
            "compute.instances.delete" => self.delete(call.change()?, now),
            "compute.instances.stop" => self.stop(call.change()?, now),
            "compute.instances.setLabels" => self.label(call.change()?, call.body, now),
            "compute.instances.setMetadata" => self.set_metadata(call.change()?, call.body, now),
            "compute.disks.delete" => {
                self.delete_disk(zone, call.at("disk"), call.request_id()?, call.account, now)
            }
            "compute.disks.setLabels" => {
                let asked = (call.request_id()?, call.account);
                self.label_disk(zone, call.at("resource"), call.body, asked, now)
            }
            "compute.instances.list" => self.list(Listed::Instances, Some(zone), query, now),
            "compute.disks.list" => self.list(Listed::Disks, Some(zone), query, now),
            "compute.zoneOperations.list" => self.list(Listed::Operations, Some(zone), query, now),
            "compute.machineTypes.list" => self.list(Listed::MachineTypes, Some(zone), query, now),
            "compute.zones.list" => self.list(Listed::Zones, None, query, now),
            "compute.regions.list" => self.list(Listed::Regions, None, query, now),
            "compute.instances.aggregatedList" => self.aggregated(Listed::Instances, query, now),
            "compute.disks.aggregatedList" => self.aggregated(Listed::Disks, query, now),
            "compute.globalOperations.aggregatedList" => {
                self.aggregated(Listed::Operations, query, now)
            }
            "compute.machineTypes.aggregatedList" => {
                self.aggregated(Listed::MachineTypes, query, now)
            }
            method if method.ends_with(".testIamPermissions") => {
                let resource = self.known_resource(&call)?;
                Ok(self.test_permissions(call.account, &resource, call.body))
            }
            _ => self.read(&call),
        }
    }

    fn read(&mut self, call: &Call<'_>) -> Result<Value, Refusal> {
        let (project, zone) = (call.at("project"), call.at("zone"));
        match call.method {
            "compute.zoneOperations.get" | "compute.zoneOperations.wait" => {
                self.read_operation(zone, call.at("operation"))
            }
            "compute.instances.get" => {
                let found = self.known_instance(zone, call.at("instance"))?;
                Ok(self.show_instance(found))
            }
            "compute.instances.getSerialPortOutput" => {
                let found = self.known_instance(zone, call.at("instance"))?;
                let start = call.asks("start").and_then(|text| text.parse().ok());
                Ok(self.show_serial(found, start.unwrap_or_default()))
            }
            "compute.instances.getGuestAttributes" => self.guest_attributes(call),
            "compute.disks.get" => Ok(self.show_disk(self.known_disk(zone, call.at("disk"))?)),
            "compute.machineTypes.get" => self.machine_type(zone, call.at("machineType")),
            "compute.zones.get" => {
                self.check_zone(zone)?;
                Ok(self.show_zone(zone))
            }
            "compute.regions.get" => self.region(call.at("region")),
            "compute.images.get" => self.read_image(project, call.at("image")),
            "compute.images.getFromFamily" => {
                self.read_image(project, &format!("family/{}", call.at("family")))
            }
            "compute.subnetworks.get" => {
                self.subnetwork(project, call.at("region"), call.at("subnetwork"))
            }
            "compute.projects.get" => Ok(self.show_project()),
            other => Err(Refusal::broken(&format!("nothing plays {other}"))),
        }
    }

    /// Only images and subnetworks are in other projects, too.
    fn check_project(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let named = ["project", "projectsId"].iter().find_map(|key| call.path.get(*key));
        let Some(project) = named else { return Ok(()) };
        let own = project == &self.settings.project
            || project == &self.settings.project_number.to_string()
            || project == "-";
        let shared = ["compute.images.", "compute.subnetworks."];
        if own || shared.iter().any(|start| call.method.starts_with(start)) {
            return Ok(());
        }
        Err(Refusal::not_found(&format!("projects/{project}")))
    }

    fn check_permissions(&self, call: &Call<'_>) -> Result<(), Refusal> {
        for permission in needed(call) {
            let resource = self.resource_of(call, permission);
            if !self.grants.allow(call.account, permission, &resource) {
                return Err(Refusal::forbidden(permission, &resource));
            }
        }
        Ok(())
    }

    /// The path of what a permission is needed for: an insert needs some for what it names, too.
    fn resource_of(&self, call: &Call<'_>, permission: &str) -> String {
        let at = |name: &str| call.path.get(name).map(String::as_str);
        if call.method == "compute.instances.insert" {
            return self.resource_of_insert(call, permission);
        }
        let project = at("project").unwrap_or(&self.settings.project);
        let whole = format!("projects/{project}");
        if let Some(name) = at("family").or(at("image")) {
            let path = format!("{whole}/global/images/family/{name}");
            let by_name = format!("{whole}/global/images/{name}");
            let found = if at("family").is_some() { self.image(&path) } else { None };
            return found.map_or(by_name, |image| format!("{whole}/global/images/{}", image.name));
        }
        match (at("region"), at("subnetwork"), at("zone"), at("instance"), at("disk")) {
            (Some(region), Some(name), ..) => {
                format!("{whole}/regions/{region}/subnetworks/{name}")
            }
            (_, _, Some(zone), Some(name), _) => self.instance_path(zone, name),
            (_, _, Some(zone), _, Some(name)) => format!("{}/disks/{name}", self.zone_path(zone)),
            _ => whole,
        }
    }

    fn resource_of_insert(&self, call: &Call<'_>, permission: &str) -> String {
        let text = |path: &str| call.body.pointer(path).and_then(Value::as_str);
        let own = || self.instance_path(call.at("zone"), text("/name").unwrap_or_default());
        let named = match permission {
            "compute.subnetworks.use" | "compute.subnetworks.useExternalIp" => {
                text("/networkInterfaces/0/subnetwork").map(|url| relative(url).to_owned())
            }
            "compute.images.useReadOnly" => {
                let disks = call.body.get("disks").and_then(Value::as_array);
                let image = disks.into_iter().flatten().find_map(|disk| {
                    let url = disk.pointer("/initializeParams/sourceImage")?.as_str()?;
                    self.image(relative(url))
                });
                image.map(|it| format!("projects/{}/global/images/{}", it.project, it.name))
            }
            "iam.serviceAccounts.actAs" => text("/serviceAccounts/0/email").map(account_path),
            _ => None,
        };
        named.unwrap_or_else(own)
    }

    /// What a test of permissions is about, by its path; it has to be there.
    fn known_resource(&self, call: &Call<'_>) -> Result<String, Refusal> {
        let (project, zone, name) = (call.at("project"), call.at("zone"), call.at("resource"));
        match call.method {
            "compute.instances.testIamPermissions" => {
                self.known_instance(zone, name).map(|_| self.instance_path(zone, name))
            }
            "compute.disks.testIamPermissions" => {
                let path = format!("{}/disks/{name}", self.zone_path(zone));
                self.known_disk(zone, name).map(|_| path)
            }
            "compute.images.testIamPermissions" => {
                let path = format!("projects/{project}/global/images/{name}");
                self.read_image(project, name).map(|_| path)
            }
            "compute.subnetworks.testIamPermissions" => {
                let region = call.at("region");
                let path = format!("projects/{project}/regions/{region}/subnetworks/{name}");
                self.subnetwork(project, region, name).map(|_| path)
            }
            "iam.projects.serviceAccounts.testIamPermissions" => {
                let email = call.at("serviceAccountsId");
                if self.settings.service_accounts.iter().any(|known| known == email) {
                    return Ok(account_path(email));
                }
                Err(Refusal::not_found(&format!("serviceAccounts/{email}")))
            }
            _ => Ok(format!("projects/{}", self.settings.project)),
        }
    }

    fn guest_attributes(&self, call: &Call<'_>) -> Result<Value, Refusal> {
        let instance = self.known_instance(call.at("zone"), call.at("instance"))?;
        let path = call.asks("queryPath").unwrap_or_default();
        let found = instance.guest_attributes.iter().filter(|(key, _)| key.starts_with(path));
        let items: Vec<Value> = found
            .filter_map(|(key, value)| {
                let (namespace, key) = key.split_once('/')?;
                Some(json!({"namespace": namespace, "key": key, "value": value}))
            })
            .collect();
        let own = self.instance_path(&instance.zone, &instance.name);
        if items.is_empty() {
            return Err(Refusal::not_found(&format!("{own}/guestAttributes/{path}")));
        }
        Ok(json!({
            "kind": "compute#guestAttributes", "queryPath": path,
            "selfLink": format!("{BASE}{own}/guestAttributes/{path}"),
            "queryValue": {"items": items},
        }))
    }

    fn label(
        &mut self,
        change: Change<'_>,
        body: &Value,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        if let Some(replayed) = self.replayed(change.zone, change.request_id, now) {
            return Ok(replayed);
        }
        let instance = self.known_instance(change.zone, change.name)?;
        let labels = texts(body.get("labels"));
        check_labels(&labels).map_err(|(value, why)| Refusal::invalid("labels", &value, &why))?;
        let is = fingerprint(&json!(instance.labels()));
        check_fingerprint(body.get("labelFingerprint"), &is)?;
        let id = instance.id;
        if let Some(instance) = self.by_id_mut(id) {
            instance.labels = labels;
        }
        self.quick("setLabels", id, change, now)
    }

    fn set_metadata(
        &mut self,
        change: Change<'_>,
        body: &Value,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        if let Some(replayed) = self.replayed(change.zone, change.request_id, now) {
            return Ok(replayed);
        }
        let instance = self.known_instance(change.zone, change.name)?;
        let items = metadata_items(Some(body));
        check_metadata(&items)
            .map_err(|(value, why)| Refusal::invalid("metadata", &value, &why))?;
        check_fingerprint(body.get("fingerprint"), &metadata_fingerprint(instance))?;
        let id = instance.id;
        if let Some(instance) = self.by_id_mut(id) {
            instance.metadata = items;
        }
        self.quick("setMetadata", id, change, now)
    }

    /// A change that is made at once, though its operation takes a while.
    fn quick(
        &mut self,
        kind: &str,
        id: u64,
        change: Change<'_>,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        let operation = self.begin_change(kind, id, change, now);
        self.push_due(after(now, self.timing.delete_ms), Due::Done(operation.clone()));
        Ok(self.show_operation(&self.operations[&operation]))
    }
}

fn account_path(email: &str) -> String {
    format!("projects/-/serviceAccounts/{email}")
}

/// The permissions that a call needs.
fn needed(call: &Call<'_>) -> Vec<&'static str> {
    let one: &'static str = match call.method {
        "compute.instances.insert" => return needed_by_insert(call.body),
        "compute.instances.delete" => "compute.instances.delete",
        "compute.instances.stop" => "compute.instances.stop",
        "compute.instances.setLabels" => "compute.instances.setLabels",
        "compute.instances.setMetadata" => "compute.instances.setMetadata",
        "compute.instances.list" | "compute.instances.aggregatedList" => "compute.instances.list",
        "compute.instances.get" => "compute.instances.get",
        "compute.instances.getSerialPortOutput" => "compute.instances.getSerialPortOutput",
        "compute.instances.getGuestAttributes" => "compute.instances.getGuestAttributes",
        "compute.disks.list" | "compute.disks.aggregatedList" => "compute.disks.list",
        "compute.disks.get" => "compute.disks.get",
        "compute.disks.delete" => "compute.disks.delete",
        "compute.disks.setLabels" => "compute.disks.setLabels",
        "compute.zoneOperations.get" | "compute.zoneOperations.wait" => {
            "compute.zoneOperations.get"
        }
        "compute.zoneOperations.list" => "compute.zoneOperations.list",
        "compute.globalOperations.aggregatedList" => "compute.globalOperations.list",
        "compute.machineTypes.list" | "compute.machineTypes.aggregatedList" => {
            "compute.machineTypes.list"
        }
        "compute.machineTypes.get" => "compute.machineTypes.get",
        "compute.zones.list" => "compute.zones.list",
        "compute.zones.get" => "compute.zones.get",
        "compute.regions.list" => "compute.regions.list",
        "compute.regions.get" => "compute.regions.get",
        "compute.images.get" => "compute.images.get",
        "compute.images.getFromFamily" => "compute.images.getFromFamily",
        "compute.subnetworks.get" => "compute.subnetworks.get",
        "compute.projects.get" => "compute.projects.get",
        // Whoever may do nothing may ask so.
        _ => return Vec::new(),
    };
    vec![one]
}

fn needed_by_insert(body: &Value) -> Vec<&'static str> {
    let has = |key: &str| {
        let value = body.get(key);
        value.is_some_and(|it| match it {
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        })
    };
    let mut needed = vec![
        "compute.instances.create",
        "compute.disks.create",
        "compute.images.useReadOnly",
        "compute.subnetworks.use",
    ];
    for (there, permission) in [
        (has("metadata"), "compute.instances.setMetadata"),
        (has("labels"), "compute.instances.setLabels"),
        (has("tags"), "compute.instances.setTags"),
        (has("serviceAccounts"), "compute.instances.setServiceAccount"),
        (has("serviceAccounts"), "iam.serviceAccounts.actAs"),
    ] {
        if there {
            needed.push(permission);
        }
    }
    let interfaces = body.get("networkInterfaces").and_then(Value::as_array);
    let external = interfaces.into_iter().flatten().any(|it| it.get("accessConfigs").is_some());
    if external {
        needed.push("compute.subnetworks.useExternalIp");
    }
    needed
}
