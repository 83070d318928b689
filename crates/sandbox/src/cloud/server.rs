//! The running cloud: one listener, one mind behind one lock, one task for what is due, and a task
//! for each machine. What calls mean is in `compute`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::compute::{Compute, Effect, Knobs, Settings};
use super::keys::Keys;
use super::machine::{self, Machines, Reins};
use super::processes::{self, Mark};
use super::routes;
use super::tokens::Tokens;
use crate::clock::Clock;
use crate::faults::{Fault, Faults};
use crate::journal::{Journal, Request};

/// How long a stop waits for requests that are being answered.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// How to start a cloud.
#[derive(Clone, Debug)]
pub struct Options {
    /// Loopback with a free port by default.
    pub listen: SocketAddr,
    pub settings: Settings,
    pub machines: Machines,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            settings: Settings::default(),
            machines: Machines::Idle,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to listen on {address}: {source}; is another program using the port?")]
    Listen { address: SocketAddr, source: std::io::Error },
}

/// What all parts share.
#[derive(Debug)]
pub(super) struct Shared {
    /// What tells this cloud's machines from those of another.
    id: Uuid,
    clock: Clock,
    compute: Mutex<Compute>,
    faults: Mutex<Faults>,
    journal: Mutex<Journal>,
    tokens: Mutex<Tokens>,
    pub(super) keys: Keys,
    pub(super) machines: Machines,
    reins: Mutex<HashMap<u64, Reins>>,
    lives: TaskTracker,
    earlier: Notify,
    changes: watch::Sender<u64>,
    url: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic under this lock is a bug that must not be hidden")
}

impl Shared {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What the processes of a machine bear.
    pub(super) fn mark(&self, machine: u64) -> Mark {
        Mark::new(self.id, machine)
    }

    pub(super) fn token_url(&self) -> String {
        format!("{}/token", self.url)
    }

    /// Looks at or changes the state, with everything done that was due before. What has to be
    /// done about machines is begun under the same lock, so that it stays in order.
    pub(super) fn compute<T>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Compute, Timestamp) -> T,
    ) -> T {
        let now = self.now();
        let mut compute = lock(&self.compute);
        compute.advance(now);
        let due_before = compute.next_due();
        let answer = act(&mut compute, now);
        loop {
            let effects = compute.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(effect, &mut compute, now);
            }
        }
        let due = compute.next_due();
        drop(compute);
        if due.is_some() && (due_before.is_none() || due < due_before) {
            self.earlier.notify_one();
        }
        self.changes.send_modify(|revision| *revision += 1);
        answer
    }

    /// Looks at the state as it is, without moving it on.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Compute) -> T) -> T {
        look(&lock(&self.compute))
    }

    fn carry_out(self: &Arc<Self>, effect: Effect, compute: &mut Compute, now: Timestamp) {
        match &self.machines {
            Machines::Idle => match effect {
                Effect::Boot(id) => {
                    compute.booted(id, now);
                }
                Effect::SoftOff { id, .. } | Effect::Kill(id) => compute.machine_off(id, now),
            },
            Machines::Processes(_) => match effect {
                Effect::Boot(id) => {
                    let reins = Reins::default();
                    lock(&self.reins).insert(id, reins.clone());
                    self.lives.spawn(machine::live(Arc::clone(self), id, reins));
                }
                Effect::SoftOff { id, patience_ms } => {
                    if let Some(reins) = lock(&self.reins).get(&id) {
                        reins.switch_off(Duration::from_millis(patience_ms));
                    }
                }
                Effect::Kill(id) => {
                    if let Some(reins) = lock(&self.reins).get(&id) {
                        reins.kill();
                    }
                }
            },
        }
    }

    /// A machine's processes are gone.
    pub(super) fn machine_off(self: &Arc<Self>, id: u64) {
        lock(&self.reins).remove(&id);
        self.compute(|compute, now| compute.machine_off(id, now));
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn faults<T>(&self, act: impl FnOnce(&mut Faults) -> T) -> T {
        act(&mut lock(&self.faults))
    }

    pub(super) fn journal<T>(&self, act: impl FnOnce(&mut Journal) -> T) -> T {
        act(&mut lock(&self.journal))
    }

    pub(super) fn tokens<T>(&self, act: impl FnOnce(&mut Tokens) -> T) -> T {
        act(&mut lock(&self.tokens))
    }

    pub(super) fn advance_clock(self: &Arc<Self>, by: Duration) {
        self.clock.advance(by);
        self.compute(|_, _| ());
        self.earlier.notify_one();
    }

    async fn keep_time(self: Arc<Self>) {
        self.clock.keep(&self.earlier, || self.compute(|compute, _| compute.next_due())).await;
    }
}

