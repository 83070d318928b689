//! What a cloud starts with: its project, zones, images and networks, its delays and limits, and
//! what goes wrong in it. All of it can be replaced while it runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What does not change while the cloud runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The one project that has machines.
    pub project: String,
    pub project_number: u64,
    pub zones: Vec<String>,
    pub images: Vec<Image>,
    /// `projects/P/regions/R/subnetworks/S`, also of other projects.
    pub subnetworks: Vec<String>,
    /// The accounts that machines may be given.
    pub service_accounts: Vec<String>,
    /// The account whose key is given out; machines cannot be given it.
    pub dispatcher: String,
    /// Calls need an access token that the token endpoint or a metadata server has issued.
    pub need_token: bool,
    /// For names and numbers.
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    pub project: String,
    pub name: String,
    pub family: Option<String>,
    #[serde(default = "ten")]
    pub disk_size_gb: u64,
    /// `X86_64` or `ARM64`.
    #[serde(default = "x86")]
    pub architecture: String,
}

fn ten() -> u64 {
    10
}

fn x86() -> String {
    "X86_64".to_owned()
}

impl Image {
    fn new(project: &str, name: &str, family: &str) -> Self {
        let (project, family) = (project.to_owned(), Some(family.to_owned()));
        Self { project, name: name.to_owned(), family, disk_size_gb: ten(), architecture: x86() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let project = "sandbox-project".to_owned();
        let zones = [
            "us-central1-a",
            "us-central1-b",
            "us-central1-c",
            "us-central1-f",
            "europe-west1-b",
            "europe-west1-c",
            "europe-west1-d",
        ];
        let arm = Image {
            architecture: "ARM64".to_owned(),
            ..Image::new("debian-cloud", "debian-12-bookworm-arm64-v20261110", "debian-12-arm64")
        };
        let subnetworks = ["us-central1", "europe-west1"]
            .map(|r| format!("projects/{project}/regions/{r}/subnetworks/ci"));
        Self {
            images: vec![
                Image::new("debian-cloud", "debian-12-bookworm-v20261110", "debian-12"),
                arm,
                Image::new(&project, "bk-agent-1", "bk-agent"),
            ],
            subnetworks: subnetworks.into(),
            service_accounts: vec![format!("ci-agent@{project}.iam.gserviceaccount.com")],
            dispatcher: format!("jitney@{project}.iam.gserviceaccount.com"),
            project,
            project_number: 424_242_424_242,
            zones: zones.map(str::to_owned).into(),
            need_token: false,
            seed: 1,
        }
    }
}

impl Settings {
    /// The regions of the zones, in order.
    pub(crate) fn regions(&self) -> BTreeSet<&str> {
        self.zones.iter().map(|zone| region_of(zone)).collect()
    }
}

/// `us-central1` of `us-central1-a`.
pub(crate) fn region_of(zone: &str) -> &str {
    zone.rsplit_once('-').map_or(zone, |(region, _)| region)
}

/// How long things take, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// From an insert's answer to the end of its operation, which is when the machine runs.
    pub insert_ms: u64,
    /// From an insert's answer to the end of an operation that fails.
    pub failure_ms: u64,
    /// How long a machine that could not be had is still there, and its name taken.
    pub leftover_ms: u64,
    /// From a machine that runs to its startup script.
    pub boot_ms: u64,
    /// How long a machine is `STOPPING` at the least.
    pub stop_ms: u64,
    /// From the end of the machine to the end of the operation that deletes it.
    pub delete_ms: u64,
    /// How long a guest may take to shut down: on demand, and on spot.
    pub shutdown_ms: u64,
    pub spot_shutdown_ms: u64,
    /// How long operations can be looked up after their end.
    pub operations_kept_ms: u64,
    /// How long a request id is remembered.
    pub request_ids_kept_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            insert_ms: 400,
            failure_ms: 300,
            leftover_ms: 1_000,
            boot_ms: 100,
            stop_ms: 100,
            delete_ms: 100,
            shutdown_ms: 90_000,
            spot_shutdown_ms: 30_000,
            operations_kept_ms: 14 * 24 * 3_600_000,
            request_ids_kept_ms: 3_600_000,
        }
    }
}

/// So many machines at once fit where all of what is named applies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capacity {
    pub zone: Option<String>,
    /// `n2-standard-4`, or with a star at its end `n2-*`.
    pub machine_type: Option<String>,
    pub spot: Option<bool>,
    pub machines: u32,
}

/// Calls a minute, for the project and each region; `aggregatedList` has a minute of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    pub writes: u32,
    pub reads: u32,
    pub operation_reads: u32,
    /// `zoneOperations.wait` and `aggregatedList`.
    pub heavy_reads: u32,
    pub serial_port_reads: u32,
}

