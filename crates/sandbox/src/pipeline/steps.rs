//! From the document's tree to steps: which keys a pipeline and each kind of step may have, and
//! what is told about the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::error::nearest;
use super::node::{Entry, Node, Value};
use super::read::{self, Fields};
use super::{Error, rules};
use crate::engine::{Command, Concurrency, NewStep, Parallel, StepKind};

/// Jobs of one build, as Buildkite limits them.
const MAX_PARALLELISM: u32 = 4000;
/// Thirty days: longer than that, Buildkite lets no job live.
const MAX_MINUTES: u32 = 43_200;

/// What Buildkite knows at the top of a pipeline. Other keys are places for anchors.
const TOP: [&str; 3] = ["steps", "env", "agents"];
const TOP_UNSUPPORTED: [&str; 4] = ["notify", "image", "secrets", "cache"];

/// Keys that say what kind a step is.
const COMMAND: [&str; 3] = ["command", "commands", "plugins"];
const WAIT: [&str; 2] = ["wait", "waiter"];
const BLOCK: [&str; 2] = ["block", "manual"];
const KINDS_UNSUPPORTED: [&str; 3] = ["group", "input", "trigger"];

const KEY: [&str; 3] = ["key", "id", "identifier"];
const LABEL: [&str; 2] = ["label", "name"];

const COMMAND_KEYS: [&str; 23] = [
    "command",
    "commands",
    "plugins",
    "label",
    "name",
    "key",
    "id",
    "identifier",
    "type",
    "agents",
    "env",
    "priority",
    "parallelism",
    "depends_on",
    "allow_dependency_failure",
    "retry",
    "timeout_in_minutes",
    "soft_fail",
    "artifact_paths",
    "skip",
    "concurrency",
    "concurrency_group",
    "signature",
];
const WAIT_KEYS: [&str; 9] = [
    "wait",
    "waiter",
    "type",
    "key",
    "id",
    "identifier",
    "continue_on_failure",
    "depends_on",
    "allow_dependency_failure",
];
const BLOCK_KEYS: [&str; 12] = [
    "block",
    "manual",
    "type",
    "label",
    "name",
    "key",
    "id",
    "identifier",
    "prompt",
    "blocked_state",
    "depends_on",
    "allow_dependency_failure",
];

/// Keys that Buildkite knows and the sandbox would not honour.
const UNSUPPORTED: [&str; 14] = [
    "if",
    "if_changed",
    "branches",
    "matrix",
    "concurrency_method",
    "notify",
    "image",
    "secrets",
    "cache",
    "checkout",
    "cancel_on_build_failing",
    "fields",
    "allowed_teams",
    "submit",
];

/// Where the pipeline comes from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// It is whole: what a step depends on is in it.
    File,
    /// It joins steps that the build has already.
    Upload,
}

/// What a pipeline says for all of its commands.
#[derive(Default)]
struct Defaults {
    env: BTreeMap<String, String>,
    agents: Vec<(String, String)>,
}

/// A step as written: the engine's, how often, and whether it is there at all.
struct Written {
    step: NewStep,
    parallelism: Option<u32>,
    skip: bool,
}

pub(super) fn pipeline(root: &Node, source: Source) -> Result<Vec<NewStep>, Error> {
    let Value::Map(entries) = &root.value else {
        // The oldest form: nothing but the list of steps.
        return steps(root, &Defaults::default(), source);
    };
    let fields = Fields(entries);
    check_top(fields)?;
    let Some(list) = fields.get("steps") else {
        return Err(Error::at(root.at, "the pipeline has no `steps`"));
    };
    let agents = fields.get("agents").map(read::agents).transpose()?.unwrap_or_default();
    steps(list, &Defaults { env: read::env(fields.get("env"))?, agents }, source)
}

fn check_top(fields: Fields<'_>) -> Result<(), Error> {
    for entry in fields.0 {
        let key = entry.key.as_str();
        if TOP_UNSUPPORTED.contains(&key) {
            return Err(Error::at(entry.at, unsupported("the pipeline", key)));
        }
        if !TOP.contains(&key) && nearest(key, &TOP).is_some() {
            return Err(read::unknown_key(entry, "the pipeline", &TOP));
        }
    }
    Ok(())
}

