//! How machines become virtual ones here: what the operator has chosen, parsed. It knows no order.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::kubernetes::image_named;

/// What all machines of this backend have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The configuration's `name`: only what bears exactly this mark is ours.
    pub mark: String,
    pub project: String,
    pub zones: Vec<String>,
    /// What machines boot from when a job names no image.
    pub image: Option<String>,
    /// From the name that a job asks for, where `*` may stand, to the image, where `$0` may.
    pub images: BTreeMap<String, String>,
    pub service_account: Option<String>,
    pub delivery: Delivery,
    /// Machines delete themselves at their end, by their service account.
    pub self_delete: Option<SelfDelete>,
    /// The content of a `buildkite-agent.cfg`.
    pub agent_config: Option<String>,
    /// By region.
    pub subnetworks: BTreeMap<String, String>,
    pub external_ip: bool,
    /// Any part of an Instance; it lies under ours.
    pub template: Value,
    /// How long a machine whose agent has not connected goes on by itself.
    pub connect_within: Duration,
}

/// How a machine gets its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It asks us for it at this address, and proves who it is.
    Pull { url: String },
    /// It is in the machine's metadata.
    Metadata,
}

/// How machines delete themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfDelete {
    /// `https://compute.googleapis.com`
    pub endpoint: String,
    /// Not those whose agent never connected: they are kept for a look.
    pub keeps_failed: bool,
}

impl Settings {
    /// The account by which machines delete themselves.
    pub(super) fn deletes_itself_as(&self) -> Option<&str> {
        self.service_account.as_deref().filter(|_| self.self_delete.is_some())
    }

    /// The image's path, for a job that asked for this name, or for none.
    pub(super) fn image_for(&self, asked: Option<&str>) -> Option<String> {
        let asked = asked.or(self.image.as_deref())?;
        let found = image_named(&self.images, asked);
        Some(if found.contains('/') { found } else { format!("global/images/{found}") })
    }
}

/// `europe-west4` of `europe-west4-a`.
pub(super) fn region_of(zone: &str) -> &str {
    zone.rsplit_once('-').map_or(zone, |(region, _)| region)
}
