//! What `retry` and `soft_fail` say. Whether an end matches, and counting the tries, is the engine's.

use super::Error;
use super::node::{Node, Value};
use super::read::{Fields, flag, number, optional_text, wrong};
use crate::engine::{ExitMatch, RetryRule, SoftFail};

/// Retries that a rule without a `limit` allows.
const DEFAULT_LIMIT: u32 = 2;
/// The largest number of retries that Buildkite lets a rule ask for.
const MAX_LIMIT: u32 = 10;

pub(super) fn retry(node: Option<&Node>) -> Result<Vec<RetryRule>, Error> {
    let Some(node) = node.filter(|node| node.value != Value::Null) else {
        return Ok(Vec::new());
    };
    let fields = Fields::of(node, "retry")?;
    fields.check("retry", &["automatic", "manual"])?;
    manual(fields.get("manual"))?;
    automatic(fields.get("automatic"))
}

/// Only checked (see the parent module).
fn manual(node: Option<&Node>) -> Result<(), Error> {
    let Some(node) = node else { return Ok(()) };
    if !matches!(node.value, Value::Map(_)) {
        return flag(Some(node), "retry.manual").map(drop);
    }
    let fields = Fields::of(node, "retry.manual")?;
    fields.check("retry.manual", &["allowed", "reason", "permit_on_passed"])?;
    flag(fields.get("allowed"), "retry.manual.allowed")?;
    flag(fields.get("permit_on_passed"), "retry.manual.permit_on_passed").map(drop)
}

fn automatic(node: Option<&Node>) -> Result<Vec<RetryRule>, Error> {
    let Some(node) = node else { return Ok(Vec::new()) };
    match &node.value {
        Value::List(rules) => rules.iter().map(rule).collect(),
        Value::Map(_) => Ok(vec![rule(node)?]),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            let every = RetryRule {
                exit_status: ExitMatch::Unsaid,
                signal: None,
                signal_reason: None,
                limit: DEFAULT_LIMIT,
            };
            Ok(if flag(Some(node), "retry.automatic")? { vec![every] } else { Vec::new() })
        }
    }
}

fn rule(node: &Node) -> Result<RetryRule, Error> {
    let fields = Fields::of(node, "retry.automatic")?;
    fields.check("retry.automatic", &["exit_status", "signal", "signal_reason", "limit"])?;
    Ok(RetryRule {
        exit_status: fields.get("exit_status").map(exit_match).transpose()?.unwrap_or_default(),
        signal: optional_text(fields.get("signal"), "signal")?,
        signal_reason: optional_text(fields.get("signal_reason"), "signal_reason")?,
        limit: number(fields.get("limit"), "limit", 0, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
    })
}

fn exit_match(node: &Node) -> Result<ExitMatch, Error> {
    match &node.value {
        Value::Text(text) if text == "*" => Ok(ExitMatch::Failed),
        Value::List(items) => {
            items.iter().map(exit_status).collect::<Result<_, _>>().map(ExitMatch::These)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
            Ok(ExitMatch::These(vec![exit_status(node)?]))
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
        match exit_match(status)? {
            ExitMatch::Failed | ExitMatch::Unsaid => return Ok(SoftFail::Always),
            ExitMatch::These(more) => statuses.extend(more),
        }
    }
    Ok(SoftFail::These(statuses))
}
