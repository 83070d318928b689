//! `matrix`: the combinations that a step is run in, and their values put in place of
//! `{{matrix}}`. What the step does with them is in `command`.

use std::collections::BTreeMap;

use super::node::{Entry, Node, Value};
use super::read::{self, Fields};
use super::{Error, filter, rules};
use crate::engine::SoftFail;
use crate::nearest::nearest;

// As Buildkite limits them.
const MAX_DIMENSIONS: usize = 6;
const MAX_ELEMENTS: usize = 20;
const MAX_ADJUSTMENTS: usize = 12;
const MAX_JOBS: usize = 50;

/// Keys of a command step in which values may stand.
const INTERPOLATED: [&str; 7] =
    ["command", "commands", "label", "name", "env", "agents", "plugins"];

/// One combination of values.
pub(super) struct Permutation {
    /// By dimension; the only one of a plain list has an empty name.
    pub(super) values: BTreeMap<String, String>,
    /// As the adjustment of this combination says.
    pub(super) skip: Option<String>,
    pub(super) soft_fail: Option<SoftFail>,
}

/// A dimension's name and its values.
type Dimension = (String, Vec<String>);

/// The combinations in the order of the file: the last dimension turns fastest, and those that
/// adjustments add come last.
pub(super) fn permutations(node: &Node) -> Result<Vec<Permutation>, Error> {
    let (dimensions, adjustments) = match &node.value {
        Value::List(_) => (vec![(String::new(), elements(node, "matrix")?)], None),
        Value::Map(entries) => {
            let fields = Fields(entries);
            fields.check("its `matrix`", &["setup", "adjustments"])?;
            let setup = fields
                .get("setup")
                .ok_or_else(|| Error::at(node.at, "its `matrix` has no `setup`"))?;
            (dimensions(setup)?, fields.get("adjustments"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            return Err(read::wrong(node, "matrix", "a list, or a map with `setup`"));
        }
    };
    let adjustments = match adjustments.map(|node| (node, &node.value)) {
        Some((_, Value::List(items))) => items.as_slice(),
        Some((_, Value::Null)) | None => &[],
        Some((node, _)) => return Err(read::wrong(node, "adjustments", "a list")),
    };
    limit(node, "adjustments", adjustments.len(), MAX_ADJUSTMENTS)?;
    // Before they are made: six dimensions of twenty would be sixty-four million.
    let all = dimensions.iter().map(|(_, values)| values.len()).product::<usize>();
    limit(node, "jobs", all.saturating_sub(adjustments.len()), MAX_JOBS)?;
    let mut permutations = product(&dimensions);
    for item in adjustments {
        adjust(item, &dimensions, &mut permutations)?;
    }
    let jobs = permutations.iter().filter(|permutation| permutation.skip.is_none()).count();
    limit(node, "jobs", jobs, MAX_JOBS)?;
    if permutations.is_empty() {
        return Err(Error::at(node.at, "its `matrix` has no values, so it makes no job"));
    }
    Ok(permutations)
}

fn limit(node: &Node, what: &str, is: usize, most: usize) -> Result<(), Error> {
    if is > most {
        let words = format!("its `matrix` has {is} {what}, and may have {most}");
        return Err(Error::at(node.at, words));
    }
    Ok(())
}

fn dimensions(setup: &Node) -> Result<Vec<Dimension>, Error> {
    let entries = match &setup.value {
        Value::List(_) => return Ok(vec![(String::new(), elements(setup, "setup")?)]),
        Value::Map(entries) => entries,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            return Err(read::wrong(setup, "setup", "a list, or a map of lists"));
        }
    };
    limit(setup, "dimensions", entries.len(), MAX_DIMENSIONS)?;
    let mut dimensions = Vec::with_capacity(entries.len());
    for Entry { key, at, node } in entries {
        if key.is_empty() || !key.chars().all(is_part_of_a_name) {
            let words = format!("a dimension's name has letters, digits, _ and -, and is `{key}`");
            return Err(Error::at(*at, words));
        }
        dimensions.push((key.clone(), elements(node, &format!("setup.{key}"))?));
    }
    Ok(dimensions)
}

fn elements(node: &Node, what: &str) -> Result<Vec<String>, Error> {
    let Value::List(items) = &node.value else { return Err(read::wrong(node, what, "a list")) };
    if items.len() > MAX_ELEMENTS {
        let has = items.len();
        let words = format!("`{what}` has {has} elements, and may have {MAX_ELEMENTS}");
        return Err(Error::at(node.at, words));
    }
    items.iter().map(|item| read::text(item, what)).collect()
}

fn product(dimensions: &[Dimension]) -> Vec<Permutation> {
    let mut all = vec![BTreeMap::new()];
    for (name, values) in dimensions {
        let with = |before: BTreeMap<String, String>| {
            values.iter().map(move |value| {
                let mut longer = before.clone();
                longer.insert(name.clone(), value.clone());
                longer
            })
        };
        all = all.into_iter().flat_map(with).collect();
    }
    all.into_iter().map(|values| Permutation { values, skip: None, soft_fail: None }).collect()
}

/// Changes the combination that the adjustment is for, or adds it.
fn adjust(item: &Node, dimensions: &[Dimension], all: &mut Vec<Permutation>) -> Result<(), Error> {
    let fields = Fields::of(item, "an item of `adjustments`")?;
    fields.check("an item of `adjustments`", &["with", "skip", "soft_fail"])?;
    let values = combination(item, fields.get("with"), dimensions)?;
    let skip = filter::skip(fields.get("skip"))?;
    let soft_fail = match fields.get("soft_fail") {
        Some(node) => Some(rules::soft_fail(Some(node))?),
        None => None,
    };
    let mut there = all.iter_mut().filter(|permutation| permutation.values == values).peekable();
    if there.peek().is_none() {
        drop(there);
        all.push(Permutation { values, skip, soft_fail });
        return Ok(());
    }
    for permutation in there {
        permutation.skip = skip.clone().or(permutation.skip.take());
        permutation.soft_fail = soft_fail.clone().or(permutation.soft_fail.take());
    }
    Ok(())
}

fn combination(
    item: &Node,
    with: Option<&Node>,
    dimensions: &[Dimension],
) -> Result<BTreeMap<String, String>, Error> {
    let Some(with) = with else {
        return Err(Error::at(item.at, "an item of `adjustments` names no combination by `with`"));
    };
    let named: Vec<&str> = dimensions.iter().map(|(name, _)| name.as_str()).collect();
    let entries = match &with.value {
        Value::Map(entries) => entries,
        Value::List(items) if named == [""] && items.len() == 1 => {
            let value = read::text(&items[0], "with")?;
            return Ok(BTreeMap::from([(String::new(), value)]));
        }
        Value::Text(_) | Value::Number(_) | Value::Bool(_) if named == [""] => {
            return Ok(BTreeMap::from([(String::new(), read::text(with, "with")?)]));
        }
        Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::List(_) | Value::Null => {
            let wanted =
                if named == [""] { "one value" } else { "a map of each dimension's value" };
            return Err(read::wrong(with, "with", wanted));
        }
    };
    let mut values = BTreeMap::new();
    for Entry { key, at, node } in entries {
        if !named.contains(&key.as_str()) {
            return Err(Error::at(*at, unknown_dimension(key, &named)));
        }
        values.insert(key.clone(), read::text(node, &format!("with.{key}"))?);
    }
    if let Some(missing) = named.iter().find(|name| !values.contains_key(**name)) {
        let words = format!("`with` must have each dimension, and lacks `{missing}`");
        return Err(Error::at(with.at, words));
    }
    Ok(values)
}

fn unknown_dimension(name: &str, known: &[&str]) -> String {
    let is = |name: &str| match name {
        "" => "a plain list of values".to_owned(),
        name => format!("the dimension `{name}`"),
    };
    if let Some(near) = nearest(name, known).filter(|near| !near.is_empty()) {
        return format!("its `matrix` has no dimension `{name}`; did you mean `{near}`?");
    }
    let has: Vec<String> = known.iter().map(|name| is(name)).collect();
    let asked = if name.is_empty() {
        "is no plain list".to_owned()
    } else {
        format!("has no dimension `{name}`")
    };
    format!("its `matrix` {asked}; it has {}", has.join(", "))
}

/// The step's keys with the values put in.
pub(super) fn interpolate(
    fields: Fields<'_>,
    values: &BTreeMap<String, String>,
) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::with_capacity(fields.0.len());
    for entry in fields.0.iter().filter(|entry| entry.key != "matrix") {
        let key = entry.key.as_str();
        let node = if INTERPOLATED.contains(&key) {
            put_in(&entry.node, values, key == "plugins")?
        } else {
            if mentions(&entry.node) {
                let words = format!(
                    "`{key}` cannot have values of the matrix; command, label, env, agents and plugins can"
                );
                return Err(Error::at(entry.at, words));
            }
            entry.node.clone()
        };
        entries.push(Entry { key: entry.key.clone(), at: entry.at, node });
    }
    Ok(entries)
}

