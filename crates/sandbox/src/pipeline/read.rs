//! One value of a pipeline at a time: texts, numbers, lists, environments, agent tags, conditions
//! of retries. What a step may hold at all is in `steps`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::error::nearest;
use super::node::{Entry, Node, Value};
use super::retry::DEFAULT_LIMIT;
use super::{AutomaticRetry, Dependency, Error, ExitStatuses, Retry, SignalReason, SoftFail};

/// The largest number of retries that Buildkite lets a rule ask for.
const MAX_LIMIT: u32 = 10;

/// The keys of one map.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [Entry]);

impl<'a> Fields<'a> {
    pub(super) fn of(node: &'a Node, what: &str) -> Result<Self, Error> {
        match &node.value {
            Value::Map(entries) => Ok(Self(entries)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                Err(wrong(node, what, "a map"))
            }
        }
    }

    pub(super) fn get(self, key: &str) -> Option<&'a Node> {
        self.0.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The first of several spellings of one key.
    pub(super) fn any(self, keys: &[&str]) -> Option<&'a Node> {
        keys.iter().find_map(|key| self.get(key))
    }

    pub(super) fn check(self, what: &str, known: &[&str]) -> Result<(), Error> {
        match self.0.iter().find(|entry| !known.contains(&entry.key.as_str())) {
            Some(entry) => Err(unknown_key(entry, what, known)),
            None => Ok(()),
        }
    }
}

pub(super) fn unknown_key(entry: &Entry, what: &str, known: &[&str]) -> Error {
    let key = &entry.key;
    let remedy = match nearest(key, known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; it may have {}", known.join(", ")),
    };
    Error::at(entry.at, format!("{what} has the unknown key `{key}`{remedy}"))
}

pub(super) fn wrong(node: &Node, what: &str, wanted: &str) -> Error {
    Error::at(node.at, format!("`{what}` must be {wanted}, and is {}", node.kind()))
}

/// A scalar exactly as written.
pub(super) fn text(node: &Node, what: &str) -> Result<String, Error> {
    match &node.value {
        Value::Text(text) | Value::Number(text) => Ok(text.clone()),
        Value::Bool(b) => Ok(b.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => Err(wrong(node, what, "a text")),
    }
}

/// A text that may be left out by writing nothing after its key.
pub(super) fn optional_text(node: Option<&Node>, what: &str) -> Result<Option<String>, Error> {
    match node {
        Some(node) if node.value != Value::Null => {
            text(node, what).map(|text| Some(text).filter(|text| !text.is_empty()))
        }
        Some(_) | None => Ok(None),
    }
}

pub(super) fn flag(node: Option<&Node>, what: &str) -> Result<bool, Error> {
    let Some(node) = node else { return Ok(false) };
    match &node.value {
        Value::Null => Ok(false),
        Value::Bool(b) => Ok(*b),
        Value::Text(text) if text == "true" => Ok(true),
        Value::Text(text) if text == "false" => Ok(false),
        Value::Text(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
            Err(wrong(node, what, "true or false"))
        }
    }
}

/// A whole number, quoted or not, from `least` to `most`.
pub(super) fn number<T>(
    node: Option<&Node>,
    what: &str,
    least: T,
    most: T,
) -> Result<Option<T>, Error>
where
    T: FromStr + PartialOrd + Display + Copy,
{
    let Some(node) = node else { return Ok(None) };
    let digits = match &node.value {
        Value::Null => return Ok(None),
        Value::Number(text) | Value::Text(text) => text,
        Value::Bool(_) | Value::List(_) | Value::Map(_) => {
            return Err(wrong(node, what, "a whole number"));
        }
    };
    match digits.parse::<T>() {
        Ok(n) if n >= least && n <= most => Ok(Some(n)),
        Ok(_) | Err(_) => Err(Error::at(
            node.at,
            format!("`{what}` must be a whole number from {least} to {most}, and is `{digits}`"),
        )),
    }
}

/// One text, or a list of them.
pub(super) fn texts(node: Option<&Node>, what: &str) -> Result<Vec<String>, Error> {
    let Some(node) = node else { return Ok(Vec::new()) };
    match &node.value {
        Value::Null => Ok(Vec::new()),
        Value::List(items) => items.iter().map(|item| text(item, what)).collect(),
        Value::Text(text) => Ok(vec![text.clone()]),
        Value::Number(_) | Value::Bool(_) | Value::Map(_) => {
            Err(wrong(node, what, "a text or a list of texts"))
        }
    }
}

/// Artifact paths: a list, or one text with `;` between them.
pub(super) fn artifact_paths(node: Option<&Node>) -> Result<Vec<String>, Error> {
    let paths = texts(node, "artifact_paths")?;
    Ok(paths
        .iter()
        .flat_map(|path| path.split(';'))
        .map(str::trim)
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect())
}

pub(super) fn env(node: Option<&Node>) -> Result<BTreeMap<String, String>, Error> {
    let Some(node) = node.filter(|node| node.value != Value::Null) else {
        return Ok(BTreeMap::new());
    };
    let mut env = BTreeMap::new();
    for Entry { key, node, .. } in Fields::of(node, "env")?.0 {
        let value = match &node.value {
            Value::Null => String::new(),
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                text(node, &format!("env.{key}"))?
            }
        };
        env.insert(key.clone(), value);
    }
    Ok(env)
}