/// A running cloud. It stops, and kills its machines, when it is dropped.
#[derive(Debug)]
pub struct Cloud {
    shared: Arc<Shared>,
    stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
    timer: JoinHandle<()>,
}

impl Cloud {
    /// Listens and serves from tasks of the current runtime.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let refused = |source| StartError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(refused)?;
        let url = format!("http://{}", listener.local_addr().map_err(refused)?);
        let clock = Clock::start();
        let shared = Arc::new(Shared {
            id: Uuid::new_v4(),
            compute: Mutex::new(Compute::new(options.settings, clock.now())),
            clock,
            faults: Mutex::default(),
            journal: Mutex::default(),
            tokens: Mutex::default(),
            keys: Keys::read(),
            machines: options.machines,
            reins: Mutex::default(),
            lives: TaskTracker::new(),
            earlier: Notify::new(),
            changes: watch::Sender::new(0),
            url,
        });
        let stop = CancellationToken::new();
        let serving = tokio::spawn(routes::serve(listener, Arc::clone(&shared), stop.clone()));
        let timer = tokio::spawn(Arc::clone(&shared).keep_time());
        Ok(Self { shared, stop, serving: Some(serving), timer })
    }

    /// `http://127.0.0.1:PORT`: what stands for `https://compute.googleapis.com` and for the other
    /// services.
    #[must_use]
    pub fn url(&self) -> &str {
        self.shared.url()
    }

    /// Where OAuth tokens are issued.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.shared.token_url()
    }

    /// The public keys of identity tokens.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}{}", self.url(), routes::JWKS)
    }

    /// Credentials to call with, as a file has them: `service_account` or `authorized_user`.
    #[must_use]
    pub fn credentials(&self, kind: &str) -> Option<serde_json::Value> {
        self.shared.credentials(kind)
    }

    /// What a machine's own metadata server would answer; none without a service account.
    #[must_use]
    pub fn identity_token(&self, zone: &str, name: &str, audience: &str) -> Option<String> {
        let id = self.shared.look(|compute| compute.instance(zone, name).map(|it| it.id))?;
        self.shared.identity_token(id, audience, true)
    }

    /// Looks at or changes the state.
    pub fn compute<T>(&self, act: impl FnOnce(&mut Compute, Timestamp) -> T) -> T {
        self.shared.compute(act)
    }

    /// Replaces what goes wrong.
    pub fn set_knobs(&self, knobs: Knobs) {
        self.compute(|compute, now| compute.set_knobs(knobs, now));
    }

    /// What befalls calls; its route is a method's id, such as `compute.instances.insert`.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.faults(|faults| faults.add(fault));
    }

    pub fn clear_faults(&self) {
        self.shared.faults(Faults::clear);
    }

    /// The cloud's time, which `advance` moves ahead.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// Lets time pass at once. Machines that are processes keep the real time.
    pub fn advance(&self, by: Duration) {
        self.shared.advance_clock(by);
    }

    /// The calls that came in so far, oldest first; the route of each is its method's id.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.journal(|journal| journal.entries().cloned().collect())
    }

    /// Waits until the look answers something. It is taken again after every change.
    pub async fn until<T>(&self, mut look: impl FnMut(&Compute) -> Option<T>) -> T {
        let mut changes = self.shared.changes();
        loop {
            changes.mark_unchanged();
            if let Some(found) = self.shared.look(&mut look) {
                return found;
            }
            changes.changed().await.expect("the sender lives as long as the cloud");
        }
    }

    /// Waits until no process of a machine is alive and no folder of one is left.
    pub async fn at_rest(&self) {
        let mut changes = self.shared.changes();
        loop {
            changes.mark_unchanged();
            if lock(&self.shared.reins).is_empty() {
                return;
            }
            changes.changed().await.expect("the sender lives as long as the cloud");
        }
    }

    /// Kills all machines, answers what is being answered, and ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.timer.abort();
        for reins in lock(&self.shared.reins).values() {
            reins.kill();
        }
        self.shared.lives.close();
        self.shared.lives.wait().await;
        if let Some(mut serving) = self.serving.take()
            && tokio::time::timeout(STOP_PATIENCE, &mut serving).await.is_err()
        {
            serving.abort();
        }
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.stop.cancel();
        self.timer.abort();
        for (id, reins) in lock(&self.shared.reins).drain() {
            reins.kill();
            // The runtime may be ending, too, and with it whoever would do it.
            processes::kill_now(&self.shared.mark(id));
        }
    }
}
