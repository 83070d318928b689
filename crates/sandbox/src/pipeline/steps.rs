//! From the document's tree to steps: which keys a pipeline and each kind of step may have, and
//! what is told about the others.

use super::error::nearest;
use super::node::{Entry, Node, Value};
use super::read::{self, Fields};
use super::{BlockStep, CommandStep, Error, Pipeline, Step, WaitStep};

/// Jobs of one build, as Buildkite limits them.
const MAX_PARALLELISM: u32 = 4000;
/// A day, in minutes, times thirty: the longest that any job may wait or run.
const MAX_TIMEOUT_MINUTES: u32 = 43_200;

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

const COMMAND_KEYS: [&str; 21] = [
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
const UNSUPPORTED: [&str; 16] = [
    "if",
    "if_changed",
    "branches",
    "matrix",
    "concurrency",
    "concurrency_group",
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

pub(super) fn pipeline(root: &Node) -> Result<Pipeline, Error> {
    let Value::Map(entries) = &root.value else {
        // The oldest form: nothing but the list of steps.
        return Ok(Pipeline { env: Default::default(), steps: steps(root, &[])? });
    };
    let fields = Fields(entries);
    check_top(fields)?;
    let Some(list) = fields.get("steps") else {
        return Err(Error::at(root.at, "the pipeline has no `steps`"));
    };
    let agents = fields.get("agents").map(read::agents).transpose()?.unwrap_or_default();
    Ok(Pipeline { env: read::env(fields.get("env"))?, steps: steps(list, &agents)? })
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

fn steps(list: &Node, agents: &[String]) -> Result<Vec<Step>, Error> {
    let Value::List(items) = &list.value else {
        return Err(read::wrong(list, "steps", "a list"));
    };
    let mut steps = Vec::with_capacity(items.len());
    let mut keys = std::collections::BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let name = name(item, index);
        let step = step(item, agents).map_err(|error| error.in_step(&name))?;
        if let Some(key) = step.key()
            && !keys.insert(key.to_owned())
        {
            let words = format!("{name}: an earlier step has the key `{key}` already");
            return Err(Error::at(item.at, words));
        }
        steps.push(step);
    }
    Ok(steps)
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

fn step(item: &Node, agents: &[String]) -> Result<Step, Error> {
    match &item.value {
        Value::Text(word) => bare(item, word),
        Value::Map(entries) => mapped(item, Fields(entries), agents),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => Err(Error::at(
            item.at,
            format!("a step must be a map or `wait`, and is {}", item.kind()),
        )),
    }
}

fn bare(item: &Node, word: &str) -> Result<Step, Error> {
    if WAIT.contains(&word) {
        return Ok(Step::Wait(WaitStep::default()));
    }
    if BLOCK.contains(&word) {
        return Ok(Step::Block(BlockStep::default()));
    }
    if KINDS_UNSUPPORTED.contains(&word) {
        return Err(Error::at(item.at, unsupported("it", word)));
    }
    let words = format!("a step that is only a word must be `wait` or `block`, and is `{word}`");
    Err(Error::at(item.at, words))
}

fn mapped(item: &Node, fields: Fields<'_>, agents: &[String]) -> Result<Step, Error> {
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
        return command(item, fields, agents).map(|step| Step::Command(Box::new(step)));
    }
    if is(&WAIT, &WAIT) {
        check(fields, &WAIT_KEYS)?;
        return wait(fields).map(Step::Wait);
    }
    if is(&BLOCK, &BLOCK) {
        check(fields, &BLOCK_KEYS)?;
        return block(fields).map(Step::Block);
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

fn key(fields: Fields<'_>) -> Result<Option<String>, Error> {
    read::optional_text(fields.any(&KEY), "key")
}

fn command(item: &Node, fields: Fields<'_>, defaults: &[String]) -> Result<CommandStep, Error> {
    let command = read::texts(fields.any(&["command", "commands"]), "command")?.join("\n");
    let mut env = read::env(fields.get("env"))?;
    let plugins = fields.get("plugins").map(plugins).transpose()?.flatten();
    if command.trim().is_empty() && plugins.is_none() {
        return Err(Error::at(item.at, "its `command` is empty"));
    }
    env.extend(plugins.map(|json| ("BUILDKITE_PLUGINS".to_owned(), json)));
    let own = fields.get("agents").map(read::agents).transpose()?;
    Ok(CommandStep {
        key: key(fields)?,
        label: read::optional_text(fields.any(&LABEL), "label")?,
        command,
        agents: own.unwrap_or_else(|| defaults.to_vec()),
        env,
        priority: read::number(fields.get("priority"), "priority", i64::MIN, i64::MAX)?
            .unwrap_or(0),
        parallelism: read::number(fields.get("parallelism"), "parallelism", 1, MAX_PARALLELISM)?,
        depends_on: read::depends_on(fields.get("depends_on"))?,
        allow_dependency_failure: allow_dependency_failure(fields)?,
        retry: read::retry(fields.get("retry"))?,
        timeout_in_minutes: read::number(
            fields.get("timeout_in_minutes"),
            "timeout_in_minutes",
            1,
            MAX_TIMEOUT_MINUTES,
        )?,
        soft_fail: read::soft_fail(fields.get("soft_fail"))?,
        artifact_paths: read::artifact_paths(fields.get("artifact_paths"))?,
        skip: read::skip(fields.get("skip"))?,
    })
}

/// What the agent reads in `BUILDKITE_PLUGINS`: a list of names and of `{name: configuration}`.
fn plugins(node: &Node) -> Result<Option<String>, Error> {
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
    Ok(Some(serde_json::Value::Array(list).to_string()))
}

fn wait(fields: Fields<'_>) -> Result<WaitStep, Error> {
    Ok(WaitStep {
        key: key(fields)?,
        continue_on_failure: read::flag(fields.get("continue_on_failure"), "continue_on_failure")?,
        depends_on: read::depends_on(fields.get("depends_on"))?,
        allow_dependency_failure: allow_dependency_failure(fields)?,
    })
}

fn block(fields: Fields<'_>) -> Result<BlockStep, Error> {
    let label = match read::optional_text(fields.any(&BLOCK), "block")? {
        Some(label) => Some(label),
        None => read::optional_text(fields.any(&LABEL), "label")?,
    };
    Ok(BlockStep {
        key: key(fields)?,
        label,
        prompt: read::optional_text(fields.get("prompt"), "prompt")?,
        depends_on: read::depends_on(fields.get("depends_on"))?,
        allow_dependency_failure: allow_dependency_failure(fields)?,
    })
}

fn allow_dependency_failure(fields: Fields<'_>) -> Result<bool, Error> {
    read::flag(fields.get("allow_dependency_failure"), "allow_dependency_failure")
}