fn steps(list: &Node, defaults: &Defaults, source: Source) -> Result<Vec<NewStep>, Error> {
    let Value::List(items) = &list.value else {
        return Err(read::wrong(list, "steps", "a list"));
    };
    let mut steps = Vec::with_capacity(items.len());
    let mut keys = BTreeSet::new();
    let mut skipped = BTreeSet::new();
    let mut needed = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let name = name(item, index);
        let written = step(item, defaults).map_err(|error| error.in_step(&name))?;
        if let Some(key) = &written.step.key
            && !keys.insert(key.clone())
        {
            let words = format!("{name}: an earlier step has the key `{key}` already");
            return Err(Error::at(item.at, words));
        }
        let dependencies = written.step.depends_on.iter().flatten();
        needed.extend(dependencies.map(|to| (name.clone(), item, to.step.clone())));
        if written.skip {
            skipped.extend(written.step.key);
        } else {
            expand(written, &mut steps);
        }
    }
    match source {
        Source::File => all_there(&needed, &keys)?,
        Source::Upload => {}
    }
    for step in &mut steps {
        step.depends_on.iter_mut().for_each(|list| list.retain(|to| !skipped.contains(&to.step)));
    }
    Ok(steps)
}

fn all_there(needed: &[(String, &Node, String)], keys: &BTreeSet<String>) -> Result<(), Error> {
    let Some((name, item, key)) = needed.iter().find(|(_, _, key)| !keys.contains(key)) else {
        return Ok(());
    };
    let known: Vec<&str> = keys.iter().map(String::as_str).collect();
    let near = nearest(key, &known).map(|near| format!("; did you mean `{near}`?"));
    let words = format!("{name}: no step of this pipeline has the key `{key}` that it depends on");
    Err(Error::at(item.at, words + &near.unwrap_or_default()))
}

/// One step for each of its parallel jobs.
fn expand(Written { step, parallelism, .. }: Written, into: &mut Vec<NewStep>) {
    let Some(total) = parallelism else {
        into.push(step);
        return;
    };
    for index in 0..total {
        let mut step = step.clone();
        if let StepKind::Command(command) = &mut step.kind {
            command.parallel = Some(Parallel { index, total });
        }
        into.push(step);
    }
}

/// How messages call a step: its number, and its label or key where it has one.
fn name(item: &Node, index: usize) -> String {
    let number = index + 1;
    let Value::Map(entries) = &item.value else { return format!("step {number}") };
    let called = Fields(entries).any(&["label", "name", "key", "id", "identifier"]);
    match called.map(|node| &node.value) {
        Some(Value::Text(text)) if !text.is_empty() => format!("step {number} (\"{text}\")"),
        Some(_) | None => format!("step {number}"),
    }
}

fn step(item: &Node, defaults: &Defaults) -> Result<Written, Error> {
    match &item.value {
        Value::Text(word) => bare(item, word).map(once),
        Value::Map(entries) => mapped(item, Fields(entries), defaults),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => Err(Error::at(
            item.at,
            format!("a step must be a map or `wait`, and is {}", item.kind()),
        )),
    }
}

fn once(step: NewStep) -> Written {
    Written { step, parallelism: None, skip: false }
}

fn bare(item: &Node, word: &str) -> Result<NewStep, Error> {
    if WAIT.contains(&word) {
        return Ok(NewStep::wait());
    }
    if BLOCK.contains(&word) {
        return block(Fields(&[]));
    }
    if KINDS_UNSUPPORTED.contains(&word) {
        return Err(Error::at(item.at, unsupported("it", word)));
    }
    let words = format!("a step that is only a word must be `wait` or `block`, and is `{word}`");
    Err(Error::at(item.at, words))
}

