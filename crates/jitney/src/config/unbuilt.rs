//! What a configuration asks for that this build does not have. `run` refuses it by name rather
//! than leaving it undone in silence; a value that is the same as its default asks for nothing.

use std::time::Duration;

use planner::BackendName;
use serde::Serialize;

use super::Config;
use super::backends::{Backend, Kind};
use super::queues::{Limits, PolicyRule};
use super::reports::Annotate;
use super::server::LeaseKind;

/// One thing that this build does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unbuilt {
    /// The key's path: `backends.pods.kubernetes`.
    pub path: String,
    /// What it would be: `the kubernetes backend`.
    pub what: &'static str,
}

struct Findings(Vec<Unbuilt>);

impl Findings {
    fn add(&mut self, used: bool, path: impl Into<String>, what: &'static str) {
        if used {
            self.0.push(Unbuilt { path: path.into(), what });
        }
    }
}

impl Config {
    /// What the file uses that this build does not have, in the order of the documentation.
    #[must_use]
    pub fn unbuilt(&self) -> Vec<Unbuilt> {
        let mut found = Findings(Vec::new());
        self.unbuilt_services(&mut found);
        for (key, queue) in &self.queues {
            queue.limits.unbuilt(&format!("queues.{key}.limits"), &mut found);
        }
        for (at, policy) in self.policies.iter().enumerate() {
            policy.unbuilt(&format!("policies[{at}]"), &mut found);
        }
        self.limits.unbuilt("limits", &mut found);
        for (name, backend) in self.backends.iter().filter(|(name, _)| !self.is_for_fleets(name)) {
            backend.unbuilt(&format!("backends.{name}"), &mut found);
        }
        for name in self.mirrors.keys() {
            found.add(true, format!("mirrors.{name}"), "git mirrors");
        }
        self.unbuilt_reports(&mut found);
        found.0
    }

    /// A place where only fleets make something: no queue names it.
    #[must_use]
    pub fn is_for_fleets(&self, backend: &BackendName) -> bool {
        let used = self
            .queues
            .values()
            .any(|queue| queue.backends.iter().any(|of| of == backend.as_str()));
        !used && self.fleets.values().any(|fleet| fleet.backend == backend.as_str())
    }

    fn unbuilt_services(&self, found: &mut Findings) {
        found.add(self.server.tls.is_some(), "tls", "TLS of our own; put a proxy in front");
        found.add(self.store.redis.is_some(), "store.redis", "the shared store");
        let replicated = self.replicas.lease != LeaseKind::None;
        found.add(replicated, "replicas.lease", "several replicas");
    }

    fn unbuilt_reports(&self, found: &mut Findings) {
        found.add(
            self.meter.sample != Duration::from_secs(1),
            "meter.sample",
            "metering at a rate of yours",
        );
        found.add(self.meter.annotate == Annotate::Always, "meter.annotate", "annotations");
        found.add(!self.notify.position, "notify.position", "leaving the position out");
        found.add(!self.notify.estimate, "notify.estimate", "leaving the estimate out");
        found.add(self.traces.otlp.is_some(), "traces.otlp", "traces");
    }
}

impl Limits {
    fn unbuilt(&self, path: &str, found: &mut Findings) {
        let cost = self.cost_micros_per_hour.is_some();
        found.add(cost, format!("{path}.cost_per_hour"), "limits on cost");
        found.add(self.leak_bond_micros.is_some(), format!("{path}.leak_bond"), "limits on cost");
    }
}

impl PolicyRule {
    fn unbuilt(&self, path: &str, found: &mut Findings) {
        self.limits.unbuilt(&format!("{path}.limits"), found);
    }
}

impl Backend {
    fn unbuilt(&self, path: &str, found: &mut Findings) {
        match &self.kind {
            Kind::Process(_) | Kind::Http(_) | Kind::Kubernetes(_) | Kind::Gce(_) => {}
            Kind::CloudRun(_) => {
                found.add(true, format!("{path}.cloud-run"), "the cloud-run backend");
            }
        }
        self.limits.unbuilt(&format!("{path}.limits"), found);
    }
}
