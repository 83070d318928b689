//! Looks over all zones of the project, now and then: for machines of ours where nobody looks any
//! more, and for disks that a machine has left behind.

use std::time::Duration;

use super::call::Ask;
use super::refusal::Kind;
use super::wire::{Everywhere, Scope, zone_of};
use super::{Inner, keep, stamp};
use crate::contract::{Class, Error};

/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(15);
/// The most pages that are read of one list.
const PAGES: usize = 200;

/// Sweeps where it is time to. False as long as no sweep of this process has come to its end.
pub(super) async fn when_due(inner: &Inner) -> bool {
    let now = inner.now();
    let (due, before) = {
        let strays = inner.strays();
        (strays.1.is_none_or(|due| due <= now), strays.1.is_some())
    };
    if !due {
        return before;
    }
    match once(inner).await {
        Ok(()) => {
            let next = now.checked_add(keep::pause(inner));
            inner.strays().1 = Some(next.unwrap_or(now));
            true
        }
        Err(error) => {
            tracing::warn!(%error, "failed to look over all zones");
            if before {
                inner.strays().1 = Some(now.checked_add(AGAIN).unwrap_or(now));
            }
            before
        }
    }
}

async fn once(inner: &Inner) -> Result<(), Error> {
    let filter = format!("labels.{}={}", stamp::MARK, inner.options.settings.mark);
    let machines = everywhere(inner, "instances", &filter).await?;
    let disks = everywhere(inner, "disks", &filter).await?;
    if !inner.options.keep_failed.is_zero() {
        keep::let_go(inner).await?;
    }
    {
        let mut strays = inner.strays();
        for (zone, scope) in &machines {
            if !scope.instances.is_empty() {
                strays.0.insert(zone.clone());
            }
        }
    }
    let now = inner.now();
    for (zone, scope) in &disks {
        for disk in &scope.disks {
            let age = now.duration_since(disk.creation_timestamp);
            let old = Duration::try_from(age).is_ok_and(|age| age >= inner.options.pauses.disk_age);
            let anybodys = machines.iter().any(|(_, scope)| {
                scope.instances.iter().any(|instance| instance.name == disk.name)
            });
            if disk.users.is_empty() && old && !anybodys && !inner.machines().contains(&disk.name) {
                remove(inner, zone, &disk.name).await;
            }
        }
    }
    Ok(())
}

async fn remove(inner: &Inner, zone: &str, name: &str) {
    let ask = Ask::delete("delete a disk", zone, &format!("disks/{name}"));
    match inner.api.send(ask).await {
        Ok(_) => tracing::info!(disk = name, zone, "deleted a disk that a machine had left behind"),
        Err(refusal) if refusal.kind == Kind::Gone => {}
        Err(refusal) => {
            tracing::warn!(disk = name, zone, error = %refusal.error, "failed to delete a disk that a machine had left behind");
        }
    }
}

/// What all zones have. One that cannot be reached makes it none: it is asked again.
pub(super) async fn everywhere(
    inner: &Inner,
    what: &'static str,
    filter: &str,
) -> Result<Vec<(String, Scope)>, Error> {
    let mut all = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..PAGES {
        let mut ask = Ask::get("list all zones", format!("aggregated/{what}"))
            .with("filter", filter)
            .with("maxResults", "500");
        if let Some(token) = next {
            ask = ask.with("pageToken", token);
        }
        let page: Everywhere = inner.api.read(ask).await.map_err(|refusal| refusal.error)?;
        let unreached = |scope: &Scope| {
            let code = scope.warning.as_ref().map_or("", |warning| warning.code.as_str());
            matches!(code, "UNREACHABLE" | "PARTIAL_SUCCESS")
        };
        let lost: Vec<&str> = page
            .unreachables
            .iter()
            .map(String::as_str)
            .chain(page.items.iter().filter(|(_, it)| unreached(it)).map(|(key, _)| key.as_str()))
            .collect();
        if !lost.is_empty() {
            let words = format!("these cannot be reached: {}", lost.join(", "));
            return Err(Error::new(Class::Ambiguous, words));
        }
        all.extend(page.items.into_iter().filter_map(|(key, scope)| {
            let empty = scope.instances.is_empty() && scope.disks.is_empty();
            zone_of(&key).filter(|_| !empty).map(|zone| (zone.to_owned(), scope))
        }));
        match page.next_page_token.filter(|token| !token.is_empty()) {
            Some(token) => next = Some(token),
            None => return Ok(all),
        }
    }
    Err(Error::new(Class::Ambiguous, "the list of all zones does not end"))
}
