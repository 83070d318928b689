//! The checks of a cluster: how it is reached, what we may do there, whether a Job of ours would be
//! taken, and what the images are called.

use backends::kubernetes::{OLDEST_MINOR, Probe, is_image};
use backends::{Class, Error};
use planner::BackendName;

use super::{Finding, Patient};
use crate::assembly::cluster;
use crate::config::backends::kubernetes::Kubernetes;

pub(super) async fn all(
    patient: Patient<'_>,
    name: &BackendName,
    wanted: &Kubernetes,
) -> Vec<Finding> {
    let mut findings = images(name, wanted);
    match cluster::kubernetes(patient.config, wanted).await {
        Ok((backend, cluster)) => {
            let probe = backend.probe().await;
            let place = format!("namespace {} of {}", cluster.namespace, cluster.address);
            findings.extend(of(name, &probe, &place));
        }
        Err(words) => findings.push(Finding::wrong(
            format!("backend {name}"),
            words,
            format!("correct it in backends.{name}"),
        )),
    }
    findings
}

fn of(name: &BackendName, probe: &Probe, place: &str) -> Vec<Finding> {
    let check = format!("{name}: cluster");
    let (version, minor) = match &probe.version {
        Ok(version) => version,
        // Without an answer the rest would only say the same again.
        Err(error) => {
            let remedy = format!(
                "check backends.{name}.kubernetes.kubeconfig and context, and that the API server runs"
            );
            return vec![Finding::wrong(check, format!("{place}: {error}"), remedy)];
        }
    };
    let mut findings = vec![if *minor < OLDEST_MINOR {
        Finding::warning(
            check,
            format!("{place}: Kubernetes {version}"),
            format!("what is older than 1.{OLDEST_MINOR} is not tested"),
        )
    } else {
        Finding::ok(check, format!("{place}: Kubernetes {version}"))
    }];
    findings.push(permissions(format!("{name}: permissions"), &probe.missing));
    findings.push(trial(name, probe));
    if let Some(doubt) = &probe.doubt {
        let check = format!("{name}: template");
        let remedy = "leave it where that is meant; the machine ends with the job's container";
        findings.push(Finding::warning(check, doubt.clone(), remedy));
    }
    let quotas = probe.quotas.iter();
    findings.extend(quotas.map(|quota| Finding::ok(format!("{name}: quota"), quota.clone())));
    findings
}

pub(super) fn permissions(check: String, missing: &Result<Vec<String>, Error>) -> Finding {
    match missing {
        Ok(missing) if missing.is_empty() => Finding::ok(check, "we may do all that we have to"),
        Ok(missing) => Finding::wrong(
            check,
            format!("we may not {}", missing.join(", ")),
            "give our account a Role with these verbs in the namespace, and a RoleBinding",
        ),
        Err(error) => Finding::warning(
            check,
            format!("nobody says what we may do: {error}"),
            "if jobs get no machine, look at our account's Role",
        ),
    }
}

fn trial(name: &BackendName, probe: &Probe) -> Finding {
    let check = format!("{name}: trial");
    match &probe.trial {
        Ok(()) => Finding::ok(check, "the API server would take a Job of ours"),
        Err(error) => Finding::wrong(check, error.words.clone(), remedy(name, error)),
    }
}

fn remedy(name: &BackendName, error: &Error) -> String {
    match error.class {
        Class::Denied => format!(
            "check backends.{name}.kubernetes.namespace, the template's name, and our account's Role"
        ),
        Class::Rejected => {
            format!("correct backends.{name}.kubernetes.template, image or service_account")
        }
        Class::Quota => "jobs wait until there is room, or raise the quota".to_owned(),
        Class::Capacity | Class::Rate | Class::Ambiguous => {
            "it works, and is busy: ask again".to_owned()
        }
    }
}

fn images(name: &BackendName, wanted: &Kubernetes) -> Vec<Finding> {
    let named = [
        ("agent_image".to_owned(), Some(&wanted.agent_image)),
        ("guest_image".to_owned(), Some(&wanted.guest_image)),
        ("image".to_owned(), wanted.image.as_ref()),
    ];
    let mapped =
        wanted.images.iter().map(|(pattern, image)| (format!("images.{pattern}"), Some(image)));
    let each = named.into_iter().chain(mapped).filter_map(|(key, image)| Some((key, image?)));
    // `$0` becomes a name that a job asks for.
    let wrong = each.filter(|(_, image)| !is_image(&image.replace("$0", "name")));
    wrong
        .map(|(key, image)| {
            Finding::wrong(
                format!("{name}: images"),
                format!("`{image}` is not the name of an image"),
                format!("correct backends.{name}.kubernetes.{key}"),
            )
        })
        .collect()
}
