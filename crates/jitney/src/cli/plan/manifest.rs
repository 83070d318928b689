//! The Job that a kubernetes backend would make for some tags, as YAML. Nothing is asked of the
//! cluster, so a template that is there is not in it.

use std::sync::Arc;

use backends::kubernetes::{Template, TemplateFrom, job};
use planner::{Create, JobId, MachineName, Policy};
use secrecy::SecretString;
use uuid::Uuid;

use super::Case;
use crate::assembly::cluster;
use crate::cli::{Exit, Failure};
use crate::config::Config;
use crate::config::backends::Kind;
use crate::config::backends::kubernetes::Kubernetes;
use crate::executor::{Stamp, order};

pub(super) fn of(case: &Case, config: &Config, policy: &Policy) -> Result<String, Failure> {
    let refuse = |words: String| Failure::new(Exit::NotGood, words);
    let pods = case.explained.offers.iter().find_map(|offer| {
        match &config.backends.get(&offer.backend)?.kind {
            Kind::Kubernetes(wanted) => Some((offer.clone(), wanted)),
            Kind::Process(_) | Kind::Http(_) | Kind::Gce(_) | Kind::CloudRun(_) => None,
        }
    });
    let (Some((offer, wanted)), Ok(shape)) = (pods, &case.explained.shape) else {
        let words =
            format!("no kubernetes backend of queue {} makes a machine for these tags", case.queue);
        return Err(refuse(words));
    };
    let queue = policy.queues.get(&case.queue);
    let start_timeout = queue.map(|queue| queue.start_timeout).unwrap_or_default();
    let job_id = JobId(Uuid::nil());
    let create = Create {
        job: job_id,
        attempt: 1,
        name: MachineName::of(&config.name, job_id, 1),
        queue: case.queue.clone(),
        offer,
        shape: shape.clone(),
        tags: case.explained.tags.clone(),
        deadline: shape.time + start_timeout + policy.margins.grace,
    };
    let stamp = Stamp {
        mark: Arc::from(config.name.as_str()),
        instance: Arc::from("plan"),
        endpoint: Arc::from(config.buildkite.endpoint.as_str()),
    };
    let order = order(create, &stamp, "plan", case.queue.as_str(), SecretString::from(""));
    let namespace = wanted.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let settings = cluster::settings(config, wanted, namespace).map_err(refuse)?;
    let (note, template) = match &settings.template {
        TemplateFrom::Here(template) => (String::new(), template.clone()),
        TemplateFrom::Job(name) => (elsewhere("Job", name), Template::default()),
        TemplateFrom::PodTemplate(name) => (elsewhere("PodTemplate", name), Template::default()),
    };
    let made = job(&order, &settings, &template, &format!("{}-tokens", config.name))
        .map_err(|error| refuse(error.words))?;
    let yaml = serde_saphyr::to_string(&made)
        .map_err(|error| refuse(format!("the Job cannot be written as YAML: {error}")))?;
    Ok(format!("{}{note}{yaml}", missing(wanted)))
}

fn elsewhere(kind: &str, name: &str) -> String {
    format!("# The {kind} `{name}` of the cluster lies under this, and is not shown.\n")
}

fn missing(wanted: &Kubernetes) -> &'static str {
    match wanted.namespace {
        Some(_) => "",
        None => "# The namespace is the context's, and is not shown.\n",
    }
}
