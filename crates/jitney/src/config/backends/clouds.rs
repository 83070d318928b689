//! The keys of the backends on Google Cloud: virtual machines and Cloud Run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use planner::Rate;

use super::Surroundings;
use crate::config::problem::Complaint;
use crate::config::reading::Section;
use crate::config::values::{boolean, duration, one_of, path, rate, shown, text, url};

#[derive(Clone, Debug)]
pub struct Gce {
    pub project: String,
    pub zones: Vec<String>,
    /// In order of preference at equal price; empty: any.
    pub families: Vec<String>,
    pub image: Option<String>,
    pub images: BTreeMap<String, String>,
    pub service_account: Option<String>,
    pub token_delivery: TokenDelivery,
    /// Machines delete themselves at their end, by their service account.
    pub self_delete: bool,
    pub agent_config: Option<PathBuf>,
    /// By region.
    pub subnetworks: BTreeMap<String, String>,
    pub external_ip: bool,
    /// None: by family.
    pub disk_type: Option<String>,
    /// Any part of an Instance.
    pub template: Option<serde_json::Value>,
    pub writes: Rate,
    pub keep_failed: Duration,
    pub credentials: Credentials,
    pub endpoint: String,
}

#[derive(Clone, Debug)]
pub struct CloudRun {
    pub project: String,
    pub region: String,
    pub image: Option<String>,
    pub images: BTreeMap<String, String>,
    pub service_account: Option<String>,
    pub credentials: Credentials,
    pub endpoint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenDelivery {
    /// The machine fetches it, proving who it is.
    Pull,
    Metadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    Default,
    Anonymous,
}

impl Gce {
    pub(super) fn read(section: &Section<'_>, around: Surroundings) -> Self {
        let deliveries = [("pull", TokenDelivery::Pull), ("metadata", TokenDelivery::Metadata)];
        let gce = Self {
            project: section.needed(
                "project",
                "name the Google Cloud project",
                String::new(),
                text,
            ),
            zones: section.list("zones", zone).unwrap_or_default(),
            families: section.list("families", text).unwrap_or_default(),
            image: section.get("image", text),
            images: section.texts("images", |_, value| text(value)),
            service_account: section.get("service_account", text),
            token_delivery: section.or("token_delivery", "pull", one_of(deliveries)),
            self_delete: section.or("self_delete", "false", boolean),
            agent_config: section.get("agent_config", path),
            subnetworks: section.texts("subnetworks", |_, value| text(value)),
            external_ip: section.or("external_ip", "false", boolean),
            disk_type: section.get("disk_type", text),
            template: section.any("template"),
            writes: section.or("writes", "1200/m", rate),
            keep_failed: section.or("keep_failed", "0s", duration),
            credentials: Credentials::read(section),
            endpoint: section.or("endpoint", "https://compute.googleapis.com", url),
        };
        if section.is_empty("zones") {
            section.missing("zones", "name the zones to make machines in: zones: [europe-west4-a]");
        }
        if gce.token_delivery == TokenDelivery::Pull && !around.public_url {
            section.complain(
                "token_delivery",
                Complaint::new(
                    "machines that pull their token have to reach us, and public_url is not set",
                    "set public_url, or token_delivery: metadata",
                ),
            );
        }
        if gce.token_delivery == TokenDelivery::Pull && gce.service_account.is_none() {
            section.complain_here(Complaint::new(
                "a machine that pulls its token proves who it is by its service account, and there is none",
                "name one with service_account, which may have no role at all, or set token_delivery: metadata",
            ));
        }
        if gce.self_delete && gce.service_account.is_none() {
            section.complain(
                "self_delete",
                Complaint::new(
                    "machines delete themselves by their service account, and there is none",
                    "name one with service_account, and let it (docs/google-cloud-project.md)",
                ),
            );
        }
        gce.credentials.check(section, &gce.endpoint);
        gce
    }
}

/// `europe-west4-a`: a region, a dash, a letter.
fn zone(text: &str) -> Result<String, Complaint> {
    let is_letter = |zone: &str| zone.len() == 1 && zone.chars().all(|c| c.is_ascii_lowercase());
    match text.rsplit_once('-') {
        Some((region, zone)) if region.contains('-') && is_letter(zone) => Ok(text.to_owned()),
        Some(_) | None => Err(Complaint::new(
            format!("{} is not a zone", shown(text)),
            "write a zone, as europe-west4-a",
        )),
    }
}

impl CloudRun {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let run = Self {
            project: section.needed(
                "project",
                "name the Google Cloud project",
                String::new(),
                text,
            ),
            region: section.needed("region", "name a region, as europe-west4", String::new(), text),
            image: section.get("image", text),
            images: section.texts("images", |_, value| text(value)),
            service_account: section.get("service_account", text),
            credentials: Credentials::read(section),
            endpoint: section.or("endpoint", "https://run.googleapis.com", url),
        };
        run.credentials.check(section, &run.endpoint);
        run
    }
}

impl Credentials {
    fn read(section: &Section<'_>) -> Self {
        let words = [("default", Self::Default), ("anonymous", Self::Anonymous)];
        section.or("credentials", "default", one_of(words))
    }

    fn check(self, section: &Section<'_>, endpoint: &str) {
        if self == Self::Anonymous && !crate::config::values::is_loopback(endpoint) {
            section.complain(
                "credentials",
                Complaint::new(
                    "anonymous is for endpoints on loopback only",
                    "write default, or an endpoint such as http://127.0.0.1:9091",
                ),
            );
        }
    }
}
