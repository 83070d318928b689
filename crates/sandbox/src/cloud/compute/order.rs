//! What an insert asks for, read out of its body and held to the rules that no schema tells: what
//! exists, what fits together, what the organisation allows.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::instance::{Account, check_labels, check_metadata};
use super::settings::{Constraint, Image, region_of};
use super::{BASE, Compute, MachineType};
use crate::cloud::refusal::Refusal;

/// The longest that a machine may be told to run: 120 days.
const LONGEST_RUN_S: u64 = 120 * 24 * 3_600;
const LOCAL_SSD_GB: u64 = 375;

/// A disk that is asked for.
#[derive(Clone, Debug)]
pub(super) struct WantedDisk {
    pub(super) boot: bool,
    pub(super) auto_delete: bool,
    pub(super) kind: WantedKind,
}

#[derive(Clone, Debug)]
pub(super) enum WantedKind {
    Local,
    /// A new disk; one of this name that is there already is taken in its place.
    New {
        name: String,
        disk_type: String,
        size_gb: u64,
        labels: BTreeMap<String, String>,
        image: String,
    },
    Existing(String),
}

/// A machine that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) name: String,
    pub(super) machine_type: MachineType,
    pub(super) spot: bool,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) tags: Vec<String>,
    pub(super) account: Option<Account>,
    pub(super) disks: Vec<WantedDisk>,
    pub(super) local_ssds: u32,
    pub(super) external_ip: bool,
    pub(super) run_for_s: Option<u64>,
    pub(super) notice_s: u64,
    pub(super) delete_at_end: bool,
    pub(super) skip_shutdown: bool,
    pub(super) sent: Map<String, Value>,
}