fn put_in(node: &Node, values: &BTreeMap<String, String>, in_keys: bool) -> Result<Node, Error> {
    let text = |text: &str, at| {
        let known: Vec<&str> = values.keys().map(String::as_str).collect();
        replace(text, |name| values.get(name).cloned())
            .map_err(|name| Error::at(at, unknown_dimension(&name, &known)))
    };
    let value = match &node.value {
        Value::Text(written) => Value::Text(text(written, node.at)?),
        Value::List(items) => {
            let items = items.iter().map(|item| put_in(item, values, in_keys));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        Value::Map(entries) => {
            let entries = entries.iter().map(|Entry { key, at, node }| {
                let key = if in_keys { text(key, *at)? } else { key.clone() };
                Ok(Entry { key, at: *at, node: put_in(node, values, in_keys)? })
            });
            Value::Map(entries.collect::<Result<_, _>>()?)
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other.clone(),
    };
    Ok(Node { at: node.at, value })
}

fn mentions(node: &Node) -> bool {
    match &node.value {
        Value::Text(text) => replace(text, |_| None).is_err(),
        Value::List(items) => items.iter().any(mentions),
        Value::Map(entries) => entries.iter().any(|entry| mentions(&entry.node)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Replaces each `{{matrix}}` and `{{matrix.name}}`; the error is a name that has no value. Other
/// braces are not ours.
fn replace(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        done.push_str(before);
        let token = after.split_once("}}").and_then(|(token, left)| Some((name(token)?, left)));
        match token {
            Some((name, left)) => {
                done.push_str(&value(name).ok_or_else(|| name.to_owned())?);
                rest = left;
            }
            None => {
                done.push_str("{{");
                rest = after;
            }
        }
    }
    Ok(done + rest)
}

/// The dimension that a token between braces names.
fn name(token: &str) -> Option<&str> {
    let rest = token.trim().strip_prefix("matrix")?;
    if rest.is_empty() {
        return Some(rest);
    }
    rest.strip_prefix('.').filter(|name| !name.is_empty() && name.chars().all(is_part_of_a_name))
}

fn is_part_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}
