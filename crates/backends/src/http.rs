//! Bring your own machines: a backend that asks a service of the user's, by three JSON calls
//! (`docs/http-backend.md`). It translates and classifies; it never repeats a call by itself.

mod call;
pub mod wire;

use std::sync::Mutex;
use std::time::Duration;

use reqwest::{Client, Url};
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::contract::{Backend, Class, Error, Future, Listing, Machine, Order};
use call::{Call, LONGEST_LISTING, LONGEST_REPLY};
pub(crate) use call::{causes, chain, is_loopback};
use wire::{CreateRequest, ListQuery, ListReply};

/// How long the service may hold a listing when nothing changes.
const LONG_POLL: Duration = Duration::from_secs(25);
/// How long any other call may take, from connect to the last byte.
const CALL: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// Pauses between long polls that failed: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Between long polls that brought nothing new, for a service that answers them at once.
const QUIET_PAUSE: Duration = Duration::from_millis(200);

/// Where the service is and who we are to it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The part before `/machines`, e.g. `http://127.0.0.1:9090` or `https://host/jitney`.
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<SecretString>,
    /// The configuration's `name`: only machines with exactly this mark are ours.
    pub mark: String,
}

#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("`{url}` is not an address of a service: {why}; write it as http://host:port")]
    Url { url: String, why: String },
    #[error("the token cannot be sent in a header: it holds a line break or a control character")]
    Token,
    #[error("no HTTP client could be made: {0}")]
    Client(String),
}

/// Of a listing, what tells whether there is another one: thousands of machines are not made out of
/// it only to be dropped.
#[derive(Deserialize)]
struct Version {
    version: String,
}

/// The backend.
#[derive(Debug)]
pub struct Http {
    client: Client,
    base: Url,
    mark: String,
    /// The version of the last listing, of which `changed` wants to hear the end.
    seen: Mutex<Option<String>>,
}

impl Http {
    /// Checks the options; makes no call.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        let base = base_of(&options.url)?;
        let client = call::client(&base, options.token.as_ref(), CONNECT)?;
        Ok(Self { client, base, mark: options.mark, seen: Mutex::new(None) })
    }

    fn seen(&self) -> Option<String> {
        self.seen.lock().expect("nothing panics while it holds this lock").clone()
    }

    fn saw(&self, version: String) {
        *self.seen.lock().expect("nothing panics while it holds this lock") = Some(version);
    }

    /// The listing, or only as much of it as `T` wants to know.
    async fn fetch<T: DeserializeOwned>(&self, after: Option<String>) -> Result<T, Error> {
        let limit = if after.is_some() { LONG_POLL + CALL } else { CALL };
        let wait = after.is_some().then_some(LONG_POLL.as_secs());
        let query = ListQuery { mark: self.mark.clone(), after, wait };
        let request = self.client.get(self.machines()).query(&query).timeout(limit);
        let call = Call { verb: "list", name: None, limit: LONGEST_LISTING };
        let body = call.send(request).await?;
        call.decode(&body)
    }

    fn machines(&self) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("checked to be a base in `base_of`").push("machines");
        url
    }

    fn machine(&self, name: &str) -> Result<Url, Error> {
        if !is_name(name) {
            let words = format!("`{name}` is not a name for a machine (RFC 1035, 63 characters)");
            return Err(Error::new(Class::Rejected, words));
        }
        let mut url = self.machines();
        url.path_segments_mut().expect("checked to be a base in `base_of`").push(name);
        Ok(url)
    }

    async fn listing(&self) -> Result<Listing, Error> {
        let reply: ListReply = self.fetch(None).await?;
        self.saw(reply.version);
        let all = reply.machines.len();
        let ours = |machine: &Machine| *machine.labels.mark == *self.mark;
        let machines: Vec<_> = reply.machines.into_iter().filter(ours).collect();
        if machines.len() < all {
            tracing::warn!(
                foreign = all - machines.len(),
                mark = %self.mark,
                "the service listed machines that do not bear our mark; they are left alone"
            );
        }
        Ok(Listing { machines, complete: reply.complete })
    }

    /// Long polls until the version is another one than that of our last listing. A service that
    /// is away has not changed, as far as anybody knows; `list` is who reports that.
    async fn another_version(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let seen = self.seen();
            match self.fetch::<Version>(seen.clone()).await {
                Ok(reply) if Some(&reply.version) != seen.as_ref() => return,
                Ok(Version { .. }) => {
                    pause = FIRST_PAUSE;
                    sleep(QUIET_PAUSE).await;
                }
                Err(error) => {
                    tracing::debug!(%error, class = ?error.class, "waiting for a change failed");
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    async fn put(&self, order: &Order) -> Result<(), Error> {
        let body = CreateRequest::from_order(order);
        let request = self.client.put(self.machine(&order.name)?).json(&body).timeout(CALL);
        let call = Call { verb: "create", name: Some(&order.name), limit: LONGEST_REPLY };
        call.send(request).await.map(drop)
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        let request = self.client.delete(self.machine(name)?).timeout(CALL);
        let call = Call { verb: "delete", name: Some(name), limit: LONGEST_REPLY };
        call.send(request).await.map(drop)
    }
}

impl Backend for Http {
    fn list(&self) -> Future<'_, Result<Listing, Error>> {
        Box::pin(self.listing())
    }

    fn changed(&self) -> Future<'_, ()> {
        Box::pin(self.another_version())
    }

    fn list_every(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn create<'a>(&'a self, order: &'a Order) -> Future<'a, Result<(), Error>> {
        Box::pin(self.put(order))
    }

    fn delete<'a>(&'a self, name: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(self.remove(name))
    }
}

fn base_of(url: &str) -> Result<Url, OptionsError> {
    let wrong = |why: &str| OptionsError::Url { url: url.to_owned(), why: why.to_owned() };
    let mut base = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(wrong("it is not http or https"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(wrong("it has a query or a fragment"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(OptionsError::Url {
            url: "(not shown)".to_owned(),
            why: "it holds a user or a password; use `token` for that".to_owned(),
        });
    }
    base.path_segments_mut().map_err(|()| wrong("nothing can be added to it"))?.pop_if_empty();
    Ok(base)
}

/// RFC 1035: a lower-case letter, then letters, digits and dashes, not ending in a dash.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}
