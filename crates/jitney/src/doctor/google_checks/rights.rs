//! What we may do with the project, subnetworks, images and the machines' account, and whether they
//! are as large as the configuration takes them to be.

use backends::gce::{Right, Subject};
use backends::{Class, Error};
use planner::{BOOT_DISK, BackendName, Bytes};

use super::Finding;
use super::quotas::{most_machines, served};
use crate::config::Config;
use crate::config::backends::clouds::Gce;

/// Stands in a command for what Jitney calls Google with.
const WE: &str = "serviceAccount:ACCOUNT";

pub(super) fn of(name: &BackendName, wanted: &Gce, right: &Right) -> Finding {
    let check = format!("{name}: {}", title(&right.subject));
    let thing = words(&right.subject);
    if let Subject::Unreadable(text) = &right.subject {
        let found = format!("`{text}` is neither the path of an image nor of a subnetwork");
        let remedy = format!(
            "write projects/P/global/images/family/F, or projects/P/regions/R/subnetworks/S, in backends.{name}.gce"
        );
        return Finding::wrong(check, found, remedy);
    }
    match &right.missing {
        Ok(missing) if missing.is_empty() => {
            Finding::ok(check, format!("{thing}: we may do all that we have to"))
        }
        Ok(missing) => Finding::wrong(
            check,
            format!("{thing}: we may not {}", missing.join(", ")),
            grant(&right.subject, &wanted.project, missing),
        ),
        Err(error) => unknown(name, wanted, right, check, error),
    }
}

/// Nobody says what we may; where it is not even there, that is why.
fn unknown(
    name: &BackendName,
    wanted: &Gce,
    right: &Right,
    check: String,
    error: &Error,
) -> Finding {
    let thing = words(&right.subject);
    let project = &wanted.project;
    // What is forbidden of an image is the request's fault to a job, and ours here.
    let forbidden = error.class == Class::Denied
        || error.fields.get("status").is_some_and(|status| status == "403");
    if error.class == Class::Rejected && !forbidden {
        let found = format!("{thing} is not there: {error}");
        return Finding::wrong(check, found, format!("correct it in backends.{name}.gce"));
    }
    let found = format!("{thing}: nobody says what we may do: {error}");
    let api = match &right.subject {
        Subject::Project(_) => Some("cloudresourcemanager.googleapis.com"),
        Subject::Account(_) => Some("iam.googleapis.com"),
        Subject::Subnetwork { .. } | Subject::Image { .. } | Subject::Unreadable(_) => None,
    };
    let remedy = match (error.class, api) {
        (_, Some(api)) if forbidden => format!(
            "jobs do not need it; for a look enable it: gcloud services enable {api} --project={project}. On a virtual machine of Google's it takes the access scope cloud-platform"
        ),
        (_, None) if forbidden => grant(&right.subject, project, &[]),
        (Class::Rate | Class::Quota | Class::Capacity, _) => {
            "it works, and is busy: ask again".to_owned()
        }
        (Class::Ambiguous | Class::Rejected | Class::Denied, _) => {
            "check the way there, and ask again".to_owned()
        }
    };
    // An image and a subnetwork that we may not even ask about we may not use either.
    if forbidden && api.is_none() {
        return Finding::wrong(check, found, remedy);
    }
    Finding::warning(check, found, remedy)
}

fn title(subject: &Subject) -> &'static str {
    match subject {
        Subject::Project(_) => "permissions",
        Subject::Subnetwork { .. } => "subnetwork",
        Subject::Image { .. } => "image",
        Subject::Account(_) => "service account",
        Subject::Unreadable(_) => "path",
    }
}

fn words(subject: &Subject) -> String {
    match subject {
        Subject::Project(project) => format!("project {project}"),
        Subject::Subnetwork { project, region, name } => {
            format!("subnetwork {name} in {region} of {project}")
        }
        Subject::Image { project, name } => format!("image {name} of {project}"),
        Subject::Account(email) => email.clone(),
        Subject::Unreadable(text) => text.clone(),
    }
}

/// The command that gives us what we lack.
fn grant(subject: &Subject, own: &str, missing: &[String]) -> String {
    let command = match subject {
        Subject::Project(project) => {
            return format!(
                "gcloud iam roles update jitney --project={project} --add-permissions={}",
                missing.join(",")
            );
        }
        Subject::Subnetwork { project, region, name } => format!(
            "gcloud compute networks subnets add-iam-policy-binding {name} --project={project} --region={region} --member={WE} --role=roles/compute.networkUser"
        ),
        // A family is asked for in its project, and means another image each time.
        Subject::Image { project, name } if name.starts_with("family/") => format!(
            "gcloud projects add-iam-policy-binding {project} --member={WE} --role=roles/compute.imageUser"
        ),
        Subject::Image { project, name } => format!(
            "gcloud compute images add-iam-policy-binding {name} --project={project} --member={WE} --role=roles/compute.imageUser"
        ),
        Subject::Account(email) => format!(
            "gcloud iam service-accounts add-iam-policy-binding {email} --project={own} --member={WE} --role=roles/iam.serviceAccountUser"
        ),
        Subject::Unreadable(_) => String::new(),
    };
    format!("{command} (ACCOUNT is what Jitney calls Google with)")
}

/// Images that are larger than the disk that jobs get, and subnetworks with fewer addresses than
/// machines.
pub(super) fn sizes(config: &Config, name: &BackendName, rights: &[Right]) -> Vec<Finding> {
    let disk = default_disk(config, name);
    let machines = most_machines(config, name);
    let mut findings = Vec::new();
    for Right { subject, size, .. } in rights {
        let (check, thing) = (format!("{name}: {}", title(subject)), words(subject));
        let Some(size) = *size else { continue };
        if let Subject::Image { .. } = subject
            && Bytes::gib(size) > disk
        {
            let found = format!(
                "{thing} takes a disk of {size} GiB, and jobs that say nothing get {disk}: Google refuses their machines"
            );
            let remedy =
                format!("say defaults: {{ disk: {size}G }} in each queue of backends.{name}");
            findings.push(Finding::warning(check, found, remedy));
        } else if let Subject::Subnetwork { project, region, name: subnetwork } = subject
            && let Some(most) = machines.filter(|most| u64::from(*most) > size)
        {
            let found =
                format!("{thing} has addresses for {size} machines, and the limits allow {most}");
            let remedy = format!(
                "gcloud compute networks subnets expand-ip-range {subnetwork} --project={project} --region={region} --prefix-length={}",
                prefix_length(most)
            );
            findings.push(Finding::warning(check, found, remedy));
        }
    }
    findings
}

/// Of the smallest range that has so many addresses, and the four that Google keeps.
fn prefix_length(machines: u32) -> u32 {
    32_u32.saturating_sub(machines.saturating_add(4).next_power_of_two().trailing_zeros())
}

/// The smallest disk that a job gets that says nothing.
fn default_disk(config: &Config, name: &BackendName) -> Bytes {
    let disks = served(config, name).map(|queue| queue.defaults.disk.unwrap_or(BOOT_DISK));
    disks.min().unwrap_or(BOOT_DISK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_as_small_as_it_may_be() {
        let of = [1_250, 2_044, 2_045, 4_092].map(prefix_length);
        assert_eq!(of, [21, 21, 20, 20]);
    }
}