impl Default for Rates {
    fn default() -> Self {
        let each = 1_500;
        Self {
            writes: each,
            reads: each,
            operation_reads: each,
            heavy_reads: each,
            serial_port_reads: each,
        }
    }
}

/// Constraints of the organisation that are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Constraint {
    #[serde(rename = "constraints/compute.vmExternalIpAccess")]
    NoExternalIp,
    #[serde(rename = "constraints/compute.requireShieldedVm")]
    ShieldedVm,
    /// Only images of the project itself.
    #[serde(rename = "constraints/compute.trustedImageProjects")]
    TrustedImages,
    /// No machine outside `us-…`.
    #[serde(rename = "constraints/gcp.resourceLocations")]
    Locations,
}

/// Who may do what. A caller is known by the account of its access token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// The permissions of callers that are not named below; all of them if it is left out.
    pub everybody: Option<BTreeSet<String>>,
    pub accounts: BTreeMap<String, BTreeSet<String>>,
    /// What nobody may at one resource, by its path: `projects/p/global/images/i`.
    pub denied: BTreeMap<String, BTreeSet<String>>,
    /// By account, how the names of the machines begin to which its permissions are limited: the
    /// condition that its role is given with.
    pub only_machines: BTreeMap<String, String>,
}

impl Grants {
    /// Whether the account may do it with the resource of this path.
    pub(crate) fn allow(&self, account: Option<&str>, permission: &str, resource: &str) -> bool {
        let denied = self.denied.get(resource);
        if denied.is_some_and(|permissions| permissions.contains(permission)) {
            return false;
        }
        let limited = account.and_then(|account| self.only_machines.get(account));
        let name = resource.split_once("/instances/").map(|(_, name)| name);
        if limited.is_some_and(|start| !name.is_some_and(|name| name.starts_with(start.as_str()))) {
            return false;
        }
        let own = account.and_then(|account| self.accounts.get(account));
        own.or(self.everybody.as_ref()).is_none_or(|granted| granted.contains(permission))
    }
}

/// What goes wrong. Numbers without a unit count down with each time that it strikes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Inserts that are answered with 200 and whose operations fail.
    pub fail_inserts: Option<FailedInserts>,
    /// Quotas refuse calls at once and not operations later.
    pub quota_by_call: bool,
    /// Operations that never end.
    pub stuck_operations: u32,
    /// Reads of an operation that answer 404.
    pub forget_operations: u32,
    /// Machines whose startup script never runs.
    pub never_boot: u32,
    /// By how many seconds the clock of machines that are made from now on is wrong.
    pub clock_skew_s: i64,
    /// Deletes of machines that leave their disks behind.
    pub leak_disks: u32,
    /// For how long deletes of machines fail, from when this is set.
    pub deletes_fail_ms: u64,
    /// Lists that are answered with an empty page and a token.
    pub empty_pages: u32,
    /// Lists that leave out every second item, with a warning.
    pub partial_lists: u32,
    /// Zones that cannot be listed.
    pub unreachable_zones: BTreeSet<String>,
    /// Zones that are `DOWN`, and have no room for anything.
    pub zones_down: BTreeSet<String>,
    /// Families that a zone does not have: `us-central1-a: [n2d]`.
    pub families_missing: BTreeMap<String, BTreeSet<String>>,
    /// Lists leave out machines that are younger.
    pub list_lag_ms: u64,
    /// A machine whose metadata server hands out the identity tokens of another one.
    pub borrowed_identity: Option<BorrowedIdentity>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedInserts {
    /// `IP_SPACE_EXHAUSTED`
    pub code: String,
    #[serde(default)]
    pub message: Option<String>,
    pub times: u32,
    /// Only in this zone.
    #[serde(default)]
    pub zone: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BorrowedIdentity {
    pub machine: String,
    pub of: String,
}

/// Counts down; whether it strikes now.
pub(crate) fn strike(left: &mut u32) -> bool {
    let strikes = *left > 0;
    *left = left.saturating_sub(1);
    strikes
}

impl Knobs {
    pub(crate) fn lacks(&self, zone: &str, family: &str) -> bool {
        self.families_missing.get(zone).is_some_and(|missing| missing.contains(family))
    }

    pub(crate) fn failed_insert(&mut self, zone: &str) -> Option<(String, String)> {
        let failed = self.fail_inserts.as_mut()?;
        if failed.zone.as_ref().is_some_and(|only| only != zone) || !strike(&mut failed.times) {
            return None;
        }
        let message = failed.message.clone();
        Some((failed.code.clone(), message.unwrap_or_else(|| "it failed on demand".to_owned())))
    }
}
