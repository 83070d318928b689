//! Removing one machine, and with it its disks. That it is being removed already is success; that
//! nobody knows whether it is still being made is none.

use std::time::Duration;

use super::call::Ask;
use super::known::{Known, State};
use super::refusal::Kind;
use super::wire::Status;
use super::{Inner, keep, list, stamp, sweep};
use crate::contract::{Class, Error};

/// After so long nothing comes of an insert any more whose operation does not end.
const LONGEST_INSERT: Duration = Duration::from_secs(600);

pub(super) async fn machine(inner: &Inner, name: &str) -> Result<(), Error> {
    Inner::check_name(name)?;
    let known = inner.machines().get(name).cloned();
    let zone = match &known {
        Some(known) => known.zone.clone(),
        None => match find(inner, name).await? {
            Some(zone) => zone,
            None => return Ok(()),
        },
    };
    if known.as_ref().is_some_and(|known| has_failed(inner, known)) {
        list::hear(inner, name).await;
        tell(inner, name);
        if !inner.options.keep_failed.is_zero() && keep::keep(inner, &zone, name).await? {
            inner.machines().forget(name);
            inner.changed();
            return Ok(());
        }
    }
    let ask = Ask::delete("delete", &zone, &format!("instances/{name}"));
    // No id of the request: one that has failed later would be answered with its failure for ever.
    match inner.api.send(ask).await.map_err(|refusal| (refusal.kind, refusal.error)) {
        Ok(_) | Err((Kind::Busy, _)) => {
            if let Some(known) = inner.machines().get_mut(name) {
                known.deleted_at = Some(inner.now());
            }
            inner.changed();
            Ok(())
        }
        Err((Kind::Gone, error)) => gone(inner, name, error),
        Err((Kind::Exists | Kind::Token | Kind::Rate | Kind::Forbidden | Kind::Other, error)) => {
            Err(error)
        }
    }
}

/// No agent of it ever connected, though it had the time: its last words are worth reading.
fn has_failed(inner: &Inner, known: &Known) -> bool {
    let up = match known.state {
        State::Shown(Status::Off) => true,
        State::Shown(Status::Running) => inner.is_late(known),
        State::Unanswered
        | State::Asked { .. }
        | State::Shown(_)
        | State::Missing { .. }
        | State::Refused { .. } => false,
    };
    up && known.connected_at.is_none() && known.told.is_none()
}

fn tell(inner: &Inner, name: &str) {
    let machines = inner.machines();
    let said = machines.get(name).and_then(|known| known.serial.as_deref()).unwrap_or_default();
    if !said.is_empty() {
        tracing::warn!(
            machine = name,
            serial_port = said,
            "a machine goes whose agent never connected"
        );
    }
}

/// It is not there. A request that Google has taken may still make it.
fn gone(inner: &Inner, name: &str, error: Error) -> Result<(), Error> {
    let mut machines = inner.machines();
    let now = inner.now();
    let being_made = |known: &Known| {
        matches!(known.state, State::Asked { settled: None })
            && now < known.created_at + LONGEST_INSERT
    };
    if machines.get(name).is_some_and(being_made) {
        let words = format!("{name} is not there yet: {}", error.words);
        return Err(Error::new(Class::Ambiguous, words));
    }
    machines.forget(name);
    drop(machines);
    inner.changed();
    Ok(())
}

/// In which zone a machine of ours is that this process has not seen.
async fn find(inner: &Inner, name: &str) -> Result<Option<String>, Error> {
    let filter = format!("name={name}");
    let found = sweep::everywhere(inner, "instances", &filter).await?;
    for (zone, scope) in found {
        let Some(instance) = scope.instances.iter().find(|instance| instance.name == name) else {
            continue;
        };
        if instance.labels.get(stamp::MARK) == Some(&inner.options.settings.mark) {
            return Ok(Some(zone));
        }
        let words = format!("{name} in {zone} is not of this installation; it is left alone");
        return Err(Error::new(Class::Rejected, words));
    }
    Ok(None)
}
