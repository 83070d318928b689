//! From the configuration to the planner's policy: what the core decides by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use planner::{
    BackendKind, BackendName, BackendPolicy, Bytes, Cpu, Glob, Margins, Policy, QueuePolicy, Rule,
};

use super::Config;
use super::backends::{Backend, Capacity, Kind};
use super::queues::{Limits, PolicyRule, Queue};
use crate::host::Host;

impl Config {
    /// What the core decides by. A process backend without a capacity has what the host has.
    #[must_use]
    pub fn policy(&self, host: &Host) -> Policy {
        Policy {
            name: Arc::from(self.name.as_str()),
            queues: self.queues.iter().map(|(key, queue)| (key.clone(), queue.policy())).collect(),
            classes: self.classes.clone(),
            rules: self.policies.iter().map(PolicyRule::rule).collect(),
            retry_lost: Some(self.buildkite.retry_lost)
                .filter(|retry| retry.jobs && self.buildkite.api_token.is_some())
                .map(|retry| retry.per_build),
            limits: self.limits.policy(),
            backends: self
                .backends
                .iter()
                .map(|(name, backend)| (name.clone(), backend.policy(host, self)))
                .collect(),
            margins: Margins::default(),
        }
    }
}

fn names(backends: &[String]) -> Vec<BackendName> {
    backends.iter().map(|name| BackendName::new(name)).collect()
}

impl Queue {
    fn policy(&self) -> QueuePolicy {
        QueuePolicy {
            backends: names(&self.backends),
            tags: self.tags.clone(),
            unknown_tags: self.unknown_tags,
            defaults: self.defaults.clone(),
            largest: self.largest.clone(),
            images: self.images.clone(),
            spot: self.spot,
            attempts: self.attempts,
            start_timeout: self.start_timeout,
            priority: self.priority,
            share: self.share,
            limits: self.limits.policy(),
        }
    }
}

impl PolicyRule {
    fn rule(&self) -> Rule {
        let asked = &self.matches;
        Rule {
            pipeline: asked.pipeline.clone(),
            branch: asked.branch.clone(),
            queue: asked.queue.clone(),
            pull_request: asked.pull_request,
            fork: asked.fork,
            author: asked.author.clone(),
            largest: self.largest.clone(),
            images: self.images.clone(),
            backends: self.backends.as_deref().map(names),
            spot: self.spot,
            no_rights: self.no_rights,
            limits: self.limits.policy(),
        }
    }
}

impl Limits {
    fn policy(&self) -> planner::Limits {
        planner::Limits {
            machines: self.machines,
            cpu: self.cpu,
            memory: self.memory,
            cost_micros_per_hour: self.cost_micros_per_hour,
        }
    }
}

impl Capacity {
    fn policy(self) -> planner::Limits {
        planner::Limits {
            machines: self.machines,
            cpu: self.cpu,
            memory: self.memory,
            cost_micros_per_hour: None,
        }
    }

    fn or_host(self, host: &Host) -> Self {
        Self {
            machines: self.machines,
            cpu: self.cpu.or(Some(Cpu::from_millis(host.cpu_millis))),
            memory: self.memory.or(Some(Bytes::new(host.memory_bytes))),
        }
    }
}

impl Backend {
    fn policy(&self, host: &Host, config: &Config) -> BackendPolicy {
        let none = Capacity::default();
        let no_images = BTreeMap::new();
        let mut vms = None;
        let (capacity, arch, images) = match &self.kind {
            Kind::Process(process) => (process.capacity.or_host(host), host.arch, &no_images),
            Kind::Http(http) => (http.capacity, None, &no_images),
            Kind::Kubernetes(kubernetes) => (none, None, &kubernetes.images),
            Kind::Gce(gce) => {
                vms = Some(Arc::new(gce.vms(&config.tables())));
                (none, None, &gce.images)
            }
            Kind::CloudRun(run) => (none, None, &run.images),
        };
        BackendPolicy {
            kind: self.kind.of(),
            limits: self.limits.policy(),
            capacity: capacity.policy(),
            arch,
            listing_lag: listing_lag(self.kind.of()),
            images: images.keys().map(|name| Glob::new(name)).collect(),
            vms,
        }
    }
}

/// Our own two backends list what is; those of clouds answer from caches.
const fn listing_lag(kind: BackendKind) -> Duration {
    match kind {
        BackendKind::Process | BackendKind::Http => Duration::ZERO,
        BackendKind::Kubernetes | BackendKind::Gce | BackendKind::CloudRun => {
            Duration::from_secs(10)
        }
    }
}
