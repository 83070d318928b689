//! Machines are virtual ones of Google Compute Engine: one `instances.insert` for each, exactly as
//! its offer says, watched by lists of whole zones and never one by one.
//!
//! Nothing that matters is only in memory: machines bear what they are in their labels and
//! descriptions, and after a restart the lists show all of it. A machine that pulls its token comes
//! in by the `door`.

mod access;
mod call;
mod door;
mod instance;
mod keep;
mod known;
mod list;
mod make;
mod pace;
mod probe;
mod refusal;
mod remove;
mod settings;
mod stamp;
mod sweep;
mod wire;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;

pub use access::Access;
pub use door::{Answer, Door, Reply};
pub use probe::{Probe, Quota, Right, Subject};
pub use settings::{Delivery, SelfDelete, Settings};

use crate::contract::{Backend, Error, Future, Listing, Order};
use call::Api;
use known::{Known, Machines};

#[derive(Clone, Debug)]
pub struct Options {
    pub settings: Settings,
    /// `https://compute.googleapis.com`
    pub endpoint: String,
    pub access: Access,
    /// Inserts and deletes for each region and minute.
    pub writes_per_minute: u32,
    /// Where the keys are that Google signs identity tokens with.
    pub keys_url: String,
    /// Who says what we may do with a project and with a service account; asked by a probe alone.
    pub resource_manager: String,
    pub iam: String,
    /// How long a machine whose agent never connected stays, for a look.
    pub keep_failed: Duration,
    pub pauses: Pauses,
    pub now: fn() -> Timestamp,
}

/// How often to look at what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// At the zones, while machines come and go, and while all of them work.
    pub moving: Duration,
    pub steady: Duration,
    /// At all zones of the project, for machines and disks that nobody knows of.
    pub sweep: Duration,
    /// How old a disk without a machine is before it is taken for left behind.
    pub disk_age: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            moving: Duration::from_secs(2),
            steady: Duration::from_secs(4),
            sweep: Duration::from_secs(3_600),
            disk_age: Duration::from_secs(600),
        }
    }
}

/// The backend.
#[derive(Debug)]
pub struct Gce {
    inner: Arc<Inner>,
    door: Arc<Door>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    api: Api,
    machines: Mutex<Machines>,
    /// Zones beside the configured ones in which there is something of ours, and when all zones
    /// are to be looked at again.
    strays: Mutex<(BTreeSet<String>, Option<Timestamp>)>,
    /// Counts what guests have said and we have done.
    changes: watch::Sender<u64>,
}

impl Gce {
    /// Makes no call.
    ///
    /// # Errors
    /// Where no client can be made for the endpoint.
    pub fn new(options: Options) -> Result<Self, Error> {
        let api = Api::new(&options, access::COMPUTE)?;
        let inner = Arc::new(Inner {
            api,
            machines: Mutex::default(),
            strays: Mutex::default(),
            changes: watch::Sender::new(0),
            options,
        });
        let door = Arc::new(Door::new(Arc::clone(&inner)));
        Ok(Self { inner, door })
    }

    /// What it is like here before the first job. It changes nothing, here and at Google.
    pub async fn probe(&self) -> Probe {
        probe::probe(&self.inner).await
    }

    /// Where guests of this backend come in.
    #[must_use]
    pub fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door)
    }
}

impl Inner {
    fn machines(&self) -> MutexGuard<'_, Machines> {
        self.machines.lock().expect("nothing panics while it holds this lock")
    }

    fn strays(&self) -> MutexGuard<'_, (BTreeSet<String>, Option<Timestamp>)> {
        self.strays.lock().expect("nothing panics while it holds this lock")
    }

    fn now(&self) -> Timestamp {
        (self.options.now)()
    }

    /// Whether nobody waits much longer for its agent.
    fn is_late(&self, known: &Known) -> bool {
        self.now() > known.created_at + self.options.settings.connect_within * 4 / 5
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn pause(&self) -> Duration {
        let Pauses { moving, steady, .. } = self.options.pauses;
        if self.machines().moves() { moving } else { steady }
    }

    fn check_name(name: &str) -> Result<(), Error> {
        if crate::http::is_name(name) {
            return Ok(());
        }
        let words = format!("`{name}` is not a name for a machine (RFC 1035, 63 characters)");
        Err(Error::new(crate::contract::Class::Rejected, words))
    }
}

impl Backend for Gce {
    fn list(&self) -> Future<'_, Result<Listing, Error>> {
        Box::pin(list::machines(&self.inner))
    }

    fn changed(&self) -> Future<'_, ()> {
        // From now on, not from when somebody first waits.
        let mut changes = self.inner.changes.subscribe();
        Box::pin(async move {
            if self.inner.machines().is_empty() {
                // Nothing is there that could change by itself.
                if changes.changed().await.is_err() {
                    std::future::pending().await
                }
                return;
            }
            // Google tells nothing by itself: to look again is to hear of it.
            drop(timeout(self.inner.pause(), changes.changed()).await);
        })
    }

    fn list_every(&self) -> Duration {
        self.inner.pause()
    }

    fn create<'a>(&'a self, order: &'a Order) -> Future<'a, Result<(), Error>> {
        Box::pin(make::machine(&self.inner, order))
    }

    fn delete<'a>(&'a self, name: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(remove::machine(&self.inner, name))
    }
}
