//! From the keys of a Kubernetes backend to the backend: its settings, and the way to its cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use backends::kubernetes::nodes::WORDS;
use backends::kubernetes::{
    Access, Cluster, Disk, Kubernetes, Nodes, Options, Settings, Template, TemplateFrom,
};
use planner::Rate;
use serde_json::Value;

use crate::clock::process_now;
use crate::config::Config;
use crate::config::backends::kubernetes as keys;

/// The backend, and the cluster that it is for.
///
/// # Errors
/// In words, with the key that is to blame.
pub(crate) async fn kubernetes(
    config: &Config,
    wanted: &keys::Kubernetes,
) -> Result<(Kubernetes, Cluster), String> {
    let cluster = access(wanted).cluster().await.map_err(|error| format!("kubernetes: {error}"))?;
    let settings = settings(config, wanted, cluster.namespace.clone())?;
    let options = Options {
        settings,
        keep_failed: wanted.keep_failed,
        between_writes: wanted.writes.map(between),
        now: process_now,
    };
    Ok((Kubernetes::new(&cluster, options), cluster))
}

/// Where the cluster is, for machines and for fleets.
pub(super) fn access(wanted: &keys::Kubernetes) -> Access {
    Access {
        kubeconfig: wanted.kubeconfig.clone(),
        context: wanted.context.clone(),
        namespace: wanted.namespace.clone(),
    }
}

fn between(rate: Rate) -> Duration {
    rate.per / rate.count.max(1)
}

/// How orders become Jobs.
///
/// # Errors
/// In words, with the key that is to blame.
pub(crate) fn settings(
    config: &Config,
    wanted: &keys::Kubernetes,
    namespace: String,
) -> Result<Settings, String> {
    let template = match (&wanted.template, &wanted.template_from) {
        (_, Some(keys::TemplateFrom::Job(name))) => TemplateFrom::Job(name.clone()),
        (_, Some(keys::TemplateFrom::PodTemplate(name))) => TemplateFrom::PodTemplate(name.clone()),
        (Some(fragment), None) => TemplateFrom::Here(
            Template::from_fragment(fragment)
                .map_err(|error| format!("kubernetes.template: {error}"))?,
        ),
        (None, None) => TemplateFrom::Here(Template::default()),
    };
    Ok(Settings {
        mark: config.name.clone(),
        namespace,
        image: wanted.image.clone(),
        images: wanted.images.clone(),
        agent_image: wanted.agent_image.clone(),
        guest_image: wanted.guest_image.clone(),
        agent_config: wanted.agent_config.clone(),
        service_account: wanted.service_account.clone(),
        template,
        limits_cpu: match wanted.cpu_limit {
            keys::CpuLimit::None => false,
            keys::CpuLimit::Request => true,
        },
        disk: match &wanted.disk {
            keys::Disk::EmptyDir => Disk::EmptyDir,
            keys::Disk::Ephemeral { storage_class } => {
                Disk::Ephemeral { storage_class: storage_class.clone() }
            }
        },
        nodes: nodes(&wanted.nodes)?,
        ttl: wanted.ttl,
    })
}

fn nodes(wanted: &BTreeMap<String, keys::Nodes>) -> Result<BTreeMap<String, Nodes>, String> {
    let each = wanted.iter().map(|(word, wanted)| {
        if !WORDS.contains(&word.as_str()) {
            let known = WORDS.join(", ");
            return Err(format!(
                "kubernetes.nodes.{word}: no word selects nodes by it; the words are {known}"
            ));
        }
        let tolerations = wanted.tolerations.clone().unwrap_or(Value::Array(Vec::new()));
        let tolerations = serde_json::from_value(tolerations)
            .map_err(|error| format!("kubernetes.nodes.{word}.tolerations: {error}"))?;
        Ok((word.clone(), Nodes { selector: wanted.selector.clone(), tolerations }))
    });
    each.collect()
}
