//! How machines become Jobs here: what the operator has chosen, parsed. It knows no order yet.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Toleration;

use super::template::Template;

/// What all Jobs of this backend have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The configuration's `name`: only what bears exactly this mark is ours.
    pub mark: String,
    pub namespace: String,
    /// Where commands run when a job names no image.
    pub image: Option<String>,
    /// From the name that a job asks for, where `*` may stand, to the image, where `$0` may.
    pub images: BTreeMap<String, String>,
    pub agent_image: String,
    pub guest_image: String,
    /// A ConfigMap or a Secret, or one of each, with `buildkite-agent.cfg` and hooks.
    pub agent_config: Option<String>,
    pub service_account: Option<String>,
    /// What lies under every Job of ours.
    pub template: TemplateFrom,
    /// Whether the request of cpu is a limit too.
    pub limits_cpu: bool,
    pub disk: Disk,
    /// How a word of a shape selects nodes, over the usual (`nodes::usual`).
    pub nodes: BTreeMap<String, Nodes>,
    pub ttl: Duration,
}

/// Where the template is.
#[derive(Clone, Debug, PartialEq)]
pub enum TemplateFrom {
    /// In the configuration, or nowhere.
    Here(Template),
    /// A Job of this name in the cluster.
    Job(String),
    /// A PodTemplate of this name in the cluster.
    PodTemplate(String),
}

/// What the job's directory lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    EmptyDir,
    /// A volume that lives as long as the pod.
    Ephemeral {
        storage_class: Option<String>,
    },
}

/// `$0` in a selector's value is what the job asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nodes {
    pub selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
}

impl Settings {
    /// The image for a job that asked for this name, or for none.
    pub(super) fn image_for(&self, asked: Option<&str>) -> Option<String> {
        match asked {
            Some(asked) => Some(image_named(&self.images, asked)),
            None => self.image.clone(),
        }
    }
}

/// The image of this name in a table of names. A name that no pattern has is an image's own.
pub(crate) fn image_named(images: &BTreeMap<String, String>, asked: &str) -> String {
    let found = images
        .iter()
        .filter(|(pattern, _)| matches(pattern, asked))
        // The more a pattern says, the more it is meant.
        .max_by_key(|(pattern, _)| (pattern.as_str() == asked, pattern.len()));
    found.map_or_else(|| asked.to_owned(), |(_, image)| image.replace("$0", asked))
}

/// `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(before) else { return false };
    loop {
        if matches(after, rest) {
            return true;
        }
        let mut chars = rest.chars();
        if chars.next().is_none() {
            return false;
        }
        rest = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("ci", "ci", true),
            ("ci", "cix", false),
            ("ci-*", "ci-", true),
            ("ci-*-b", "ci-x-b", true),
            ("ci-*-b", "ci-b", false),
            ("*", "", true),
            ("*ü*", "aüb", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }
}
