//! What a template has that is allowed and hardly meant for a fleet. Pure: the same template and
//! order have the same doubts. It refuses nothing.

use serde_json::{Value, json};

use super::job::{SET, seconds};
use super::{Order, Quota, Template};

/// Each with what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("the template itself runs: a pod of it takes jobs, and lives on")]
    Runs,
    #[error("beside the agent run {}: a pod goes on as long as they do", .0.join(", "))]
    Beside(Vec<String>),
    #[error("the agent's command line has {0}, which wins over what Jitney sets")]
    Overruled(String),
    #[error("the agent starts several of itself ({0}): a pod counts for one")]
    Spawns(String),
    #[error("its BUILDKITE_AGENT_TAGS are replaced, and {} not among the fleet's", tags(.0))]
    TagsLost(Vec<String>),
    #[error(
        "its activeDeadlineSeconds is {template}, and the fleet's active_deadline {fleet} s: what runs longer is killed"
    )]
    ShorterThanTheTemplates { template: u64, fleet: u64 },
    #[error(
        "its pods have an activeDeadlineSeconds of their own, {pods}, and are killed before active_deadline, {fleet} s"
    )]
    PodsEndBefore { pods: u64, fleet: u64 },
    #[error("the quota `{quota}` leaves room for {most} pods, and agents.max is {max}")]
    FewerPods { quota: String, most: u32, max: u32 },
    #[error(
        "the quota `{quota}` wants {of} of every container, and {} none: pods are refused, unless a LimitRange adds it", having(.containers)
    )]
    QuotaWants { quota: String, of: String, containers: Vec<String> },
}

fn tags(tags: &[String]) -> String {
    let verb = if tags.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", tags.join(", "))
}

fn having(containers: &[String]) -> String {
    let verb = if containers.len() == 1 { "has" } else { "have" };
    format!("{} {verb}", containers.join(", "))
}

/// What these flags say, the variables that are set can not.
const OVERRULING: [&str; 3] = ["--tags", "--queue", "--disconnect-after-idle-timeout"];
const SPAWN: [&str; 2] = ["--spawn", "--spawn-per-cpu"];
const SPAWN_VARIABLES: [&str; 2] = ["BUILDKITE_AGENT_SPAWN", "BUILDKITE_AGENT_SPAWN_PER_CPU"];

impl Template {
    /// What of it, for this order and up to so many pods, should be looked at.
    #[must_use]
    pub fn doubts(&self, order: &Order, max: u32, quotas: &[Quota]) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        if self.runs {
            doubts.push(Doubt::Runs);
        }
        let beside = self.beside();
        if !beside.is_empty() {
            doubts.push(Doubt::Beside(beside));
        }
        doubts.extend(self.of_command_line());
        doubts.extend(self.of_variables(order));
        doubts.extend(self.of_deadlines(seconds(order.active_deadline)));
        doubts.extend(quotas.iter().filter_map(|quota| self.of_quota(quota, max)));
        doubts
    }

    fn of_command_line(&self) -> Vec<Doubt> {
        let container = self.agents_container();
        let parts =
            ["command", "args"].into_iter().filter_map(|key| container.get(key)?.as_array());
        // A shell's script is one argument with many words.
        let words = parts.flatten().filter_map(Value::as_str).flat_map(str::split_whitespace);
        words
            .filter_map(|word| {
                let flag = word.split('=').next().unwrap_or_default();
                let is = |flags: &[&str]| flags.contains(&flag);
                let stays = flag == "--disconnect-after-job" && word.ends_with("=false");
                if is(&OVERRULING) || stays {
                    return Some(Doubt::Overruled(word.to_owned()));
                }
                (is(&SPAWN) && word != "--spawn=1").then(|| Doubt::Spawns(word.to_owned()))
            })
            .collect()
    }

    fn of_variables(&self, order: &Order) -> Vec<Doubt> {
        let container = self.agents_container();
        let variables = container.get("env").and_then(Value::as_array);
        let value = |name: &str| {
            let mut variables = variables?.iter();
            variables.find(|of| of.get("name") == Some(&json!(name)))?.get("value")?.as_str()
        };
        let mut doubts = Vec::new();
        let lost: Vec<String> = value(SET.tags)
            .into_iter()
            .flat_map(|tags| tags.split(',').map(str::trim))
            .filter(|tag| !tag.is_empty() && !tag.starts_with("queue="))
            .filter(|tag| !order.tags.iter().any(|ours| ours == tag))
            .map(str::to_owned)
            .collect();
        if !lost.is_empty() {
            doubts.push(Doubt::TagsLost(lost));
        }
        let spawns = SPAWN_VARIABLES.into_iter().filter_map(|name| Some((name, value(name)?)));
        let spawns = spawns.filter(|(_, value)| !["", "1", "false"].contains(value));
        doubts.extend(spawns.map(|(name, value)| Doubt::Spawns(format!("{name}={value}"))));
        doubts
    }

    fn of_deadlines(&self, fleet: u64) -> Vec<Doubt> {
        const KEY: &str = "activeDeadlineSeconds";
        let mut doubts = Vec::new();
        let template = self.spec.get(KEY).and_then(Value::as_u64);
        if let Some(template) = template.filter(|template| *template > fleet) {
            doubts.push(Doubt::ShorterThanTheTemplates { template, fleet });
        }
        let pods = self.pod().and_then(|pod| pod.get(KEY)?.as_u64());
        if let Some(pods) = pods.filter(|pods| *pods < fleet) {
            doubts.push(Doubt::PodsEndBefore { pods, fleet });
        }
        doubts
    }

    fn of_quota(&self, quota: &Quota, max: u32) -> Option<Doubt> {
        if ["pods", "count/pods"].contains(&quota.of.as_str()) {
            let most = quota.most.parse().ok().filter(|most| *most < max)?;
            return Some(Doubt::FewerPods { quota: quota.name.clone(), most, max });
        }
        let (kind, resource) = quota.of.split_once('.').unwrap_or(("requests", &quota.of));
        if !["requests", "limits"].contains(&kind) || !["cpu", "memory"].contains(&resource) {
            return None;
        }
        let has = |container: &&Value, kind: &str| {
            container.pointer(&format!("/resources/{kind}/{resource}")).is_some()
        };
        let containers = ["containers", "initContainers"].into_iter();
        let containers = containers.filter_map(|key| self.pod()?.get(key)?.as_array()).flatten();
        // What has a limit and no request requests that much.
        let lacking = containers.filter(|one| !(has(one, kind) || has(one, "limits")));
        let named = |one: &Value| one.get("name").and_then(Value::as_str).map(str::to_owned);
        let containers: Vec<String> = lacking.filter_map(named).collect();
        let (quota, of) = (quota.name.clone(), format!("{kind}.{resource}"));
        (!containers.is_empty()).then_some(Doubt::QuotaWants { quota, of, containers })
    }
}
