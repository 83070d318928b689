//! Looking: one list of machines for each zone, and one of operations where something is to be
//! explained. A zone that cannot be listed is unknown, and nothing of it is forgotten.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde::de::DeserializeOwned;

use super::call::{Api, Ask};
use super::known::{Known, Question, State};
use super::refusal::Asked;
use super::settings::Delivery;
use super::wire::{INSTANCES, Instance, OPERATIONS, Operation, Page, SerialPort, Status};
use super::{Inner, stamp, sweep};
use crate::contract::{Class, Error, Listing};

const MOST: &str = "500";
/// The most pages that are read of one list.
const PAGES: usize = 200;
/// How much of a serial port's output is kept.
const TAIL: i64 = 4_000;

pub(super) async fn machines(inner: &Inner) -> Result<Listing, Error> {
    let swept = sweep::when_due(inner).await;
    let zones = zones(inner);
    let looks = join_all(zones.iter().map(|zone| look(inner, zone))).await;
    let mut failed: Vec<Error> = Vec::new();
    for (zone, error) in
        zones.iter().zip(looks).filter_map(|(zone, look)| Some((zone, look.err()?)))
    {
        tracing::debug!(zone, %error, "a zone cannot be listed; what is in it is unknown");
        failed.push(error);
    }
    let complete = swept && failed.is_empty();
    if failed.len() == zones.len()
        && let Some(error) = failed.into_iter().next()
    {
        return Err(error);
    }
    hear_serial_ports(inner).await;
    Ok(inner.machines().listing(complete))
}

/// The configured zones, and those in which there is something of ours all the same.
fn zones(inner: &Inner) -> BTreeSet<String> {
    let mut zones: BTreeSet<String> = inner.options.settings.zones.iter().cloned().collect();
    zones.extend(inner.machines().zones().map(str::to_owned));
    zones.extend(inner.strays().0.iter().cloned());
    zones
}

async fn look(inner: &Inner, zone: &str) -> Result<(), Error> {
    let begun = inner.now();
    let filter = format!("labels.{}={}", stamp::MARK, inner.options.settings.mark);
    let path = format!("zones/{zone}/instances");
    let instances: Vec<Instance> =
        pages(&inner.api, "list", zone, &path, &filter, INSTANCES).await?;
    if instances.is_empty() {
        // It is looked at no more where nobody has configured it.
        inner.strays().0.remove(zone);
    }
    let question = inner.machines().shown(zone, instances, begun);
    let Some(Question { since }) = question else { return Ok(()) };
    let settings = &inner.options.settings;
    let by_itself = settings.deletes_itself_as().map(|own| format!(" OR user=\"{own}\""));
    let filter = format!(
        "(operationType=\"insert\" OR operationType=\"compute.instances.preempted\" OR user=\"system@google.com\"{}) AND insertTime>\"{since}\"",
        by_itself.unwrap_or_default()
    );
    let path = format!("zones/{zone}/operations");
    let operations: Vec<Operation> =
        pages(&inner.api, "list operations", zone, &path, &filter, OPERATIONS).await?;
    inner.machines().operations(zone, &operations, settings);
    Ok(())
}

/// All pages of a list; one that lacks something is none.
pub(super) async fn pages<T: DeserializeOwned>(
    api: &Api,
    verb: &'static str,
    zone: &str,
    path: &str,
    filter: &str,
    fields: &str,
) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..PAGES {
        let mut ask = Ask::get(verb, path.to_owned()).with("fields", fields);
        ask = ask.with("maxResults", MOST);
        if !filter.is_empty() {
            ask = ask.with("filter", filter);
        }
        ask.of = Asked { zone, ..Asked::default() };
        if let Some(token) = next {
            ask = ask.with("pageToken", token);
        }
        let page: Page<T> = api.read(ask).await.map_err(|refusal| refusal.error)?;
        if let Some(warning) = page.warning {
            let words =
                format!("{zone} cannot be listed whole: {} {}", warning.code, warning.message);
            return Err(Error::new(Class::Ambiguous, words));
        }
        all.extend(page.items);
        match page.next_page_token.filter(|token| !token.is_empty()) {
            Some(token) => next = Some(token),
            None => return Ok(all),
        }
    }
    Err(Error::new(Class::Ambiguous, format!("the list of {zone} does not end")))
}

/// What machines said that had no agent and are off, or late: their words go with them.
async fn hear_serial_ports(inner: &Inner) {
    let pulls = matches!(inner.options.settings.delivery, Delivery::Pull { .. });
    let silent = |known: &Known| {
        let due = match known.state {
            State::Shown(Status::Off) => !known.last_words,
            State::Shown(_) => known.serial.is_none() && pulls && inner.is_late(known),
            State::Unanswered
            | State::Asked { .. }
            | State::Missing { .. }
            | State::Refused { .. } => false,
        };
        due && known.connected_at.is_none() && known.told.is_none()
    };
    let names: Vec<String> = {
        let machines = inner.machines();
        let wanted = machines.iter().filter(|(_, known)| silent(known));
        wanted.map(|(name, _)| name.clone()).collect()
    };
    join_all(names.iter().map(|name| hear(inner, name))).await;
}

/// The tail of a machine's serial port, kept with it. That it cannot be read is no reason to stop.
pub(super) async fn hear(inner: &Inner, name: &str) {
    let Some(zone) = inner.machines().get(name).map(|known| known.zone.clone()) else { return };
    let path = format!("zones/{zone}/instances/{name}/serialPort");
    let mut ask =
        Ask::get("read the serial port", path).with("port", "1").with("start", (-TAIL).to_string());
    ask.of = Asked { zone: &zone, ..Asked::default() };
    let said = match inner.api.read::<SerialPort>(ask).await {
        Ok(port) => port.contents,
        Err(refusal) => {
            tracing::debug!(machine = name, error = %refusal.error, "cannot read a serial port");
            String::new()
        }
    };
    if let Some(known) = inner.machines().get_mut(name) {
        known.serial = Some(readable(&said));
        known.last_words = matches!(known.state, State::Shown(Status::Off));
    }
}

/// Without what moves a terminal's cursor.
fn readable(said: &str) -> String {
    let lines = said.lines().map(|line| {
        let line: String = line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
        line.trim_end().to_owned()
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}
