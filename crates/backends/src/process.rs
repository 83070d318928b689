//! Machines are processes on this host: one guest (`jitney guest DIR`) around one agent each, in
//! a directory of its own. They live on when Jitney dies and are found again by their directories.
//! How much fits on the host is the planner's to know.

mod agents;
mod changes;
mod make;
mod probe;
mod ready;
mod remove;
mod scan;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use guest::place::{Place, make_dir};
use guest::report::Isolate;
use jiff::Timestamp;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub use agents::{OLDEST, Version};
pub use probe::{Probe, Room, find_agent};

use crate::contract::{Backend, Class, Error, Future, Labels, Listing, Order};
use agents::Agents;
use changes::Changes;

/// How often to look where the kernel tells of every change.
const LOOK: Duration = Duration::from_secs(5);
/// How often to look where it does not.
const LOOK_OFTEN: Duration = Duration::from_millis(500);

/// The agent gives its job 10 s when it is stopped; then it has some time for its last words.
pub const GRACE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub struct Options {
    /// The program that runs a guest, usually this very one, and its arguments before the
    /// machine's directory.
    pub guest_exe: PathBuf,
    pub guest_args: Vec<OsString>,
    /// A path, or a name that is looked for in the `PATH` of `env`.
    pub agent: PathBuf,
    /// A `buildkite-agent.cfg` of the operator's: hooks, plugins, experiments.
    pub agent_config: Option<PathBuf>,
    /// Holds `machines/`; made if it is not there.
    pub directory: PathBuf,
    /// Run agents as this user (needs root).
    pub user: Option<String>,
    pub isolate: Isolate,
    /// The configuration's `name`: only machines with exactly this mark are ours.
    pub mark: String,
    /// What agents get of an environment: `PATH`, `HOME`, `LANG` and the like. Nothing else of
    /// ours reaches them.
    pub env: BTreeMap<String, String>,
    /// From the order to stop until what is left is killed; `GRACE` unless there is a reason.
    pub grace: Duration,
    pub now: fn() -> Timestamp,
}

/// How many steps that read and write files run at once; more would only wait for the same disk.
const STEPS: usize = 32;

/// The backend.
#[derive(Debug)]
pub struct Process {
    inner: Arc<Inner>,
    steps: Semaphore,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    machines: PathBuf,
    agents: Agents,
    changes: Option<Changes>,
    /// Guests that we started, kept to be reaped.
    children: Mutex<Vec<Child>>,
}

/// `labels.json`: what a machine bears.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stamp {
    labels: Labels,
    request_id: Uuid,
    created_at: Timestamp,
    deadline_at: Timestamp,
}

impl Process {
    /// Makes the directory and tidies up what a killed process left half done in it. Whether the
    /// agent is there is checked at each create, and by `probe`.
    pub fn new(options: Options) -> Result<Self, Error> {
        let machines = options.directory.join("machines");
        let made =
            std::fs::create_dir_all(&options.directory).and_then(|()| make_dir(&machines, 0o711));
        made.map_err(|error| io_error("make the directory", &machines, &error))?;
        let machines = machines
            .canonicalize()
            .map_err(|error| io_error("find the directory", &machines, &error))?;
        let changes = match Changes::of(&machines) {
            Ok(changes) => Some(changes),
            Err(error) => {
                tracing::warn!(%error, "cannot watch {}; looking often instead", machines.display());
                None
            }
        };
        make::sweep(&machines);
        let children = Mutex::default();
        let agents = Agents::default();
        let inner = Arc::new(Inner { options, machines, agents, changes, children });
        Ok(Self { inner, steps: Semaphore::new(STEPS) })
    }

    /// What `doctor` wants to know of the host. Changes nothing that stays.
    pub async fn probe(&self) -> Probe {
        probe::probe(&self.inner.options, &self.inner.machines).await
    }

    /// Runs a step that reads or writes files where it may take its time.
    async fn aside<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _turn = self.steps.acquire().await.expect("the semaphore is never closed");
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || step(&inner)).await;
        done.unwrap_or_else(|error| {
            Err(Error::new(Class::Ambiguous, format!("the step broke off: {error}")))
        })
    }

    async fn make(&self, order: &Order) -> Result<(), Error> {
        let agent = self.inner.agents.fit(&self.inner.options).await?;
        let order = order.clone();
        self.aside(move |inner| make::machine(inner, &order, &agent)).await
    }
}

impl Inner {
    fn place(&self, name: &str) -> Result<Place, Error> {
        if !crate::http::is_name(name) {
            let words = format!("`{name}` is not a name for a machine (RFC 1035, 63 characters)");
            return Err(Error::new(Class::Rejected, words));
        }
        Ok(Place::new(self.machines.join(name)))
    }

    /// Forgets guests that have ended, so that none stays a zombie.
    fn reap(&self) {
        let mut children = self.children.lock().expect("nothing panics while it holds this lock");
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

impl Backend for Process {
    fn list(&self) -> Future<'_, Result<Listing, Error>> {
        Box::pin(self.aside(|inner| {
            inner.reap();
            scan::machines(inner)
        }))
    }

    fn changed(&self) -> Future<'_, ()> {
        Box::pin(async {
            match &self.inner.changes {
                Some(changes) => changes.next().await,
                None => std::future::pending().await,
            }
        })
    }

    fn list_every(&self) -> Duration {
        if self.inner.changes.is_some() { LOOK } else { LOOK_OFTEN }
    }

    fn create<'a>(&'a self, order: &'a Order) -> Future<'a, Result<(), Error>> {
        Box::pin(self.make(order))
    }

    fn delete<'a>(&'a self, name: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(remove::machine(self, name))
    }
}

/// What an error of the file system means for whoever ordered a machine.
fn io_error(what: &str, path: &Path, error: &io::Error) -> Error {
    let class = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(
            Errno::NOSPC
            | Errno::DQUOT
            | Errno::ROFS
            | Errno::MFILE
            | Errno::NFILE
            | Errno::AGAIN
            | Errno::NOMEM
            | Errno::MLINK,
        ) => Class::Capacity,
        Some(Errno::ACCESS | Errno::PERM | Errno::NOTDIR) => Class::Denied,
        _ => Class::Ambiguous,
    };
    let mut words = format!("cannot {what} {}: {error}", path.display());
    if class == Class::Capacity && error.kind() == io::ErrorKind::StorageFull {
        words.push_str("; free some space or set `directory` to another disk");
    }
    if class == Class::Denied {
        words.push_str("; give Jitney's user the right to write there or set another `directory`");
    }
    Error::new(class, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(errno: Errno, class: Class, remedy: &str) {
        let error = io_error("make", Path::new("/x/m"), &io::Error::from(errno));
        assert_eq!(error.class, class, "{error}");
        assert!(error.words.starts_with("cannot make /x/m: "), "{error}");
        assert!(error.words.contains(remedy), "{error}");
    }

    #[test]
    fn errors_of_the_file_system_are_classified() {
        check(Errno::NOSPC, Class::Capacity, "free some space");
        check(Errno::DQUOT, Class::Capacity, "");
        check(Errno::ROFS, Class::Capacity, "Read-only");
        check(Errno::MFILE, Class::Capacity, "Too many open files");
        check(Errno::ACCESS, Class::Denied, "give Jitney's user the right");
        check(Errno::PERM, Class::Denied, "another `directory`");
        check(Errno::IO, Class::Ambiguous, "");
    }
}