fn mapped(item: &Node, fields: Fields<'_>, defaults: &Defaults) -> Result<Written, Error> {
    if let Some(entry) = find(fields, &KINDS_UNSUPPORTED) {
        return Err(Error::at(entry.at, unsupported("it", &entry.key)));
    }
    let kind = fields.get("type").and_then(|node| match &node.value {
        Value::Text(kind) => Some(kind.as_str()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => None,
    });
    if let Some(kind) = kind.filter(|kind| KINDS_UNSUPPORTED.contains(kind)) {
        return Err(Error::at(item.at, unsupported("it", kind)));
    }
    let is = |keys: &[&str], types: &[&str]| {
        find(fields, keys).is_some() || kind.is_some_and(|kind| types.contains(&kind))
    };
    if is(&COMMAND, &["command", "commands", "script"]) {
        check(fields, &COMMAND_KEYS)?;
        return command_step(item, fields, defaults);
    }
    if is(&WAIT, &WAIT) {
        check(fields, &WAIT_KEYS)?;
        return wait(fields).map(once);
    }
    if is(&BLOCK, &BLOCK) {
        check(fields, &BLOCK_KEYS)?;
        return block(fields).map(once);
    }
    check(fields, &COMMAND_KEYS)?;
    Err(Error::at(item.at, "it has no `command`, `wait` or `block`, so nothing says what it does"))
}

fn find<'a>(fields: Fields<'a>, keys: &[&str]) -> Option<&'a Entry> {
    fields.0.iter().find(|entry| keys.contains(&entry.key.as_str()))
}

fn check(fields: Fields<'_>, known: &[&str]) -> Result<(), Error> {
    for entry in fields.0 {
        let key = entry.key.as_str();
        if known.contains(&key) {
            continue;
        }
        if UNSUPPORTED.contains(&key) {
            return Err(Error::at(entry.at, unsupported("it", key)));
        }
        return Err(read::unknown_key(entry, "it", known));
    }
    Ok(())
}

fn unsupported(what: &str, key: &str) -> String {
    format!("{what} uses `{key}`, which the sandbox does not support yet; leave it out to run here")
}

fn command_step(item: &Node, fields: Fields<'_>, defaults: &Defaults) -> Result<Written, Error> {
    let label = read::optional_text(fields.any(&LABEL), "label")?;
    let kind = StepKind::Command(Box::new(command(item, fields, defaults)?));
    Ok(Written {
        step: new_step(fields, label.unwrap_or_default(), kind)?,
        parallelism: read::number(fields.get("parallelism"), "parallelism", 1, MAX_PARALLELISM)?,
        skip: read::skip(fields.get("skip"))?,
    })
}

/// What all kinds of step have.
fn new_step(fields: Fields<'_>, label: String, kind: StepKind) -> Result<NewStep, Error> {
    let allow = "allow_dependency_failure";
    Ok(NewStep {
        key: read::optional_text(fields.any(&KEY), "key")?,
        label,
        kind,
        depends_on: read::depends_on(fields.get("depends_on"))?,
        allow_dependency_failure: read::flag(fields.get(allow), allow)?,
    })
}

fn command(item: &Node, fields: Fields<'_>, defaults: &Defaults) -> Result<Command, Error> {
    let command = read::texts(fields.any(&["command", "commands"]), "command")?.join("\n");
    let plugins = fields.get("plugins").map(plugins).transpose()?.flatten();
    if command.trim().is_empty() && plugins.is_none() {
        return Err(Error::at(item.at, "its `command` is empty"));
    }
    let mut env = defaults.env.clone();
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
    match (limit, group) {
        (None, None) => Ok(None),
        (Some(limit), Some(group)) => Ok(Some(Concurrency { group, limit })),
        (Some(_), None) => Err(Error::at(item.at, "its `concurrency` needs a `concurrency_group`")),
        (None, Some(_)) => Err(Error::at(item.at, "its `concurrency_group` needs a `concurrency`")),
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

fn wait(fields: Fields<'_>) -> Result<NewStep, Error> {
    let on = "continue_on_failure";
    let kind = StepKind::Wait { continue_on_failure: read::flag(fields.get(on), on)? };
    new_step(fields, String::new(), kind)
}

fn block(fields: Fields<'_>) -> Result<NewStep, Error> {
    let label = match read::optional_text(fields.any(&BLOCK), "block")? {
        Some(label) => Some(label),
        None => read::optional_text(fields.any(&LABEL), "label")?,
    };
    let prompt = read::optional_text(fields.get("prompt"), "prompt")?;
    new_step(fields, label.unwrap_or_default(), StepKind::Block { prompt })
}
