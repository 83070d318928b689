//! What can be looked at and does not change: the project, regions, zones, machine types, images,
//! subnetworks, and who may do what with them.

use serde_json::{Value, json};

use super::order::relative;
use super::settings::{Image, region_of};
use super::{BASE, Compute, MachineType};
use crate::cloud::refusal::Refusal;

/// When everything was there already.
const LONG_AGO: &str = "2026-01-01T00:00:00Z";

/// A number that is always the same for the same name.
fn id_of(name: &str) -> String {
    let mut id: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in name.bytes() {
        id = (id ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    id.to_string()
}

impl Compute {
    pub(super) fn show_project(&self) -> Value {
        let project = &self.settings.project;
        json!({
            "kind": "compute#project", "id": self.settings.project_number.to_string(),
            "name": project, "creationTimestamp": LONG_AGO,
            "selfLink": format!("{BASE}projects/{project}"),
            "quotas": self.show_quotas("global"), "defaultNetworkTier": "PREMIUM",
        })
    }

    pub(super) fn show_region(&self, region: &str) -> Value {
        let project = format!("{BASE}projects/{}", self.settings.project);
        let zones = self.settings.zones.iter().filter(|zone| region_of(zone) == region);
        json!({
            "kind": "compute#region", "id": id_of(region), "name": region, "status": "UP",
            "creationTimestamp": LONG_AGO, "description": region,
            "selfLink": format!("{project}/regions/{region}"),
            "zones": zones.map(|zone| format!("{project}/zones/{zone}")).collect::<Vec<_>>(),
            "quotas": self.show_quotas(region),
        })
    }

    pub(super) fn show_zone(&self, zone: &str) -> Value {
        let project = format!("{BASE}projects/{}", self.settings.project);
        let status = if self.knobs.zones_down.contains(zone) { "DOWN" } else { "UP" };
        json!({
            "kind": "compute#zone", "id": id_of(zone), "name": zone, "status": status,
            "creationTimestamp": LONG_AGO, "description": zone,
            "region": format!("{project}/regions/{}", region_of(zone)),
            "selfLink": format!("{project}/zones/{zone}"),
        })
    }

    pub(super) fn show_type(&self, zone: &str, machine_type: &MachineType) -> Value {
        let path = format!("{BASE}{}", self.zone_path(zone));
        let MachineType { name, cpus, memory_mb, bundled_ssds, shared, .. } = machine_type;
        let mut shown = json!({
            "kind": "compute#machineType", "id": id_of(name), "name": name, "zone": zone,
            "creationTimestamp": LONG_AGO,
            "description": format!("{cpus} vCPUs, {memory_mb} MB RAM"),
            "guestCpus": cpus, "memoryMb": memory_mb, "isSharedCpu": shared,
            "architecture": if machine_type.is_arm() { "ARM64" } else { "X86_64" },
            "maximumPersistentDisks": 128, "maximumPersistentDisksSizeGb": "263168",
            "selfLink": format!("{path}/machineTypes/{name}"),
        });
        if *bundled_ssds > 0 {
            shown["bundledLocalSsds"] =
                json!({"partitionCount": bundled_ssds, "defaultInterface": "NVME"});
        }
        shown
    }

    /// The type of this name, where the zone has its family.
    pub(super) fn type_in(&self, zone: &str, name: &str) -> Result<MachineType, String> {
        let found = MachineType::named(name, &self.types)?;
        if self.knobs.lacks(zone, found.series) {
            return Err(format!(
                "Machine type with name '{name}' does not exist in zone '{zone}'."
            ));
        }
        Ok(found)
    }

    pub(super) fn machine_type(&self, zone: &str, name: &str) -> Result<Value, Refusal> {
        self.check_zone(zone)?;
        let found = self.type_in(zone, name);
        let path = format!("{}/machineTypes/{name}", self.zone_path(zone));
        Ok(self.show_type(zone, &found.map_err(|_| Refusal::not_found(&path))?))
    }

    fn show_image(&self, image: &Image) -> Value {
        let Image { project, name, family, disk_size_gb, architecture } = image;
        let mut shown = json!({
            "kind": "compute#image", "id": id_of(name), "name": name, "status": "READY",
            "creationTimestamp": LONG_AGO, "diskSizeGb": disk_size_gb.to_string(),
            "architecture": architecture, "sourceType": "RAW",
            "selfLink": format!("{BASE}projects/{project}/global/images/{name}"),
        });
        if let Some(family) = family {
            shown["family"] = json!(family);
        }
        shown
    }

    pub(super) fn read_image(&self, project: &str, rest: &str) -> Result<Value, Refusal> {
        let path = format!("projects/{project}/global/images/{rest}");
        let found = self.image(&path).ok_or_else(|| Refusal::not_found(&path))?;
        Ok(self.show_image(found))
    }

    pub(super) fn subnetwork(
        &self,
        project: &str,
        region: &str,
        name: &str,
    ) -> Result<Value, Refusal> {
        let path = format!("projects/{project}/regions/{region}/subnetworks/{name}");
        if !self.settings.subnetworks.contains(&path) {
            return Err(Refusal::not_found(&path));
        }
        Ok(json!({
            "kind": "compute#subnetwork", "id": id_of(&path), "name": name,
            "region": format!("{BASE}projects/{project}/regions/{region}"),
            "network": format!("{BASE}projects/{project}/global/networks/ci"),
            "selfLink": format!("{BASE}{}", relative(&path)), "ipCidrRange": "10.0.0.0/14",
            "gatewayAddress": "10.0.0.1", "privateIpGoogleAccess": true, "purpose": "PRIVATE",
            "stackType": "IPV4_ONLY", "creationTimestamp": LONG_AGO,
        }))
    }

    pub(super) fn region(&self, name: &str) -> Result<Value, Refusal> {
        if !self.settings.regions().contains(name) {
            return Err(Refusal::invalid("region", name, "Unknown region."));
        }
        Ok(self.show_region(name))
    }

    /// Those of the permissions that the caller has.
    pub(super) fn test_permissions(
        &self,
        account: Option<&str>,
        resource: &str,
        body: &Value,
    ) -> Value {
        let asked = body.get("permissions").and_then(Value::as_array);
        let asked = asked.into_iter().flatten().filter_map(Value::as_str);
        let granted: Vec<&str> =
            asked.filter(|permission| self.grants.allow(account, permission, resource)).collect();
        if granted.is_empty() { json!({}) } else { json!({"permissions": granted}) }
    }
}
