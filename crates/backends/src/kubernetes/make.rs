//! Making one machine: its Job, then its token where the pod will look for it. A repeat finds what
//! there is and adds what is missing.

use serde_json::json;

use super::call::{Kind, decode, object, written};
use super::seen::{Job, Pod};
use super::tokens::Kept;
use super::{Kubernetes, job};
use crate::contract::{Class, Error, Order};

pub(super) async fn machine(backend: &Kubernetes, order: &Order) -> Result<(), Error> {
    check_name(&order.name)?;
    let settings = &backend.options.settings;
    if *order.labels.mark != *settings.mark {
        let words = format!("`{}` is not our mark, `{}`", order.labels.mark, settings.mark);
        return Err(Error::new(Class::Rejected, words));
    }
    let template = backend.origin.template(&backend.api).await?;
    let connection = backend.creating.acquire().await.expect("nobody closes it");
    backend.creates.turn().await;
    let seat = backend.tokens.seat(&order.labels.dispatch_id, &order.token);
    let wanted = written(&job::job(order, settings, &template, &seat.secret)?);
    let made = backend.api.create(Kind::Jobs, wanted).await;
    drop(connection);
    let made = match made {
        Ok(body) => object::<Job>(&body)?,
        Err(refused) if refused.is_already_there() => {
            drop(seat);
            return again(backend, order).await;
        }
        Err(refused) => {
            backend.creates.heard(&refused.error);
            return Err(refused.error);
        }
    };
    let kept = kept(order, &made);
    backend.cache.made(made);
    match seat.keep(kept).await {
        Ok(()) => Ok(()),
        Err(error) => undo(backend, order, error).await,
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Error> {
    if crate::http::is_name(name) {
        return Ok(());
    }
    let words = format!("`{name}` is not a name for a machine (RFC 1035, 63 characters)");
    Err(Error::new(Class::Rejected, words))
}

fn kept(order: &Order, job: &Job) -> Kept {
    Kept { machine: order.name.clone(), uid: job.metadata.uid, token: order.token.clone() }
}

/// There is a Job of this name. If it is this machine, its token is put where it looks for it: the
/// last try may have ended in between, or the token is another one.
async fn again(backend: &Kubernetes, order: &Order) -> Result<(), Error> {
    let body = backend.api.get(Kind::Jobs, &order.name).await.map_err(|refused| {
        // It was there a moment ago: nobody knows what it was.
        let mut error = refused.error;
        error.class = Class::Ambiguous;
        error
    })?;
    let known: Job = decode(&body)?;
    let same = known.metadata.labels.as_ref().is_ok_and(|labels| {
        *labels.mark == *order.labels.mark
            && labels.job == order.labels.job
            && labels.attempt == order.labels.attempt
    });
    if !same {
        let words = format!("there is a Job `{}` that is not ours", order.name);
        return Err(Error::new(Class::Rejected, words));
    }
    let (_, pods) = backend.cache.machine(&order.name);
    let (over, started) = (known.finish().is_some(), pods.iter().any(Pod::is_past_start));
    let secret = known.metadata.secret.clone();
    let kept = kept(order, &known);
    backend.cache.made(known);
    match secret {
        Some(secret) if !over && !started => backend.tokens.put(&secret, kept).await,
        Some(_) | None => Ok(()),
    }
}

/// Without its token the machine is none. Where that is for good, so is the Job's end.
async fn undo(backend: &Kubernetes, order: &Order, error: Error) -> Result<(), Error> {
    match error.class {
        Class::Ambiguous | Class::Rate => return Err(error),
        Class::Capacity | Class::Quota | Class::Rejected | Class::Denied => {}
    }
    let options = json!({ "propagationPolicy": "Background" });
    match backend.api.delete(Kind::Jobs, &order.name, &options).await {
        Ok(_) => Err(error),
        Err(refused) => {
            let words =
                format!("{}; and its Job could not be deleted: {}", error.words, refused.error);
            Err(Error::new(Class::Ambiguous, words))
        }
    }
}
