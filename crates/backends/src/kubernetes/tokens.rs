//! The machines' tokens: one Secret for all machines that are ordered at about the same time, owned
//! by their Jobs, so that it goes with the last of them even when nobody is left to delete it. It
//! is written when its Jobs are there, and they can name it before, because a pod reads it last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::call::{Api, Kind, Refused, STRATEGIC_PATCH, written};
use super::stamp;
use crate::contract::{Class, Error};

/// How long a Secret waits for the last of its Jobs; those that come later are added.
const PATIENCE: Duration = Duration::from_secs(1);
/// Kubernetes allows 1 MiB, and an object in the store not much more.
const MOST_BYTES: usize = 700 << 10;
/// What a machine takes beside its token: names, and an owner.
const BESIDE_TOKEN: usize = 512;
/// Of those that come later so many are added by one write.
const MOST_LATE: usize = 128;
/// How often somebody else may be at the same Secret.
const TRIES: u32 = 4;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A token that is to stand in a Secret, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) machine: String,
    /// Of its Job.
    pub(super) uid: Uuid,
    pub(super) token: SecretString,
}

struct Arrived {
    kept: Kept,
    written: oneshot::Sender<Result<(), Error>>,
}

/// A place in a Secret that is not written yet.
pub(super) struct Seat {
    /// The Secret's name.
    pub(super) secret: String,
    to: mpsc::UnboundedSender<Arrived>,
}

struct Open {
    secret: String,
    to: mpsc::UnboundedSender<Arrived>,
    bytes: usize,
}

/// Hands out places in Secrets.
pub(super) struct Tokens {
    api: Api,
    mark: String,
    open: Arc<Mutex<Option<Open>>>,
    rounds: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("mark", &self.mark).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(api: Api, mark: &str) -> Self {
        Self { api, mark: mark.to_owned(), open: Arc::default(), rounds: Mutex::default() }
    }

    /// A place for one more token of this dispatch.
    pub(super) fn seat(&self, dispatch: &str, token: &SecretString) -> Seat {
        let bytes = token.expose_secret().len() * 4 / 3 + BESIDE_TOKEN;
        let mut open = self.open.lock().expect("nothing panics while it holds this lock");
        let full = open.as_ref().is_none_or(|open| open.bytes + bytes > MOST_BYTES);
        if full {
            *open = Some(self.begin(dispatch));
        }
        let open = open.as_mut().expect("it was begun just now where there was none");
        open.bytes += bytes;
        Seat { secret: open.secret.clone(), to: open.to.clone() }
    }

    fn begin(&self, dispatch: &str) -> Open {
        let secret = name_of(&self.mark, dispatch);
        let (to, arrivals) = mpsc::unbounded_channel();
        let round = Round {
            api: self.api.clone(),
            mark: self.mark.clone(),
            secret: secret.clone(),
            open: Arc::clone(&self.open),
            written: false,
        };
        let mut rounds = self.rounds.lock().expect("nothing panics while it holds this lock");
        // Those that are over are let go of.
        while rounds.try_join_next().is_some() {}
        rounds.spawn(round.run(arrivals));
        Open { secret, to, bytes: 0 }
    }

    /// Puts a token where a Job that is there already looks for it: the same again, or one that was
    /// minted anew.
    pub(super) async fn put(&self, secret: &str, kept: Kept) -> Result<(), Error> {
        write(&self.api, &self.mark, secret, &[kept], false).await
    }
}

