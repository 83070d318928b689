//! The way to one backend: creates and deletes each have a lane of their own, so that neither waits
//! for the other. So many calls of a lane are under way at once; the rest wait in it, as small as
//! they can be. It makes no choices: the order is that in which calls were asked for.

use std::sync::Arc;

use backends::Backend;
use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use planner::BackendName;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::machine_calls::{Maker, Ordered, Removal, Remover};
use super::{Stamp, Teller};
use crate::input::{Input, Outcome, Sender};

/// How many creates, and how many deletes, are under way at one backend.
const LANE: usize = 128;

#[derive(Debug)]
pub(super) struct Lanes {
    /// What can be in flight bounds what can wait here.
    pub creates: mpsc::UnboundedSender<Ordered>,
    pub deletes: mpsc::UnboundedSender<Removal>,
    /// Tells the listing that something of ours has changed.
    pub poke: Arc<Notify>,
}

impl Lanes {
    pub(super) fn open(
        name: &BackendName,
        backend: Arc<dyn Backend>,
        stamp: &Stamp,
        inbox: &Sender,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (creates, ordered) = mpsc::unbounded_channel();
        let (deletes, removals) = mpsc::unbounded_channel();
        let maker = Maker { backend: Arc::clone(&backend), stamp: stamp.clone() };
        let remover = Remover { backend, name: name.clone() };
        tasks.spawn(work(ordered, inbox.clone(), async move |ordered| maker.create(ordered).await));
        let remove = async move |removal| remover.delete(removal).await;
        tasks.spawn(work(removals, inbox.clone(), remove));
        Self { creates, deletes, poke: Arc::new(Notify::new()) }
    }
}

/// Each call in its turn, each outcome to the loop, until nobody can ask for more.
async fn work<T>(
    mut waiting: mpsc::UnboundedReceiver<T>,
    inbox: Sender,
    call: impl AsyncFn(T) -> Outcome,
) {
    let calls = poll_fn(move |context| waiting.poll_recv(context));
    let each = async |asked| {
        let teller = Teller(inbox.clone());
        let outcome = call(asked).await;
        teller.tell(Input::Ended(outcome));
    };
    calls.for_each_concurrent(LANE, each).await;
}
