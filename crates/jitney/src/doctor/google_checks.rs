//! The checks of Google Cloud: who we are to it, what we may do with each thing that machines are
//! made of, whether zones and families are there, what quotas leave of the limits, and what the
//! configuration leaves out that machines need. Nothing there is changed by it.

mod quotas;
mod rights;

use std::collections::BTreeMap;

use backends::gce::Probe;
use backends::{Class, Error};
use planner::BackendName;

use super::{Finding, Patient};
use crate::assembly;
use crate::config::backends::clouds::Gce;
use crate::config::words::nearest;

pub(super) async fn all(patient: Patient<'_>, name: &BackendName, wanted: &Gce) -> Vec<Finding> {
    let check = format!("backend {name}");
    let gce = match assembly::gce(patient.config, name, wanted) {
        Ok(gce) => gce,
        Err(words) => {
            let remedy = format!("correct it in backends.{name}");
            return vec![Finding::wrong(check, words, remedy)];
        }
    };
    let probe = gce.probe().await;
    let place = format!("project {} at {}", wanted.project, wanted.endpoint);
    let mut findings = vec![found_there(name, &probe, &place)];
    // Without an answer the rest would only say the same again.
    if probe.credentials.is_err() || is_silent(&probe) {
        return findings;
    }
    findings.extend(probe.rights.iter().map(|right| rights::of(name, wanted, right)));
    findings.extend(rights::sizes(patient.config, name, &probe.rights));
    findings.extend(zones(name, wanted, &probe));
    findings.extend(families(patient, name, wanted, &probe));
    findings.extend(quotas::all(patient.config, name, wanted, &probe.quotas));
    if wanted.image.is_none() {
        findings.push(Finding::warning(
            format!("{name}: image"),
            "jobs that name no image get no machine",
            format!("name one with backends.{name}.gce.image"),
        ));
    }
    findings
}

/// Who we are, and what is of ours there.
fn found_there(name: &BackendName, probe: &Probe, place: &str) -> Finding {
    let check = format!("backend {name}");
    if let Err(error) = &probe.credentials {
        let remedy = "set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials, or run where there is a metadata server; `gcloud auth application-default login` makes them for a look by hand";
        return Finding::wrong(check, format!("{place}: {error}"), remedy);
    }
    let mut count = 0;
    for machines in probe.machines.values() {
        match machines {
            Ok(machines) => count += machines,
            Err(error) => {
                let found = format!("{place}: {error}");
                return Finding::wrong(check, found, remedy(name, error));
            }
        }
    }
    let zones: Vec<&str> = probe.machines.keys().map(String::as_str).collect();
    let found = format!("{place}: {} have {count} machines of ours", zones.join(", "));
    Finding::ok(check, found)
}

/// Whether nothing answers at all.
fn is_silent(probe: &Probe) -> bool {
    let lost = |error: &Error| error.class == Class::Ambiguous;
    probe.zones.as_ref().err().is_some_and(lost)
        && probe.machines.values().all(|listed| listed.as_ref().err().is_some_and(lost))
}

fn remedy(name: &BackendName, error: &Error) -> String {
    match error.class {
        Class::Denied => {
            "check GOOGLE_APPLICATION_CREDENTIALS or the machine's own account; what it may not is below".to_owned()
        }
        Class::Rejected => format!("check backends.{name}.gce.project and zones"),
        Class::Rate | Class::Quota | Class::Capacity => {
            "it works, and is busy: ask again".to_owned()
        }
        Class::Ambiguous => format!("check backends.{name}.gce.endpoint, and the way there"),
    }
}

fn zones(name: &BackendName, wanted: &Gce, probe: &Probe) -> Vec<Finding> {
    let check = format!("{name}: zones");
    let known = match &probe.zones {
        Ok(known) => known,
        Err(error) => {
            let found = format!("nobody says which zones there are: {error}");
            return vec![Finding::warning(check, found, reading(name, wanted))];
        }
    };
    let mut findings: Vec<Finding> = Vec::new();
    for zone in &wanted.zones {
        let check = check.clone();
        match known.get(zone) {
            Some(true) => {}
            Some(false) => findings.push(Finding::warning(
                check,
                format!("{zone} is DOWN, says Google: no machine is made there now"),
                "nothing: it is tried again; jobs go to the other zones meanwhile",
            )),
            None => findings.push(Finding::wrong(
                check,
                format!("there is no zone {zone} for the project {}", wanted.project),
                no_zone(name, zone, known),
            )),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, format!("{} are up", wanted.zones.join(", "))));
    }
    findings
}

fn no_zone(name: &BackendName, zone: &str, known: &BTreeMap<String, bool>) -> String {
    let key = format!("backends.{name}.gce.zones");
    match nearest(zone, known.keys().map(String::as_str)) {
        Some(near) => format!("did you mean {near}? correct {key}"),
        None => format!("correct {key}; `gcloud compute zones list` shows them"),
    }
}

/// Families of the configuration that a zone has no types of.
fn families(patient: Patient<'_>, name: &BackendName, wanted: &Gce, probe: &Probe) -> Vec<Finding> {
    let check = format!("{name}: families");
    let tables = patient.config.tables();
    let mut named: Vec<&str> = wanted.families.iter().map(String::as_str).collect();
    if named.is_empty() {
        named = tables.families.families.keys().map(|name| &**name).collect();
    }
    let mut findings: Vec<Finding> = Vec::new();
    let mut anywhere: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (zone, has) in &probe.families {
        match has {
            Ok(has) => {
                for family in named.iter().filter(|family| !has.contains(**family)) {
                    anywhere.entry(*family).or_default().push(zone);
                }
            }
            Err(error) => {
                let found = format!("nobody says which machine types {zone} has: {error}");
                findings.push(Finding::warning(check.clone(), found, reading(name, wanted)));
            }
        }
    }
    // Who named none takes what there is.
    if wanted.families.is_empty() {
        anywhere.retain(|_, zones| zones.len() == probe.families.len());
    }
    for (family, zones) in anywhere {
        let found =
            format!("{} has no {family}: it is offered and refused there", zones.join(", "));
        let remedy = format!(
            "take {family} out of backends.{name}.gce.families, or the zone out of zones; `gcloud compute machine-types list --project={} --zones={} --filter=name:{family}-*` shows it",
            wanted.project,
            zones.join(",")
        );
        findings.push(Finding::warning(check.clone(), found, remedy));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, format!("{} are in all zones", named.join(", "))));
    }
    findings
}

/// What a look alone takes, beyond what machines take.
fn reading(name: &BackendName, wanted: &Gce) -> String {
    let project = &wanted.project;
    format!(
        "jobs do not need it; for a look give the account of backends.{name} what deploy/google-cloud/role.yaml lists: gcloud iam roles update jitney --project={project} --file=deploy/google-cloud/role.yaml"
    )
}
