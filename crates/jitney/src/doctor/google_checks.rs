//! The checks of Google Cloud: who we are to it, whether each zone can be listed, and what the
//! configuration leaves out that machines need.

use backends::{Backend, Class, Error};
use planner::BackendName;

use super::{Finding, Patient};
use crate::assembly;
use crate::config::backends::clouds::Gce;

pub(super) async fn all(patient: Patient<'_>, name: &BackendName, wanted: &Gce) -> Vec<Finding> {
    let check = format!("backend {name}");
    let gce = match assembly::gce(patient.config, name, wanted) {
        Ok(gce) => gce,
        Err(words) => {
            let remedy = format!("correct it in backends.{name}");
            return vec![Finding::wrong(check, words, remedy)];
        }
    };
    let place = format!("project {} at {}", wanted.project, wanted.endpoint);
    let mut findings = vec![match gce.list().await {
        Ok(listing) if listing.complete => {
            let zones = wanted.zones.join(", ");
            let found =
                format!("{place}: {zones} have {} machines of ours", listing.machines.len());
            Finding::ok(check, found)
        }
        Ok(_) => Finding::warning(
            check,
            format!("{place}: not every zone can be listed"),
            format!("check backends.{name}.gce.zones; what is in such a zone is unknown"),
        ),
        Err(error) => Finding::wrong(check, format!("{place}: {error}"), remedy(name, &error)),
    }];
    if wanted.image.is_none() {
        findings.push(Finding::warning(
            format!("{name}: image"),
            "jobs that name no image get no machine",
            format!("name one with backends.{name}.gce.image"),
        ));
    }
    findings
}

fn remedy(name: &BackendName, error: &Error) -> String {
    match error.class {
        Class::Denied => {
            "check GOOGLE_APPLICATION_CREDENTIALS or the machine's own account, and that it may compute.instances.list and compute.disks.list in the project".to_owned()
        }
        Class::Rejected => format!("check backends.{name}.gce.project and zones"),
        Class::Rate | Class::Quota | Class::Capacity => {
            "it works, and is busy: ask again".to_owned()
        }
        Class::Ambiguous => format!("check backends.{name}.gce.endpoint, and the way there"),
    }
}
