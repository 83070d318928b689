//! Making one machine. That Google has taken the request is no machine yet: what becomes of it is
//! seen in the lists, like everything else.

use reqwest::Method;

use super::Inner;
use super::call::Ask;
use super::instance::instance;
use super::known::{Known, State};
use super::pace::Write;
use super::refusal::{self, Asked, Kind, Refusal};
use super::stamp::Stamp;
use super::wire::{Instance, Operation};
use crate::contract::{Class, Error, Order};

pub(super) async fn machine(inner: &Inner, order: &Order) -> Result<(), Error> {
    Inner::check_name(&order.name)?;
    let body = instance(&inner.options.settings, order)?;
    elsewhere(inner, order)?;
    inner.machines().ask(&order.name, asked_for(inner, order));
    let of = Asked {
        zone: &order.place,
        machine_type: &order.machine_type,
        spot: order.spot,
        ..Asked::default()
    };
    let path = format!("zones/{}/instances", order.place);
    let ask = Ask {
        method: Method::POST,
        body: Some(&body),
        of,
        write: Some(Write::Insert),
        ..Ask::get("insert", path).with("requestId", order.request_id.to_string())
    };
    let failed = match inner.api.read::<Operation>(ask).await {
        Ok(operation) => {
            let asked = Asked { project: &inner.options.settings.project, ..of };
            match refusal::of_operation(operation.error.as_ref(), asked) {
                None => {
                    inner.machines().answered(&order.name, &operation);
                    inner.changed();
                    return Ok(());
                }
                Some(refusal) => refusal,
            }
        }
        Err(refusal) if refusal.kind == Kind::Exists => return adopt(inner, order).await,
        Err(refusal) => refusal,
    };
    Err(give_up(inner, order, failed))
}

/// Never a second place while it is not known what became of the first: of one name there is one
/// machine, wherever it is.
fn elsewhere(inner: &Inner, order: &Order) -> Result<(), Error> {
    let machines = inner.machines();
    match machines.get(&order.name) {
        Some(known) if known.zone != order.place => {
            let words = format!("{} is in {}, and has to go first", order.name, known.zone);
            Err(Error::new(Class::Ambiguous, words))
        }
        Some(_) | None => Ok(()),
    }
}

fn asked_for(inner: &Inner, order: &Order) -> Known {
    Known {
        machine_type: order.machine_type.clone(),
        spot: order.spot,
        token: Some(order.token.clone()),
        ..Known::new(&order.place, Stamp::of(order), State::Unanswered, inner.now())
    }
}

/// What was refused for good is known no more; of what is in doubt the lists will tell.
fn give_up(inner: &Inner, order: &Order, refusal: Refusal) -> Error {
    let mut error = refusal.error;
    error.fields.insert("machine".to_owned(), order.name.clone());
    error.fields.entry("zone".to_owned()).or_insert_with(|| order.place.clone());
    let mut machines = inner.machines();
    let unanswered = |known: &Known| matches!(known.state, State::Unanswered);
    if error.class != Class::Ambiguous && machines.get(&order.name).is_some_and(unanswered) {
        machines.forget(&order.name);
    }
    error
}

/// The name is taken: by what an earlier request of ours has made, or by somebody else.
async fn adopt(inner: &Inner, order: &Order) -> Result<(), Error> {
    let path = format!("zones/{}/instances/{}", order.place, order.name);
    let mut ask =
        Ask::get("get", path).with("fields", "id,name,status,description,creationTimestamp,labels");
    ask.of = Asked { zone: &order.place, ..Asked::default() };
    let found: Instance = inner.api.read(ask).await.map_err(|refusal| {
        let mut error = refusal.error;
        // It was there a moment ago; whose it is nobody knows.
        error.class = Class::Ambiguous;
        error
    })?;
    let same = Stamp::read(&found.description).is_ok_and(|stamp| {
        let (theirs, ours) = (&stamp.labels, &order.labels);
        (&theirs.mark, theirs.job, theirs.attempt) == (&ours.mark, ours.job, ours.attempt)
    });
    if !same {
        inner.machines().forget(&order.name);
        let words = format!("there is another machine named {} in {}", order.name, order.place);
        return Err(Error::new(Class::Rejected, words));
    }
    if let Some(known) = inner.machines().get_mut(&order.name) {
        known.id = Some(found.id);
        known.created_at = found.creation_timestamp;
        known.state = State::Shown(found.status);
    }
    inner.changed();
    Ok(())
}