/// `{cpu: 16}` or `["cpu=16"]`, both to `cpu=16`.
pub(super) fn agents(node: &Node) -> Result<Vec<String>, Error> {
    match &node.value {
        Value::Null => Ok(Vec::new()),
        Value::Map(entries) => entries
            .iter()
            .map(|Entry { key, node, .. }| {
                Ok(format!("{key}={}", text(node, &format!("agents.{key}"))?))
            })
            .collect(),
        Value::List(items) => items.iter().map(agent_rule).collect(),
        Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            Err(wrong(node, "agents", "a map, or a list of `key=value`"))
        }
    }
}

fn agent_rule(item: &Node) -> Result<String, Error> {
    let rule = text(item, "agents")?;
    match rule.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(rule),
        Some(_) | None => Err(Error::at(
            item.at,
            format!("an item of `agents` must be `key=value`, and is `{rule}`"),
        )),
    }
}

/// `None` where the key is absent; empty where it is there and names nothing.
pub(super) fn depends_on(node: Option<&Node>) -> Result<Option<Vec<Dependency>>, Error> {
    let Some(node) = node else { return Ok(None) };
    let list = match &node.value {
        Value::Null => Vec::new(),
        Value::List(items) => items.iter().map(dependency).collect::<Result<_, _>>()?,
        Value::Text(_) | Value::Number(_) | Value::Map(_) => vec![dependency(node)?],
        Value::Bool(_) => return Err(wrong(node, "depends_on", "a step's key or a list of them")),
    };
    Ok(Some(list))
}

fn dependency(node: &Node) -> Result<Dependency, Error> {
    if !matches!(node.value, Value::Map(_)) {
        return Ok(Dependency { step: text(node, "depends_on")?, allow_failure: false });
    }
    let fields = Fields::of(node, "depends_on")?;
    fields.check("depends_on", &["step", "allow_failure"])?;
    let step = optional_text(fields.get("step"), "depends_on.step")?
        .ok_or_else(|| Error::at(node.at, "an item of `depends_on` names no `step`"))?;
    let allow_failure = flag(fields.get("allow_failure"), "depends_on.allow_failure")?;
    Ok(Dependency { step, allow_failure })
}

