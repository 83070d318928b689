//! Whether a step is run at all: `skip`, `if` and `branches`. Whether they apply to a build is the
//! engine's to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Error;
use super::node::{Node, Value};
use super::read::{self, Fields};
use crate::condition::{self, Branches, Condition};
use crate::engine::{Filter, Only};

/// Of the reason that a `skip` gives.
const MAX_REASON_CHARS: usize = 70;

/// The pipeline's own variables are what conditions see besides the build's.
pub(super) fn filter(
    fields: Fields<'_>,
    env: &Arc<BTreeMap<String, String>>,
) -> Result<Filter, Error> {
    let condition = match fields.get("if") {
        Some(node) => condition(node)?,
        None => None,
    };
    let branches = fields.get("branches").map(branches).transpose()?.flatten();
    let only = match (condition, branches) {
        (Some(_), Some(_)) => {
            let at = fields.get("branches").map(|node| node.at).unwrap_or_default();
            let words = "it has `if` and `branches`, and may have one of them; ask for the branch in the condition, as in build.branch == \"main\"";
            return Err(Error::at(at, words));
        }
        (Some(condition), None) => Some(Only::If { condition, env: Arc::clone(env) }),
        (None, Some(branches)) => Some(Only::Branches(branches)),
        (None, None) => None,
    };
    Ok(Filter { skip: skip(fields.get("skip"))?, only })
}

fn condition(node: &Node) -> Result<Option<Condition>, Error> {
    let Some(text) = read::optional_text(Some(node), "if")? else { return Ok(None) };
    if text.trim().is_empty() {
        return Ok(None);
    }
    Condition::parse(&text).map(Some).map_err(|condition::Error { words, line, column }| {
        let place = if text.trim().contains('\n') {
            format!("line {line}, column {column}")
        } else {
            format!("column {column}")
        };
        Error::at(node.at, format!("its `if`, {place}: {words}"))
    })
}

fn branches(node: &Node) -> Result<Option<Branches>, Error> {
    let patterns = read::texts(Some(node), "branches")?;
    let written = patterns.iter().any(|pattern| !pattern.trim().is_empty());
    Ok(written.then(|| Branches::new(patterns.iter().map(String::as_str))))
}

/// Why the step is skipped: an empty reason where it is only said that it is.
pub(super) fn skip(node: Option<&Node>) -> Result<Option<String>, Error> {
    let Some(node) = node else { return Ok(None) };
    match &node.value {
        Value::Text(text) if !["true", "false", ""].contains(&text.as_str()) => {
            let length = text.chars().count();
            if length > MAX_REASON_CHARS {
                let words = format!(
                    "`skip` gives a reason of {length} characters, and may give {MAX_REASON_CHARS}"
                );
                return Err(Error::at(node.at, words));
            }
            Ok(Some(text.clone()))
        }
        Value::Text(text) if text.is_empty() => Ok(None),
        Value::Text(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::List(_)
        | Value::Map(_) => Ok(read::flag(Some(node), "skip")?.then(String::new)),
    }
}
