//! What `block` and `input` steps ask a person: `prompt`, `fields` and `blocked_state`. Which
//! answers fit is the engine's to say.

use std::collections::BTreeSet;

use super::Error;
use super::node::{Node, Value};
use super::read::{self, Fields};
use crate::engine::{BlockedState, Choice, Entry, Field, Form};
use crate::pattern::Pattern;

pub(super) fn form(fields: Fields<'_>) -> Result<Form, Error> {
    Ok(Form {
        prompt: read::optional_text(fields.get("prompt"), "prompt")?,
        fields: fields.get("fields").map(all).transpose()?.unwrap_or_default(),
        blocked_state: blocked_state(fields.get("blocked_state"))?,
    })
}

fn blocked_state(node: Option<&Node>) -> Result<BlockedState, Error> {
    let Some(node) = node else { return Ok(BlockedState::default()) };
    match read::optional_text(Some(node), "blocked_state")?.as_deref() {
        None | Some("passed") => Ok(BlockedState::Passed),
        Some("failed") => Ok(BlockedState::Failed),
        Some("running") => Ok(BlockedState::Running),
        Some(other) => {
            let words =
                format!("`blocked_state` must be passed, failed or running, and is `{other}`");
            Err(Error::at(node.at, words))
        }
    }
}

fn all(node: &Node) -> Result<Vec<Field>, Error> {
    let items = match &node.value {
        Value::Null => return Ok(Vec::new()),
        Value::List(items) => items,
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
            return Err(read::wrong(node, "fields", "a list"));
        }
    };
    let mut keys = BTreeSet::new();
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let field = field(item)?;
        if !keys.insert(field.key.clone()) {
            let words = format!("two of its `fields` have the key `{}`", field.key);
            return Err(Error::at(item.at, words));
        }
        all.push(field);
    }
    Ok(all)
}

fn field(item: &Node) -> Result<Field, Error> {
    let fields = Fields::of(item, "an item of `fields`")?;
    let selects = fields.any(&["select", "options"]).is_some();
    let entry = if selects { select(item, fields)? } else { text(fields)? };
    let label = read::optional_text(fields.any(&["text", "select"]), "label")?;
    let required = match fields.get("required") {
        Some(node) => read::flag(Some(node), "required")?,
        None => true,
    };
    let key = key(item, fields)?;
    let hint = read::optional_text(fields.get("hint"), "hint")?;
    Ok(Field { label: label.unwrap_or_else(|| key.clone()), key, hint, required, entry })
}

fn key(item: &Node, fields: Fields<'_>) -> Result<String, Error> {
    let Some(key) = read::optional_text(fields.get("key"), "key")? else {
        return Err(Error::at(
            item.at,
            "an item of `fields` has no `key` to store its answer under",
        ));
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    if !key.chars().all(fits) {
        let at = fields.get("key").map_or(item.at, |node| node.at);
        let words = format!("a field's `key` has letters, digits, /, - and _, and is `{key}`");
        return Err(Error::at(at, words));
    }
    Ok(key)
}

fn text(fields: Fields<'_>) -> Result<Entry, Error> {
    fields.check("a text field", &["text", "key", "hint", "required", "default", "format"])?;
    let format = match fields.get("format") {
        Some(node) => {
            let source = read::text(node, "format")?;
            let pattern = Pattern::whole(&source).map_err(|why| {
                Error::at(node.at, format!("`format` is no regular expression: {why}"))
            })?;
            Some(pattern)
        }
        None => None,
    };
    Ok(Entry::Text { default: read::optional_text(fields.get("default"), "default")?, format })
}

fn select(item: &Node, fields: Fields<'_>) -> Result<Entry, Error> {
    let known = ["select", "key", "hint", "required", "default", "multiple", "options"];
    fields.check("a select field", &known)?;
    let options = match fields.get("options").map(|node| (node, &node.value)) {
        Some((_, Value::List(items))) => items.iter().map(option).collect::<Result<Vec<_>, _>>()?,
        Some((node, _)) => return Err(read::wrong(node, "options", "a list")),
        None => Vec::new(),
    };
    if options.is_empty() {
        return Err(Error::at(item.at, "a select field needs `options`"));
    }
    let multiple = read::flag(fields.get("multiple"), "multiple")?;
    let default = match fields.get("default") {
        Some(Node { value: Value::List(items), .. }) => {
            items.iter().map(|item| read::text(item, "default")).collect::<Result<_, _>>()?
        }
        node => read::optional_text(node, "default")?.into_iter().collect::<Vec<_>>(),
    };
    let at = fields.get("default").map_or(item.at, |node| node.at);
    if default.len() > 1 && !multiple {
        let words = "`default` names several options; `multiple: true` would allow that";
        return Err(Error::at(at, words));
    }
    let is_option = |value: &String| options.iter().any(|option| option.value == *value);
    if let Some(other) = default.iter().find(|value| !is_option(value)) {
        return Err(Error::at(at, format!("`default` is `{other}`, which is no option's value")));
    }
    Ok(Entry::Select { options, multiple, default })
}

fn option(item: &Node) -> Result<Choice, Error> {
    let fields = Fields::of(item, "an item of `options`")?;
    fields.check("an item of `options`", &["label", "value"])?;
    let part = |key: &str| {
        let missing = || Error::at(item.at, format!("an item of `options` has no `{key}`"));
        read::optional_text(fields.get(key), key)?.ok_or_else(missing)
    };
    Ok(Choice { label: part("label")?, value: part("value")? })
}
