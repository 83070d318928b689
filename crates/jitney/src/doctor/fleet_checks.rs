//! The checks of a fleet: how its cluster is reached, what we may do there, whether the template is
//! there and fit for agents that come and go, and whether a dispatch of it would be taken.

use backends::fleet::{Cluster, Doubt, From, OLDEST_MINOR, Probe, Template};
use backends::{Class, Error};
use planner::fleet::DispatchId;
use planner::{Timestamp, spell_duration};
use uuid::Uuid;

use super::cluster_checks::permissions;
use super::{Finding, guarded};
use crate::fleet::Options;

pub(super) async fn all(fleets: &[Options]) -> Vec<Finding> {
    let each = fleets.iter().map(|fleet| guarded(format!("fleet {}", fleet.name), of(fleet)));
    futures_util::future::join_all(each).await.concat()
}

async fn of(fleet: &Options) -> Vec<Finding> {
    let name = format!("fleet {}", fleet.name);
    match Cluster::new(&fleet.access).await {
        Ok(cluster) => {
            // Made like any other and never carried out: no dispatch has this id.
            let id = DispatchId(Uuid::nil());
            let order =
                fleet.order(id, fleet.policy.max.max(1), Timestamp::default(), String::new());
            let probe = cluster.probe(&fleet.from, &order).await;
            let place = format!("namespace {} of {}", cluster.namespace(), cluster.address());
            let doubts = match &probe.template {
                Ok(template) => template.doubts(&order, fleet.policy.max, &probe.quotas),
                Err(_) => Vec::new(),
            };
            Look { name, fleet, probe: &probe }.findings(&place, &doubts)
        }
        Err(error) => {
            let remedy = format!("correct it in backends.{}.kubernetes", fleet.backend);
            vec![Finding::wrong(name, error.to_string(), remedy)]
        }
    }
}

/// What was found of one fleet.
struct Look<'a> {
    /// What its findings begin with.
    name: String,
    fleet: &'a Options,
    probe: &'a Probe,
}

impl Look<'_> {
    fn check(&self, what: &str) -> String {
        format!("{}: {what}", self.name)
    }

    fn findings(&self, place: &str, doubts: &[Doubt]) -> Vec<Finding> {
        let cluster = self.cluster(place);
        // Without an answer the rest would only say the same again.
        if self.probe.version.is_err() {
            return vec![cluster];
        }
        let mut findings = vec![cluster];
        findings.push(permissions(self.check("permissions"), &self.probe.missing));
        findings.push(self.template());
        findings.extend(doubts.iter().map(|doubt| {
            let what = if of_quota(doubt) { "quota" } else { "template" };
            Finding::warning(self.check(what), doubt.to_string(), self.what_to_do(doubt))
        }));
        findings.extend(self.probe.trial.as_ref().map(|trial| self.trial(trial)));
        let quotas = self.probe.quotas.iter();
        findings.extend(quotas.map(|of| {
            let found = format!("{}: {} {} of {}", of.name, of.of, of.used, of.most);
            Finding::ok(self.check("quota"), found)
        }));
        findings
    }

    fn cluster(&self, place: &str) -> Finding {
        let check = self.check("cluster");
        match &self.probe.version {
            Ok((version, minor)) if *minor < OLDEST_MINOR => Finding::warning(
                check,
                format!("{place}: Kubernetes {version}"),
                format!(
                    "update it: before 1.{OLDEST_MINOR} a cluster may be without backoffLimitPerIndex, and one agent that fails ends the others"
                ),
            ),
            Ok((version, _)) => Finding::ok(check, format!("{place}: Kubernetes {version}")),
            Err(error) => Finding::wrong(
                check,
                format!("{place}: {error}"),
                format!(
                    "check backends.{}.kubernetes.kubeconfig and context, and that the API server runs",
                    self.fleet.backend
                ),
            ),
        }
    }

    fn template(&self) -> Finding {
        let check = self.check("template");
        let found = |template: &Template| {
            let (image, container) = template.agents_image();
            format!("{}: the agent is its container `{container}`, of {image}", self.named())
        };
        match &self.probe.template {
            Ok(template) => Finding::ok(check, found(template)),
            Err(error) => Finding::wrong(check, error.words.clone(), self.remedy(error)),
        }
    }

    fn named(&self) -> String {
        match &self.fleet.from {
            From::Job(name) => format!("Job {name}"),
            From::PodTemplate(name) => format!("PodTemplate {name}"),
        }
    }

    fn trial(&self, trial: &Result<(), Error>) -> Finding {
        let check = self.check("trial");
        match trial {
            Ok(()) => Finding::ok(check, "the API server would take a dispatch"),
            Err(error) => Finding::wrong(check, error.words.clone(), self.remedy(error)),
        }
    }

    fn remedy(&self, error: &Error) -> String {
        let Options { name, backend, .. } = self.fleet;
        match error.class {
            Class::Denied => format!(
                "check fleets.{name}.template_from, backends.{backend}.kubernetes.namespace, and our account's Role"
            ),
            Class::Rejected => {
                format!("correct {} in the cluster, as the API server's words say", self.named())
            }
            Class::Quota => "raise the quota; until then nothing is dispatched".to_owned(),
            Class::Capacity | Class::Rate | Class::Ambiguous => {
                "it works, and is busy: ask again".to_owned()
            }
        }
    }

    fn what_to_do(&self, doubt: &Doubt) -> String {
        let (template, name) = (self.named(), &self.fleet.name);
        match doubt {
            Doubt::Runs => format!("set suspend: true in {template}"),
            Doubt::Beside(_) => {
                format!("make them init containers with restartPolicy: Always, in {template}")
            }
            Doubt::Overruled(_) => {
                format!(
                    "take it out of {template}, and say it in fleets.{name}: tags, idle_timeout"
                )
            }
            Doubt::Spawns(_) => {
                format!(
                    "take it out of {template}; more agents are more pods: fleets.{name}.agents"
                )
            }
            Doubt::TagsLost(_) => format!("add them to fleets.{name}.tags, if jobs ask for them"),
            Doubt::ShorterThanTheTemplates { .. } => format!(
                "raise fleets.{name}.active_deadline to the longest job and {} of idle_timeout",
                spell_duration(self.fleet.idle_timeout)
            ),
            Doubt::PodsEndBefore { .. } => {
                format!(
                    "take it out of the pods of {template}: the fleet's active_deadline ends them"
                )
            }
            Doubt::FewerPods { .. } => {
                format!("raise the quota, or lower fleets.{name}.agents.max")
            }
            Doubt::QuotaWants { .. } => format!("give them requests and limits in {template}"),
        }
    }
}

fn of_quota(doubt: &Doubt) -> bool {
    match doubt {
        Doubt::FewerPods { .. } | Doubt::QuotaWants { .. } => true,
        Doubt::Runs
        | Doubt::Beside(_)
        | Doubt::Overruled(_)
        | Doubt::Spawns(_)
        | Doubt::TagsLost(_)
        | Doubt::ShorterThanTheTemplates { .. }
        | Doubt::PodsEndBefore { .. } => false,
    }
}