impl Seat {
    /// Resolves when the token stands in the Secret.
    pub(super) async fn keep(self, kept: Kept) -> Result<(), Error> {
        let (written, wait) = oneshot::channel();
        let lost = || Error::new(Class::Ambiguous, "the token's Secret was not written");
        self.to.send(Arrived { kept, written }).map_err(|_| lost())?;
        // Nobody may come any more, as far as we are concerned.
        drop(self.to);
        wait.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// `jitney-d15ba7c4d15b-7`: another for each, also for two processes.
fn name_of(mark: &str, dispatch: &str) -> String {
    let plain: String =
        dispatch.chars().filter(char::is_ascii_alphanumeric).take(20).collect::<String>();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{mark}-{}-{number}", if plain.is_empty() { "none" } else { &plain }).to_lowercase()
}

/// One Secret, until the last of its machines has come or has failed.
struct Round {
    api: Api,
    mark: String,
    secret: String,
    open: Arc<Mutex<Option<Open>>>,
    written: bool,
}

impl Round {
    async fn run(mut self, mut arrivals: mpsc::UnboundedReceiver<Arrived>) {
        // For as long as the first Job is being made others may join: nobody waits for that.
        let first = arrivals.recv().await;
        self.close();
        let until = Instant::now() + PATIENCE;
        let mut batch: Vec<Arrived> = first.into_iter().collect();
        // Ends early when all that have a place have come, or have gone without.
        while let Ok(Some(arrived)) = timeout_at(until, arrivals.recv()).await {
            batch.push(arrived);
        }
        self.write(batch).await;
        // The API server is slow: what comes while it is at one write is in the next.
        let mut late = Vec::new();
        while arrivals.recv_many(&mut late, MOST_LATE).await > 0 {
            self.write(std::mem::take(&mut late)).await;
        }
    }

    /// Nobody gets a place any more.
    fn close(&self) {
        let mut open = self.open.lock().expect("nothing panics while it holds this lock");
        if open.as_ref().is_some_and(|open| open.secret == self.secret) {
            *open = None;
        }
    }

    async fn write(&mut self, batch: Vec<Arrived>) {
        if batch.is_empty() {
            return;
        }
        let kept: Vec<Kept> = batch.iter().map(|arrived| arrived.kept.clone()).collect();
        let outcome = write(&self.api, &self.mark, &self.secret, &kept, !self.written).await;
        self.written |= outcome.is_ok();
        for arrived in batch {
            // Whoever ordered it may have given up.
            drop(arrived.written.send(outcome.clone()));
        }
    }
}

/// Makes the Secret, or adds to it.
async fn write(api: &Api, mark: &str, secret: &str, kept: &[Kept], new: bool) -> Result<(), Error> {
    let object = object(mark, secret, kept);
    let mut make = new;
    let mut last = None;
    for _ in 0..TRIES {
        let done = if make {
            api.create(Kind::Secrets, written(&object)).await
        } else {
            api.patch(Kind::Secrets, secret, &object, STRATEGIC_PATCH).await
        };
        let Err(refused) = done else { return Ok(()) };
        match next(make, &refused) {
            Some(other) => make = other,
            None => return Err(refused.error),
        }
        last = Some(refused.error);
    }
    Err(last.expect("it was refused in each of the tries"))
}

/// Whether to make it or to add to it in the next try; `None` where another would be no better.
fn next(made: bool, refused: &Refused) -> Option<bool> {
    if made && refused.is_already_there() {
        return Some(false);
    }
    (!made && refused.is(StatusCode::NOT_FOUND)).then_some(true)
}

fn object(mark: &str, secret: &str, kept: &[Kept]) -> Value {
    let data: Map<String, Value> = kept
        .iter()
        .map(|one| {
            let encoded = STANDARD.encode(one.token.expose_secret());
            (one.machine.clone(), Value::String(encoded))
        })
        .collect();
    let owners: BTreeMap<Uuid, &str> =
        kept.iter().map(|one| (one.uid, one.machine.as_str())).collect();
    let owners: Vec<Value> = owners
        .into_iter()
        .map(|(uid, name)| json!({ "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid }))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": secret, "labels": { stamp::MARK: mark }, "ownerReferences": owners },
        "type": "Opaque",
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_belongs_to_its_jobs_and_has_a_key_for_each() {
        let kept = [("a", 1), ("b", 2)].map(|(name, uid)| Kept {
            machine: name.to_owned(),
            uid: Uuid::from_u128(uid),
            token: SecretString::from(format!("token-{name}")),
        });
        assert!(!format!("{kept:?}").contains("token-a"), "a token is never shown");
        let object = object("m", "s", &kept);
        assert_eq!(object.pointer("/data/a"), Some(&json!("dG9rZW4tYQ==")));
        let owners = object.pointer("/metadata/ownerReferences").expect("owners");
        assert_eq!(owners.as_array().map(Vec::len), Some(2));
        assert_eq!(owners.pointer("/1/uid"), Some(&json!(Uuid::from_u128(2))));
    }

    #[test]
    fn names_of_secrets_are_names_and_never_the_same() {
        for dispatch in ["d15ba7c4d15ba7c4d15ba7c4d15ba7c4", "", "Ümläut/../x"] {
            let (one, other) = (name_of("jitney", dispatch), name_of("jitney", dispatch));
            assert!(crate::http::is_name(&one), "{one}");
            assert_ne!(one, other);
        }
    }
}