fn invalid(field: &str, value: impl ToString, why: impl AsRef<str>) -> Refusal {
    Refusal::invalid(&format!("resource.{field}"), &value.to_string(), why.as_ref())
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The schema has seen to it that it is a number.
fn number(value: &Value, key: &str) -> Option<u64> {
    text(value, key).and_then(|text| text.parse().ok())
}

pub(super) fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let map = value.and_then(Value::as_object);
    let pairs = map.into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

pub(super) fn metadata_items(metadata: Option<&Value>) -> Vec<(String, String)> {
    let items = metadata.map_or(&[][..], |metadata| items(metadata, "items"));
    let pair =
        |item: &Value| Some((text(item, "key")?.to_owned(), text(item, "value")?.to_owned()));
    items.iter().filter_map(pair).collect()
}

/// A URL of a resource without its beginning: `projects/p/…`, or `zones/…` as it was sent.
pub(super) fn relative(url: &str) -> &str {
    let hosts = [BASE, "https://compute.googleapis.com/compute/v1/"];
    let cut = hosts.iter().find_map(|host| url.strip_prefix(host));
    cut.unwrap_or(url).trim_start_matches('/')
}

impl Compute {
    pub(super) fn read_order(&self, zone: &str, body: &Value) -> Result<Order, Refusal> {
        let machine_type = self.wanted_type(zone, body)?;
        let labels = texts(body.get("labels"));
        check_labels(&labels).map_err(|(value, why)| invalid("labels", value, why))?;
        let metadata = metadata_items(body.get("metadata"));
        check_metadata(&metadata).map_err(|(value, why)| invalid("metadata", value, why))?;
        let disks = self.wanted_disks(zone, body, &machine_type)?;
        let local = disks.iter().filter(|disk| matches!(disk.kind, WantedKind::Local)).count();
        let local_ssds = u32::try_from(local).unwrap_or(u32::MAX);
        machine_type
            .check_local_ssds(local_ssds)
            .map_err(|why| invalid("disks", local_ssds, why))?;
        let scheduling = body.get("scheduling").cloned().unwrap_or_default();
        let spot = is_spot(&scheduling);
        let external_ip = self.check_networks(zone, body)?;
        let tags = body.get("tags").map_or(&[][..], |tags| items(tags, "items"));
        Ok(Order {
            name: text(body, "name").unwrap_or_default().to_owned(),
            local_ssds: local_ssds + machine_type.bundled_ssds,
            machine_type,
            spot,
            labels,
            metadata,
            tags: tags.iter().filter_map(|tag| Some(tag.as_str()?.to_owned())).collect(),
            account: self.wanted_account(body)?,
            disks,
            external_ip,
            run_for_s: run_time(&scheduling)?,
            notice_s: notice(&scheduling, spot)?,
            delete_at_end: text(&scheduling, "instanceTerminationAction") == Some("DELETE"),
            skip_shutdown: flag(&scheduling, "skipGuestOsShutdown"),
            sent: self.shown_as_sent(body, &scheduling, spot),
        })
    }

    fn wanted_type(&self, zone: &str, body: &Value) -> Result<MachineType, Refusal> {
        let url = text(body, "machineType").unwrap_or_default();
        let parts: Vec<&str> = relative(url).split('/').collect();
        let name = match parts.as_slice() {
            ["projects", _, "zones", at, "machineTypes", name]
            | ["zones", at, "machineTypes", name] => {
                if *at != zone {
                    let why = "The machine type must be in the zone of the instance.";
                    return Err(invalid("machineType", url, why));
                }
                name
            }
            _ => {
                let why = "The URL is malformed. Must be a valid machine type URL.";
                return Err(invalid("machineType", url, why));
            }
        };
        self.type_in(zone, name).map_err(|why| invalid("machineType", url, why))
    }

    fn wanted_disks(
        &self,
        zone: &str,
        body: &Value,
        machine_type: &MachineType,
    ) -> Result<Vec<WantedDisk>, Refusal> {
        let sent = items(body, "disks");
        if sent.iter().filter(|disk| flag(disk, "boot")).count() != 1 {
            return Err(invalid("disks", "", "A boot disk must be specified, once."));
        }
        let wanted = sent.iter().enumerate().map(|(index, disk)| {
            self.wanted_disk(zone, &format!("disks[{index}]"), disk, body, machine_type)
        });
        wanted.collect()
    }

    fn wanted_disk(
        &self,
        zone: &str,
        field: &str,
        disk: &Value,
        body: &Value,
        machine_type: &MachineType,
    ) -> Result<WantedDisk, Refusal> {
        let (boot, auto_delete) = (flag(disk, "boot"), flag(disk, "autoDelete"));
        let made = |kind| Ok(WantedDisk { boot, auto_delete, kind });
        let params = disk.get("initializeParams");
        if let Some(source) = text(disk, "source") {
            let name = source.rsplit('/').next().unwrap_or_default();
            let known = self.disks.contains_key(&(zone.to_owned(), name.to_owned()));
            if params.is_some() || !known {
                let why = if known {
                    "A disk has a source or initializeParams, not both."
                } else {
                    "The referenced disk resource cannot be found."
                };
                return Err(invalid(&format!("{field}.source"), source, why));
            }
            return made(WantedKind::Existing(name.to_owned()));
        }
        let none = json!({});
        let params = params.unwrap_or(&none);
        let disk_type = disk_type(zone, field, params, machine_type)?;
        let local = text(disk, "type") == Some("SCRATCH");
        if local != (disk_type == "local-ssd") {
            let why = "A local SSD is of type SCRATCH, and only that is.";
            return Err(invalid(&format!("{field}.type"), disk_type, why));
        }
        if local {
            let size = number(params, "diskSizeGb").or_else(|| number(disk, "diskSizeGb"));
            if boot || !auto_delete || size.is_some_and(|size| size != LOCAL_SSD_GB) {
                let why = "A local SSD has 375 GB, deletes itself and does not boot.";
                return Err(invalid(field, "SCRATCH", why));
            }
            return made(WantedKind::Local);
        }
        machine_type.check_disk_type(&disk_type).map_err(|why| {
            invalid(&format!("{field}.initializeParams.diskType"), &disk_type, why)
        })?;
        let (image, least_gb) = self.disk_image(field, boot, params, machine_type)?;
        let size_gb = number(params, "diskSizeGb").unwrap_or(least_gb);
        if size_gb < least_gb {
            let why = format!(
                "Requested disk size cannot be smaller than the image size ({least_gb} GB)"
            );
            return Err(invalid(&format!("{field}.initializeParams.diskSizeGb"), size_gb, why));
        }
        let labels = texts(params.get("labels"));
        check_labels(&labels).map_err(|(value, why)| {
            invalid(&format!("{field}.initializeParams.labels"), value, why)
        })?;
        let name = match text(params, "diskName") {
            Some(name) => name.to_owned(),
            None => default_disk_name(text(body, "name").unwrap_or_default(), field, boot),
        };
        made(WantedKind::New { name, disk_type, size_gb, labels, image })
    }

    /// The image of a disk and the least size that it gives.
    fn disk_image(
        &self,
        field: &str,
        boot: bool,
        params: &Value,
        machine_type: &MachineType,
    ) -> Result<(String, u64), Refusal> {
        let Some(source) = text(params, "sourceImage") else {
            if boot {
                let why = "The boot disk needs an image.";
                return Err(invalid(&format!("{field}.initializeParams.sourceImage"), "", why));
            }
            return Ok((String::new(), 10));
        };
        let refused =
            |why: &str| invalid(&format!("{field}.initializeParams.sourceImage"), source, why);
        let image = self.image(relative(source));
        let image =
            image.ok_or_else(|| refused("The referenced image resource cannot be found."))?;
        let arm = image.architecture == "ARM64";
        if arm != machine_type.is_arm() {
            return Err(refused("The image's architecture is not that of the machine type."));
        }
        if self.constraints.contains(&Constraint::TrustedImages)
            && image.project != self.settings.project
        {
            return Err(Refusal::condition(format!(
                "Constraint constraints/compute.trustedImageProjects violated for project {}. Use of images from project {} is prohibited.",
                self.settings.project, image.project
            )));
        }
        let path = format!("{BASE}projects/{}/global/images/{}", image.project, image.name);
        Ok((path, image.disk_size_gb))
    }

    /// An image by `projects/P/global/images/NAME` or `…/family/FAMILY`, also without the project.
    pub(super) fn image(&self, path: &str) -> Option<&Image> {
        let parts: Vec<&str> = path.split('/').collect();
        let (project, rest) = match parts.as_slice() {
            ["projects", project, rest @ ..] => (*project, rest),
            rest => (self.settings.project.as_str(), rest),
        };
        let mut images = self.settings.images.iter().rev().filter(|image| image.project == project);
        match rest {
            ["global", "images", "family", family] => {
                images.find(|image| image.family.as_deref() == Some(*family))
            }
            ["global", "images", name] => images.find(|image| image.name == *name),
            _ => None,
        }
    }

    fn wanted_account(&self, body: &Value) -> Result<Option<Account>, Refusal> {
        let accounts = items(body, "serviceAccounts");
        let Some(account) = accounts.first() else { return Ok(None) };
        let email = text(account, "email").unwrap_or_default();
        if accounts.len() > 1 {
            return Err(invalid(
                "serviceAccounts",
                email,
                "At most one service account is allowed.",
            ));
        }
        if !self.settings.service_accounts.iter().any(|known| known == email) {
            let why = "The referenced service account does not exist.";
            return Err(invalid("serviceAccounts[0].email", email, why));
        }
        let scopes = items(account, "scopes").iter().filter_map(|it| Some(it.as_str()?.to_owned()));
        Ok(Some(Account { email: email.to_owned(), scopes: scopes.collect() }))
    }

    /// Whether it gets an external address.
    fn check_networks(&self, zone: &str, body: &Value) -> Result<bool, Refusal> {
        let interfaces = items(body, "networkInterfaces");
        if interfaces.is_empty() {
            let why = "At least one network interface is required.";
            return Err(invalid("networkInterfaces", "", why));
        }
        let region = region_of(zone);
        for (index, interface) in interfaces.iter().enumerate() {
            let Some(url) = text(interface, "subnetwork") else { continue };
            let path = relative(url);
            let full = if path.starts_with("projects/") {
                path.to_owned()
            } else {
                format!("projects/{}/{path}", self.settings.project)
            };
            let field = format!("networkInterfaces[{index}].subnetwork");
            if !self.settings.subnetworks.contains(&full) {
                return Err(invalid(
                    &field,
                    url,
                    "The referenced subnetwork resource cannot be found.",
                ));
            }
            if !full.contains(&format!("/regions/{region}/")) {
                let why = "The subnetwork must be in the region of the instance.";
                return Err(invalid(&field, url, why));
            }
        }
        Ok(interfaces.iter().any(|interface| !items(interface, "accessConfigs").is_empty()))
    }

    /// What the organisation does not allow.
    pub(super) fn check_constraints(&self, zone: &str, body: &Value) -> Result<(), Refusal> {
        let project = &self.settings.project;
        let external = items(body, "networkInterfaces")
            .iter()
            .any(|it| !items(it, "accessConfigs").is_empty());
        let shielded =
            body.get("shieldedInstanceConfig").is_some_and(|it| flag(it, "enableSecureBoot"));
        for constraint in &self.constraints {
            let (violated, words) = match constraint {
                Constraint::NoExternalIp => (
                    external,
                    format!(
                        "Constraint constraints/compute.vmExternalIpAccess violated for project {project}. Add instance {} to the constraint to use external IP with it.",
                        self.instance_path(zone, text(body, "name").unwrap_or_default())
                    ),
                ),
                Constraint::ShieldedVm => (
                    !shielded,
                    format!(
                        "Constraint constraints/compute.requireShieldedVm violated for project {project}. Secure Boot is not enabled in the 'shielded_instance_config' field. See https://cloud.google.com/resource-manager/docs/organization-policy/org-policy-constraints for more information."
                    ),
                ),
                Constraint::Locations => (
                    !zone.starts_with("us-"),
                    format!(
                        "Constraint constraints/gcp.resourceLocations violated for {} attempting to create a resource in zone {zone}.",
                        self.zone_path(zone)
                    ),
                ),
                // It is asked where the image is known.
                Constraint::TrustedImages => (false, String::new()),
            };
            if violated {
                return Err(Refusal::condition(words));
            }
        }
        Ok(())
    }

    /// The fields that are shown as they came, with what Google adds to them.
    fn shown_as_sent(&self, body: &Value, scheduling: &Value, spot: bool) -> Map<String, Value> {
        let mut sent = body.as_object().cloned().unwrap_or_default();
        // Only the request has them, or they are shown from what is known.
        for key in ["params", "disks", "labels", "metadata", "tags", "serviceAccounts"] {
            sent.remove(key);
        }
        sent.retain(|_, value| !value.is_null());
        let mut shown = scheduling.as_object().cloned().unwrap_or_default();
        let model = if spot { "SPOT" } else { "STANDARD" };
        for (key, value) in [
            ("provisioningModel", json!(model)),
            ("preemptible", json!(spot)),
            ("automaticRestart", json!(!spot)),
            ("onHostMaintenance", json!(if spot { "TERMINATE" } else { "MIGRATE" })),
        ] {
            shown.entry(key).or_insert(value);
        }
        sent.insert("scheduling".to_owned(), Value::Object(shown));
        let interfaces = sent.get_mut("networkInterfaces").and_then(Value::as_array_mut);
        for (index, interface) in interfaces.into_iter().flatten().enumerate() {
            interface["kind"] = json!("compute#networkInterface");
            interface["name"] = json!(format!("nic{index}"));
            if let Some(url) = text(interface, "subnetwork") {
                let full = relative(url);
                let full = if full.starts_with("projects/") {
                    full.to_owned()
                } else {
                    format!("projects/{}/{full}", self.settings.project)
                };
                interface["subnetwork"] = json!(format!("{BASE}{full}"));
            }
        }
        sent
    }
}

fn is_spot(scheduling: &Value) -> bool {
    text(scheduling, "provisioningModel") == Some("SPOT") || flag(scheduling, "preemptible")
}

fn run_time(scheduling: &Value) -> Result<Option<u64>, Refusal> {
    let Some(duration) = scheduling.get("maxRunDuration") else { return Ok(None) };
    let field = "scheduling.maxRunDuration";
    let seconds = number(duration, "seconds").unwrap_or_default();
    if !(30..=LONGEST_RUN_S).contains(&seconds) {
        let why = "It must be between 30 seconds and 120 days.";
        return Err(invalid(field, seconds, why));
    }
    let action = text(scheduling, "instanceTerminationAction");
    if action.is_none() && !is_spot(scheduling) {
        let why = "It needs an instanceTerminationAction.";
        return Err(invalid(field, seconds, why));
    }
    Ok(Some(seconds))
}

fn notice(scheduling: &Value, spot: bool) -> Result<u64, Refusal> {
    let Some(duration) = scheduling.get("preemptionNoticeDuration") else { return Ok(0) };
    let seconds = number(duration, "seconds").unwrap_or_default();
    if !spot || (seconds != 0 && seconds != 120) {
        let why = "It is for spot only, and 0 or 120 seconds.";
        return Err(invalid("scheduling.preemptionNoticeDuration", seconds, why));
    }
    Ok(seconds)
}

fn disk_type(zone: &str, field: &str, params: &Value, of: &MachineType) -> Result<String, Refusal> {
    let Some(url) = text(params, "diskType") else { return Ok(of.default_disk_type().to_owned()) };
    let parts: Vec<&str> = relative(url).split('/').collect();
    match parts.as_slice() {
        ["projects", _, "zones", at, "diskTypes", name] | ["zones", at, "diskTypes", name]
            if *at == zone =>
        {
            Ok((*name).to_owned())
        }
        _ => {
            let why = "The disk type must be a URL, in the zone of the instance.";
            Err(invalid(&format!("{field}.initializeParams.diskType"), url, why))
        }
    }
}

/// The boot disk is called as its machine is.
fn default_disk_name(machine: &str, field: &str, boot: bool) -> String {
    if boot {
        return machine.to_owned();
    }
    let index = field.trim_start_matches("disks[").trim_end_matches(']');
    format!("{machine}-{index}")
}
