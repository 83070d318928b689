//! From the words of a shape to the nodes that a pod may run on: selectors, affinities and
//! tolerations. The usual ones are GKE's labels; an operator's own take their place word by word.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PreferredSchedulingTerm, Toleration,
};

use super::settings::Nodes;
use crate::contract::{Class, Error, Order};

/// Words that select nodes, as a job writes them.
pub const WORDS: [&str; 7] = ["arch", "family", "zone", "region", "local-ssd", "gpu", "spot"];

/// What nodes with GPUs have so many of, and are tainted with.
pub(super) const GPU_RESOURCE: &str = "nvidia.com/gpu";
/// How long a pod stays bound to a node that has gone: the time in which a kubelet that was only
/// restarted comes back.
const NODE_AWAY_S: i64 = 10;
/// The weight of a wish; of several the earlier weighs more.
const WISH: i32 = 100;

/// What a pod says of its nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selection {
    pub(super) selector: BTreeMap<String, String>,
    pub(super) tolerations: Vec<Toleration>,
    required: Vec<NodeSelectorRequirement>,
    preferred: Vec<PreferredSchedulingTerm>,
}

impl Selection {
    pub(super) fn of(order: &Order, own: &BTreeMap<String, Nodes>) -> Self {
        let mut selection = Self::default();
        let hardware = &order.hardware;
        let single =
            [("arch", &hardware.arch), ("zone", &hardware.zone), ("region", &hardware.region)];
        for (word, asked) in single {
            if let Some(asked) = asked {
                selection.insist(&nodes(word, own), asked);
            }
        }
        match &hardware.families[..] {
            [] => {}
            [one] => selection.insist(&nodes("family", own), one),
            several => selection.one_of(&nodes("family", own), several),
        }
        if order.resources.local_ssds > 0 {
            let count = order.resources.local_ssds.to_string();
            selection.insist(&nodes("local-ssd", own), &count);
        }
        if let Some(gpu) = &hardware.gpu {
            selection.insist(&nodes("gpu", own), gpu.split(':').next().unwrap_or(gpu));
        }
        if order.spot {
            selection.insist(&nodes("spot", own), "true");
        } else if hardware.prefers_spot {
            selection.wish(&nodes("spot", own), "true", WISH);
        }
        selection
    }

    fn insist(&mut self, nodes: &Nodes, asked: &str) {
        let pairs = nodes.selector.iter();
        self.selector.extend(pairs.map(|(key, value)| (key.clone(), value.replace("$0", asked))));
        self.tolerate(nodes, asked);
    }

    /// A selector takes one value for a label, an affinity takes several.
    fn one_of(&mut self, nodes: &Nodes, asked: &[String]) {
        for (key, value) in &nodes.selector {
            let mut values: Vec<String> =
                asked.iter().map(|one| value.replace("$0", one)).collect();
            values.dedup();
            self.required.push(is_in(key, values));
        }
        for (nth, one) in asked.iter().enumerate() {
            let less = i32::try_from(nth).unwrap_or(i32::MAX).saturating_mul(10);
            self.wish(nodes, one, WISH.saturating_sub(less).max(1));
        }
    }

    fn wish(&mut self, nodes: &Nodes, asked: &str, weight: i32) {
        let each = nodes.selector.iter();
        let expressions: Vec<_> =
            each.map(|(key, value)| is_in(key, vec![value.replace("$0", asked)])).collect();
        if !expressions.is_empty() {
            let preference =
                NodeSelectorTerm { match_expressions: Some(expressions), match_fields: None };
            self.preferred.push(PreferredSchedulingTerm { weight, preference });
        }
        self.tolerate(nodes, asked);
    }

    fn tolerate(&mut self, nodes: &Nodes, asked: &str) {
        for toleration in &nodes.tolerations {
            let mut toleration = toleration.clone();
            toleration.value = toleration.value.map(|value| value.replace("$0", asked));
            if !self.tolerations.contains(&toleration) {
                self.tolerations.push(toleration);
            }
        }
    }

    pub(super) fn affinity(&self) -> Option<Affinity> {
        if self.required.is_empty() && self.preferred.is_empty() {
            return None;
        }
        let term =
            NodeSelectorTerm { match_expressions: Some(self.required.clone()), match_fields: None };
        let required = NodeSelector { node_selector_terms: vec![term] };
        let node_affinity = NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(required)
                .filter(|_| !self.required.is_empty()),
            preferred_during_scheduling_ignored_during_execution: Some(self.preferred.clone())
                .filter(|preferred| !preferred.is_empty()),
        };
        Some(Affinity { node_affinity: Some(node_affinity), ..Affinity::default() })
    }
}

fn nodes(word: &str, own: &BTreeMap<String, Nodes>) -> Nodes {
    own.get(word).cloned().unwrap_or_else(|| usual(word))
}

/// GKE's labels and taints, and those that every Kubernetes has.
#[must_use]
pub fn usual(word: &str) -> Nodes {
    let (key, value) = match word {
        "arch" => ("kubernetes.io/arch", "$0"),
        "zone" => ("topology.kubernetes.io/zone", "$0"),
        "region" => ("topology.kubernetes.io/region", "$0"),
        "family" => ("cloud.google.com/machine-family", "$0"),
        "local-ssd" => ("cloud.google.com/gke-ephemeral-storage-local-ssd", "true"),
        "spot" => ("cloud.google.com/gke-spot", "true"),
        "gpu" => ("cloud.google.com/gke-accelerator", "$0"),
        _ => return Nodes::default(),
    };
    let selector = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    // Nodes with arm64 processors or GPUs, and spot ones, are often kept from pods that do not say so.
    let taint = match word {
        "arch" | "spot" => Some((key, Some(value))),
        "gpu" => Some((GPU_RESOURCE, None)),
        _ => None,
    };
    let tolerated = taint.map(|(key, value)| Toleration {
        key: Some(key.to_owned()),
        operator: Some(if value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: value.map(str::to_owned),
        effect: Some("NoSchedule".to_owned()),
        toleration_seconds: None,
    });
    Nodes { selector, tolerations: tolerated.into_iter().collect() }
}

/// How many GPUs: `nvidia-l4` is one, `nvidia-l4:2` two.
pub(super) fn gpus(asked: &str) -> Result<u32, Error> {
    let Some((_, count)) = asked.split_once(':') else { return Ok(1) };
    count.parse().ok().filter(|count| *count > 0).ok_or_else(|| {
        let words = format!(
            "gpu: {asked} does not say how many; write a name and a number such as nvidia-l4:2"
        );
        Error::new(Class::Rejected, words)
    })
}

/// A node that is gone takes its pods with it in seconds, not in the usual five minutes.
pub(super) fn short_when_away() -> Vec<Toleration> {
    let away = |key: &str| Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".to_owned()),
        value: None,
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(NODE_AWAY_S),
    };
    vec![away("not-ready"), away("unreachable")]
}

fn is_in(key: &str, values: Vec<String>) -> NodeSelectorRequirement {
    let operator = "In".to_owned();
    NodeSelectorRequirement { key: key.to_owned(), operator, values: Some(values) }
}
