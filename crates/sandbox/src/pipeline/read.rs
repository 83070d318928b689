//! One value of a pipeline at a time: texts, numbers, lists, environments, agent tags. What a step
//! may hold at all is in `steps`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::Error;
use super::node::{Entry, Node, Value};
use crate::engine::Dependency;
use crate::nearest::nearest;

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

/// `{cpu: 16}` or `["cpu=16"]`, in the order of the file.
pub(super) fn agents(node: &Node) -> Result<Vec<(String, String)>, Error> {
    match &node.value {
        Value::Null => Ok(Vec::new()),
        Value::Map(entries) => entries
            .iter()
            .map(|Entry { key, node, .. }| Ok((key.clone(), text(node, &format!("agents.{key}"))?)))
            .collect(),
        Value::List(items) => items.iter().map(agent_rule).collect(),
        Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            Err(wrong(node, "agents", "a map, or a list of `key=value`"))
        }
    }
}

fn agent_rule(item: &Node) -> Result<(String, String), Error> {
    let rule = text(item, "agents")?;
    match rule.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
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