pub(super) fn retry(node: Option<&Node>) -> Result<Retry, Error> {
    let Some(node) = node.filter(|node| node.value != Value::Null) else {
        return Ok(Retry::default());
    };
    let fields = Fields::of(node, "retry")?;
    fields.check("retry", &["automatic", "manual"])?;
    let manual = match fields.get("manual") {
        None => true,
        Some(node) if matches!(node.value, Value::Map(_)) => {
            let fields = Fields::of(node, "retry.manual")?;
            fields.check("retry.manual", &["allowed", "reason", "permit_on_passed"])?;
            fields.get("allowed").is_none() || flag(fields.get("allowed"), "retry.manual.allowed")?
        }
        Some(node) => flag(Some(node), "retry.manual")?,
    };
    Ok(Retry { automatic: automatic(fields.get("automatic"))?, manual })
}

fn automatic(node: Option<&Node>) -> Result<Vec<AutomaticRetry>, Error> {
    let Some(node) = node else { return Ok(Vec::new()) };
    match &node.value {
        Value::List(rules) => rules.iter().map(rule).collect(),
        Value::Map(_) => Ok(vec![rule(node)?]),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            let every = AutomaticRetry {
                exit_status: None,
                signal: None,
                signal_reason: None,
                limit: DEFAULT_LIMIT,
            };
            Ok(if flag(Some(node), "retry.automatic")? { vec![every] } else { Vec::new() })
        }
    }
}

fn rule(node: &Node) -> Result<AutomaticRetry, Error> {
    let fields = Fields::of(node, "retry.automatic")?;
    fields.check("retry.automatic", &["exit_status", "signal", "signal_reason", "limit"])?;
    let reason = optional_text(fields.get("signal_reason"), "signal_reason")?;
    Ok(AutomaticRetry {
        exit_status: fields.get("exit_status").map(exit_statuses).transpose()?,
        signal: optional_text(fields.get("signal"), "signal")?,
        signal_reason: reason.map(|reason| match reason.as_str() {
            "*" => SignalReason::Any,
            "none" => SignalReason::Absent,
            _ => SignalReason::Is(reason),
        }),
        limit: number(fields.get("limit"), "limit", 0, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
    })
}

fn exit_statuses(node: &Node) -> Result<ExitStatuses, Error> {
    match &node.value {
        Value::Text(text) if text == "*" => Ok(ExitStatuses::Any),
        Value::List(items) => {
            items.iter().map(exit_status).collect::<Result<_, _>>().map(ExitStatuses::OneOf)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
            Ok(ExitStatuses::OneOf(vec![exit_status(node)?]))
        }
    }
}

fn exit_status(node: &Node) -> Result<i32, Error> {
    number(Some(node), "exit_status", -1, 255)?
        .ok_or_else(|| wrong(node, "exit_status", "a number, a list of numbers, or \"*\""))
}

/// `true`, or the statuses that are forgiven.
pub(super) fn soft_fail(node: Option<&Node>) -> Result<SoftFail, Error> {
    let Some(node) = node else { return Ok(SoftFail::Never) };
    let Value::List(items) = &node.value else {
        let always = flag(Some(node), "soft_fail")?;
        return Ok(if always { SoftFail::Always } else { SoftFail::Never });
    };
    let mut statuses = Vec::new();
    for item in items {
        let fields = Fields::of(item, "soft_fail")?;
        fields.check("soft_fail", &["exit_status"])?;
        let Some(status) = fields.get("exit_status") else {
            return Err(Error::at(item.at, "an item of `soft_fail` names no `exit_status`"));
        };
        match exit_statuses(status)? {
            ExitStatuses::Any => return Ok(SoftFail::Always),
            ExitStatuses::OneOf(more) => statuses.extend(more),
        }
    }
    Ok(SoftFail::On(ExitStatuses::OneOf(statuses)))
}

/// `true` or a reason skips the step; the reason is empty where there is none.
pub(super) fn skip(node: Option<&Node>) -> Result<Option<String>, Error> {
    let Some(node) = node else { return Ok(None) };
    match &node.value {
        Value::Text(text) if !["true", "false", ""].contains(&text.as_str()) => {
            Ok(Some(text.clone()))
        }
        Value::Text(text) if text.is_empty() => Ok(None),
        Value::Text(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::List(_)
        | Value::Map(_) => Ok(flag(Some(node), "skip")?.then(String::new)),
    }
}
