//! The keys of a Kubernetes backend.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use planner::{Bytes, Rate};

use crate::config::problem::Complaint;
use crate::config::reading::Section;
use crate::config::values::{duration, one_of, path, rate, text};

#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// None: in-cluster, then the usual files.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    /// None: the context's own.
    pub namespace: Option<String>,
    pub image: Option<String>,
    /// From the name that a job asks for, where `*` may stand, to the image, where `$0` may.
    pub images: BTreeMap<String, String>,
    pub agent_image: String,
    pub guest_image: String,
    pub agent_config: Option<String>,
    pub service_account: Option<String>,
    /// A fragment of a JobTemplateSpec.
    pub template: Option<serde_json::Value>,
    pub template_from: Option<TemplateFrom>,
    pub cpu_limit: CpuLimit,
    pub disk: Disk,
    /// By the word of a shape.
    pub nodes: BTreeMap<String, Nodes>,
    /// None: as fast as the API server lets us.
    pub writes: Option<Rate>,
    pub ttl: Duration,
    pub keep_failed: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateFrom {
    Job(String),
    PodTemplate(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuLimit {
    None,
    Request,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    EmptyDir,
    Ephemeral { storage_class: Option<String> },
}

/// How one word of a shape selects nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Nodes {
    pub selector: BTreeMap<String, String>,
    pub tolerations: Option<serde_json::Value>,
}

/// A volume of a storage class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub storage_class: Option<String>,
    pub size: Option<Bytes>,
}

impl Kubernetes {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let template = section.any("template");
        let template_from = TemplateFrom::read(section);
        if template.is_some() && template_from.is_some() {
            section.complain(
                "template_from",
                Complaint::new(
                    "stands beside template, and only one of the two can be meant",
                    "take out template or template_from",
                ),
            );
        }
        let cpu_limits = [("none", CpuLimit::None), ("request", CpuLimit::Request)];
        Self {
            kubeconfig: section.get("kubeconfig", path),
            context: section.get("context", text),
            namespace: section.get("namespace", text),
            image: section.get("image", text),
            images: section.texts("images", |_, value| text(value)),
            agent_image: section.or("agent_image", "buildkite/agent:3", text),
            guest_image: section.or("guest_image", "jitney/guest:latest", text),
            agent_config: section.get("agent_config", text),
            service_account: section.get("service_account", text),
            template,
            template_from,
            cpu_limit: section.or("cpu_limit", "none", one_of(cpu_limits)),
            disk: section.within("disk", Disk::read),
            nodes: section.each("nodes", |_, nodes| Nodes {
                selector: nodes.texts("selector", |_, value| text(value)),
                tolerations: nodes.any("tolerations"),
            }),
            writes: section.or("writes", "unlimited", writes),
            ttl: section.or("ttl", "10m", duration),
            keep_failed: section.or("keep_failed", "0s", duration),
        }
    }
}

fn writes(text: &str) -> Result<Option<Rate>, Complaint> {
    if text == "unlimited" { Ok(None) } else { rate(text).map(Some) }
}

impl TemplateFrom {
    /// `{ job: NAME }` or `{ pod_template: NAME }`.
    pub(in crate::config) fn read(section: &Section<'_>) -> Option<Self> {
        let from = section.maybe("template_from", |from| {
            (from.get("job", text), from.get("pod_template", text))
        })?;
        match from {
            (Some(job), None) => Some(Self::Job(job)),
            (None, Some(template)) => Some(Self::PodTemplate(template)),
            (None, None) if section.is_empty("template_from") => None,
            (None, None) | (Some(_), Some(_)) => {
                section.complain(
                    "template_from",
                    Complaint::new(
                        "names no template, or two",
                        "write { job: NAME } or { pod_template: NAME }",
                    ),
                );
                None
            }
        }
    }
}

impl Disk {
    fn read(section: &Section<'_>) -> Self {
        let ephemeral =
            section.or("kind", "empty-dir", one_of([("empty-dir", false), ("ephemeral", true)]));
        let storage_class = section.get("storage_class", text);
        if ephemeral {
            return Self::Ephemeral { storage_class };
        }
        if storage_class.is_some() {
            section.complain(
                "storage_class",
                Complaint::new("means nothing with kind: empty-dir", "write kind: ephemeral"),
            );
        }
        Self::EmptyDir
    }
}
