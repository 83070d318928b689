//! Command steps: what each key of one means, and the jobs that `parallelism` and `matrix` make of
//! it.

use std::time::Duration;

use super::node::{Node, Value};
use super::read::{self, Fields};
use super::steps::{Defaults, LABEL, new_step};
use super::{Error, matrix, rules};
use crate::engine::{Command, Concurrency, ConcurrencyMethod, NewStep, Parallel, StepKind};

/// Jobs of one build, as Buildkite limits them.
const MAX_PARALLELISM: u32 = 4000;
/// Thirty days: longer than that, Buildkite lets no job live.
const MAX_MINUTES: u32 = 43_200;

/// One step for each of its jobs.
pub(super) fn command_steps(
    item: &Node,
    fields: Fields<'_>,
    defaults: &Defaults,
) -> Result<Vec<NewStep>, Error> {
    let parallelism = fields.get("parallelism");
    let Some(matrix) = fields.get("matrix").filter(|node| node.value != Value::Null) else {
        let total = read::number(parallelism, "parallelism", 1, MAX_PARALLELISM)?;
        return Ok(parallel(one(item, fields, defaults)?, total));
    };
    if let Some(parallelism) = parallelism.filter(|node| node.value != Value::Null) {
        let words = "it has `parallelism` and `matrix`, which cannot be together; another dimension would make more jobs";
        return Err(Error::at(parallelism.at, words));
    }
    let mut steps = Vec::new();
    for permutation in matrix::permutations(matrix)? {
        let entries = matrix::interpolate(fields, &permutation.values)?;
        let mut step = one(item, Fields(&entries), defaults)?;
        step.filter.skip = permutation.skip.or(step.filter.skip);
        if let StepKind::Command(command) = &mut step.kind {
            command.matrix = Some(permutation.values);
            if let Some(soft_fail) = permutation.soft_fail {
                command.soft_fail = soft_fail;
            }
        }
        steps.push(step);
    }
    Ok(steps)
}

fn parallel(step: NewStep, total: Option<u32>) -> Vec<NewStep> {
    let Some(total) = total else { return vec![step] };
    let numbered = |index| {
        let mut step = step.clone();
        if let StepKind::Command(command) = &mut step.kind {
            command.parallel = Some(Parallel { index, total });
        }
        step
    };
    (0..total).map(numbered).collect()
}

fn one(item: &Node, fields: Fields<'_>, defaults: &Defaults) -> Result<NewStep, Error> {
    let label = read::optional_text(fields.any(&LABEL), "label")?.unwrap_or_default();
    let kind = StepKind::Command(Box::new(command(item, fields, defaults)?));
    new_step(fields, label, kind, defaults)
}

fn command(item: &Node, fields: Fields<'_>, defaults: &Defaults) -> Result<Command, Error> {
    let command = read::texts(fields.any(&["command", "commands"]), "command")?.join("\n");
    let plugins = fields.get("plugins").map(plugins).transpose()?.flatten();
    if command.trim().is_empty() && plugins.is_none() {
        return Err(Error::at(item.at, "its `command` is empty"));
    }
    let mut env = (*defaults.env).clone();
    env.extend(read::env(fields.get("env"))?);
    let agents = fields.get("agents").map(read::agents).transpose()?;
    let minutes =
        read::number(fields.get("timeout_in_minutes"), "timeout_in_minutes", 1, MAX_MINUTES)?;
    Ok(Command {
        command,
        env,
        agents: agents.unwrap_or_else(|| defaults.agents.clone()),
        priority: read::number(fields.get("priority"), "priority", i64::MIN, i64::MAX)?
            .unwrap_or(0),
        parallel: None,
        matrix: None,
        concurrency: concurrency(item, fields)?,
        retry: rules::retry(fields.get("retry"))?,
        timeout: minutes.map(|minutes| Duration::from_secs(u64::from(minutes) * 60)),
        soft_fail: rules::soft_fail(fields.get("soft_fail"))?,
        artifact_paths: read::artifact_paths(fields.get("artifact_paths"))?,
        plugins,
    })
}

fn concurrency(item: &Node, fields: Fields<'_>) -> Result<Option<Concurrency>, Error> {
    let limit = read::number(fields.get("concurrency"), "concurrency", 1, u32::MAX)?;
    let group = read::optional_text(fields.get("concurrency_group"), "concurrency_group")?;
    let method = match fields.get("concurrency_method") {
        Some(node) => method(node)?,
        None => None,
    };
    match (limit, group, method) {
        (None, None, None) => Ok(None),
        (Some(limit), Some(group), method) => {
            Ok(Some(Concurrency { group, limit, method: method.unwrap_or_default() }))
        }
        (None, None, Some(_)) => {
            let words = "its `concurrency_method` needs a `concurrency` and a `concurrency_group`";
            Err(Error::at(item.at, words))
        }
        (Some(_), None, _) => {
            Err(Error::at(item.at, "its `concurrency` needs a `concurrency_group`"))
        }
        (None, Some(_), _) => {
            Err(Error::at(item.at, "its `concurrency_group` needs a `concurrency`"))
        }
    }
}

fn method(node: &Node) -> Result<Option<ConcurrencyMethod>, Error> {
    match read::optional_text(Some(node), "concurrency_method")?.as_deref() {
        None => Ok(None),
        Some("ordered") => Ok(Some(ConcurrencyMethod::Ordered)),
        Some("eager") => Ok(Some(ConcurrencyMethod::Eager)),
        Some(other) => {
            let words = format!("`concurrency_method` must be ordered or eager, and is `{other}`");
            Err(Error::at(node.at, words))
        }
    }
}

/// What the agent reads in `BUILDKITE_PLUGINS`: a list of names and of `{name: configuration}`.
fn plugins(node: &Node) -> Result<Option<serde_json::Value>, Error> {
    let list = match &node.value {
        Value::Null => return Ok(None),
        Value::List(items) if items.is_empty() => return Ok(None),
        Value::List(items) => items.iter().map(Node::to_json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| serde_json::json!({ &entry.key: entry.node.to_json() }))
            .collect(),
        Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            return Err(read::wrong(node, "plugins", "a list or a map"));
        }
    };
    Ok(Some(serde_json::Value::Array(list)))
}
