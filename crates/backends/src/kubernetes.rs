//! Machines are pods: one `batch/v1` Job for each, made from the operator's template and watched.
//! The Job controller starts its pod once and never again, and ends it at its deadline by itself.
//!
//! Nothing that matters is only in memory: Jobs and pods bear what they are, tokens are in Secrets
//! that the Jobs own, and after a restart a listing shows all of it.

mod access;
mod cache;
mod call;
mod job;
mod make;
pub mod nodes;
mod origin;
mod pace;
mod pod;
mod probe;
pub mod read;
mod remove;
pub mod seen;
mod settings;
mod stamp;
mod sweep;
mod template;
mod texts;
mod tokens;
mod watch;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

pub use access::{Access, AccessError, Cluster};
pub(crate) use call::{chain, class_of, pause};
pub use job::job;
pub use probe::{OLDEST_MINOR, Probe, RIGHTS, Right, is_image};
pub(crate) use probe::{right, version_of};
pub(crate) use settings::image_named;
pub use settings::{Disk, Nodes, Settings, TemplateFrom};
pub(crate) use template::copied;
pub use template::{JOB_CONTAINER, Template, TemplateError};

use crate::contract::{Backend, Error, Future, Listing, Order};
use cache::Cache;
use call::Api;
use origin::Origin;
use pace::Pace;
use seen::{Job, Pod};
use sweep::sweep;
use tokens::Tokens;
use watch::{Marked, Said, follow};

/// How often to look although the watches tell of every change: some things are true only after
/// some time.
const LOOK: Duration = Duration::from_secs(5);
/// How many Jobs are being made, and how many deleted, at a time. The API server has no more to do
/// at once than this. Each call that is under way has a connection of its own, and so many stay.
const AT_ONCE: usize = 32;

#[derive(Clone, Debug)]
pub struct Options {
    pub settings: Settings,
    /// How long a failed Job and its pod stay, for a look.
    pub keep_failed: Duration,
    /// The time between two writes; none: as fast as the API server lets us. Deletes have as many.
    pub between_writes: Option<Duration>,
    pub now: fn() -> Timestamp,
}

/// The backend.
#[derive(Debug)]
pub struct Kubernetes {
    options: Options,
    api: Api,
    cache: Arc<Cache>,
    tokens: Tokens,
    origin: Origin,
    creates: Pace,
    deletes: Pace,
    creating: Semaphore,
    deleting: Semaphore,
    /// Begun with the first question. They end with us.
    watches: Mutex<JoinSet<()>>,
}

impl Kubernetes {
    /// Makes no call.
    #[must_use]
    pub fn new(cluster: &Cluster, options: Options) -> Self {
        let api = Api::new(cluster.client.clone(), options.settings.namespace.clone());
        let mark = &options.settings.mark;
        Self {
            cache: Arc::new(Cache::new(mark)),
            tokens: Tokens::new(api.clone(), mark),
            origin: Origin::new(options.settings.template.clone()),
            creates: Pace::new(options.between_writes),
            deletes: Pace::new(options.between_writes),
            creating: Semaphore::new(AT_ONCE),
            deleting: Semaphore::new(AT_ONCE),
            watches: Mutex::default(),
            api,
            options,
        }
    }

    /// What `doctor` wants to know of the cluster. Changes nothing.
    pub async fn probe(&self) -> Probe {
        probe::probe(self).await
    }

    async fn watch(&self) {
        let mut watches = self.watches.lock().await;
        if !watches.is_empty() {
            return;
        }
        let (api, cache) = (&self.api, &self.cache);
        let mark = &self.options.settings.mark;
        watches.spawn(follow(api.clone(), Marked::<Job>::new(Arc::clone(cache), mark)));
        watches.spawn(follow(api.clone(), Marked::<Pod>::new(Arc::clone(cache), mark)));
        for (kind, reason) in [("Job", "FailedCreate"), ("Pod", "FailedMount")] {
            watches.spawn(follow(api.clone(), Said::new(Arc::clone(cache), kind, reason)));
        }
        watches.spawn(sweep(api.clone(), Arc::clone(cache), mark.clone()));
    }

    /// What the watches have shown, as soon as they have shown everything.
    async fn listing(&self) -> Result<Listing, Error> {
        self.watch().await;
        let mut changes = self.cache.changes();
        loop {
            if let Some(listing) = self.cache.listing((self.options.now)()) {
                return listing;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl Backend for Kubernetes {
    fn list(&self) -> Future<'_, Result<Listing, Error>> {
        Box::pin(self.listing())
    }

    fn changed(&self) -> Future<'_, ()> {
        // From now on, not from when somebody first waits.
        let mut changes = self.cache.changes();
        Box::pin(async move {
            self.watch().await;
            if changes.changed().await.is_err() {
                std::future::pending().await
            }
        })
    }

    fn list_every(&self) -> Duration {
        LOOK
    }

    fn create<'a>(&'a self, order: &'a Order) -> Future<'a, Result<(), Error>> {
        Box::pin(make::machine(self, order))
    }

    fn delete<'a>(&'a self, name: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(remove::machine(self, name))
    }
}
