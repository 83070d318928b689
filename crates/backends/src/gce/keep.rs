//! Failed machines that stay for a look. They bear another mark than ours, so that no list shows
//! them; they go when their time is up, or at their own deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::Inner;
use super::call::Ask;
use super::pace::Write;
use super::refusal::{Asked, Kind, Refusal};
use super::{stamp, sweep};
use crate::contract::Error;

/// Until when it stays, in seconds since 1970.
const UNTIL: &str = "jitney-kept-until";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Labelled {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    label_fingerprint: String,
}

/// Takes our mark off the machine; false where it is gone.
pub(super) async fn keep(inner: &Inner, zone: &str, name: &str) -> Result<bool, Error> {
    let path = format!("zones/{zone}/instances/{name}");
    let mut ask = Ask::get("get", path.clone()).with("fields", "labels,labelFingerprint");
    ask.of = Asked { zone, ..Asked::default() };
    let found: Labelled = match inner.api.read(ask).await {
        Ok(found) => found,
        Err(Refusal { kind: Kind::Gone, .. }) => return Ok(false),
        Err(refusal) => return Err(refusal.error),
    };
    let mut labels = found.labels;
    labels.remove(stamp::MARK);
    labels.insert(stamp::KEPT.to_owned(), inner.options.settings.mark.clone());
    let until = inner.now().checked_add(inner.options.keep_failed).unwrap_or(Timestamp::MAX);
    labels.insert(UNTIL.to_owned(), until.as_second().to_string());
    let body = json!({ "labels": labels, "labelFingerprint": found.label_fingerprint });
    let mut ask = Ask::get("set the labels", format!("{path}/setLabels"));
    ask.method = Method::POST;
    ask.body = Some(&body);
    ask.of = Asked { zone, ..Asked::default() };
    ask.write = Some(Write::Delete);
    match inner.api.send(ask).await {
        Ok(_) => {
            let seconds = inner.options.keep_failed.as_secs();
            tracing::warn!(machine = name, zone, seconds, "a failed machine is kept for a look");
            Ok(true)
        }
        Err(Refusal { kind: Kind::Gone, .. }) => Ok(false),
        Err(refusal) => Err(refusal.error),
    }
}

/// Deletes what was kept for long enough.
pub(super) async fn let_go(inner: &Inner) -> Result<(), Error> {
    let filter = format!("labels.{}={}", stamp::KEPT, inner.options.settings.mark);
    let kept = sweep::everywhere(inner, "instances", &filter).await?;
    let now = inner.now().as_second();
    for (zone, scope) in &kept {
        for instance in &scope.instances {
            let until = instance.labels.get(UNTIL).and_then(|text| text.parse::<i64>().ok());
            if until.is_none_or(|until| until <= now) {
                delete(inner, zone, &instance.name).await?;
            }
        }
    }
    Ok(())
}

async fn delete(inner: &Inner, zone: &str, name: &str) -> Result<(), Error> {
    let ask = Ask::delete("delete", zone, &format!("instances/{name}"));
    match inner.api.send(ask).await {
        Ok(_) | Err(Refusal { kind: Kind::Gone | Kind::Busy, .. }) => Ok(()),
        Err(refusal) => Err(refusal.error),
    }
}

/// How long until it is to be looked at again.
pub(super) fn pause(inner: &Inner) -> Duration {
    let sweep = inner.options.pauses.sweep;
    let keep = inner.options.keep_failed;
    if keep.is_zero() { sweep } else { sweep.min(keep) }
}
