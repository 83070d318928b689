//! The running server: one listener, one engine behind one lock, one task for what is due.
//! What requests mean is in `http`; what they change in `engine`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::engine::{Engine, Settings, access};
use crate::faults::{Fault, Faults, OutageKind};
use crate::http;
use crate::journal::{Journal, Request};
use crate::limiter::{Limiter, Minutes};
use crate::webhook::{self, Webhook};

/// How long a stop waits for requests that are being answered.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Webhook deliveries that wait to be sent.
const MAX_DELIVERIES: usize = 50_000;

/// How to start a sandbox.
#[derive(Clone, Debug)]
pub struct Options {
    /// Loopback with a free port by default.
    pub listen: SocketAddr,
    pub settings: Settings,
    /// Keep the documented limits of the Stacks and REST APIs.
    pub rate_limits: bool,
    /// Where to tell of jobs and agents.
    pub webhook: Option<Webhook>,
}

impl Options {
    /// A server on loopback with one cluster, for this agent token.
    #[must_use]
    pub fn with_token(token: &str) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            settings: Settings::with_token(token),
            rate_limits: true,
            webhook: None,
        }
    }
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to listen on {address}: {source}; is another program using the port?")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("failed to prepare the sender of webhooks: {0}")]
    Webhook(#[from] reqwest::Error),
    #[error("an API token cannot be issued: {0}")]
    ApiToken(crate::engine::Refusal),
    #[error("a cluster needs at least one queue and a token that is not empty")]
    Settings,
}

/// What all parts of the server share.
#[derive(Debug)]
pub(crate) struct Shared {
    clock: Clock,
    engine: Mutex<Engine>,
    faults: Mutex<Faults>,
    limiter: Mutex<Limiter>,
    minutes: Mutex<Minutes>,
    journal: Mutex<Journal>,
    pub(crate) rate_limits: bool,
    /// Wakes the timer when something became due earlier than it knows.
    earlier: Notify,
    changes: watch::Sender<u64>,
    deliveries: Option<mpsc::Sender<webhook::Delivery>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic under this lock is a bug that must not be hidden")
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Looks at or changes the engine, with everything done that was due before.
    pub(crate) fn engine<T>(&self, act: impl FnOnce(&mut Engine, Timestamp) -> T) -> T {
        let now = self.now();
        let mut engine = lock(&self.engine);
        engine.advance(now);
        let due_before = engine.next_due();
        let answer = act(&mut engine, now);
        let due = engine.next_due();
        self.tell(&mut engine, now);
        drop(engine);
        if due.is_some() && (due_before.is_none() || due < due_before) {
            self.earlier.notify_one();
        }
        self.changes.send_modify(|revision| *revision += 1);
        answer
    }

    /// Hands what happened to the sender of webhooks, if there is one.
    fn tell(&self, engine: &mut Engine, now: Timestamp) {
        let hooks = engine.take_hooks();
        let Some(deliveries) = &self.deliveries else { return };
        for hook in hooks {
            let delivery = webhook::Delivery::of(engine, hook, now);
            if deliveries.try_send(delivery).is_err() {
                tracing::warn!(?hook, "a webhook was dropped: {MAX_DELIVERIES} wait already");
            }
        }
    }

    /// Looks at the engine as it is, without moving it on.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Engine) -> T) -> T {
        look(&lock(&self.engine))
    }

    pub(crate) fn faults<T>(&self, act: impl FnOnce(&mut Faults) -> T) -> T {
        act(&mut lock(&self.faults))
    }

    pub(crate) fn limiter<T>(&self, act: impl FnOnce(&mut Limiter) -> T) -> T {
        act(&mut lock(&self.limiter))
    }

    pub(crate) fn minutes<T>(&self, act: impl FnOnce(&mut Minutes) -> T) -> T {
        act(&mut lock(&self.minutes))
    }

    pub(crate) fn journal<T>(&self, act: impl FnOnce(&mut Journal) -> T) -> T {
        act(&mut lock(&self.journal))
    }

    /// Moves the clock and does what became due by that.
    pub(crate) fn advance_clock(&self, by: Duration) {
        self.clock.advance(by);
        self.engine(|_, _| ());
        self.earlier.notify_one();
    }

    /// Forgets builds, jobs, stacks, agents, faults, limits and requests.
    pub(crate) fn reset(&self) {
        self.engine(Engine::reset);
        self.faults(|faults| *faults = Faults::default());
        self.limiter(|limiter| *limiter = Limiter::default());
        self.minutes(|minutes| *minutes = Minutes::default());
        self.journal(Journal::clear);
    }

    async fn keep_time(self: Arc<Self>) {
        self.clock.keep(&self.earlier, || self.engine(|engine, _| engine.next_due())).await;
    }
}

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    shared: Arc<Shared>,
    url: String,
    stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sandbox {
    /// Listens and serves from tasks of the current runtime.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let usable = options.settings.clusters.iter().all(|cluster| !cluster.token.is_empty());
        if options.settings.clusters.is_empty() || !usable {
            return Err(StartError::Settings);
        }
        let checked = options.settings.api_tokens.iter().try_for_each(access::check_given);
        checked.map_err(StartError::ApiToken)?;
        let refused = |source| StartError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(refused)?;
        let url = format!("http://{}", listener.local_addr().map_err(refused)?);
        let clock = Clock::start();
        let mut engine = Engine::new(options.settings, clock.now());
        engine.set_base_url(&url);
        let (deliveries, sender) = match options.webhook {
            Some(webhook) => {
                buildkite::install_crypto_provider();
                let (send, receive) = mpsc::channel(MAX_DELIVERIES);
                (Some(send), Some(webhook::sender(webhook, receive)?))
            }
            None => (None, None),
        };
        let shared = Arc::new(Shared {
            clock,
            engine: Mutex::new(engine),
            faults: Mutex::default(),
            limiter: Mutex::default(),
            minutes: Mutex::default(),
            journal: Mutex::default(),
            rate_limits: options.rate_limits,
            earlier: Notify::new(),
            changes: watch::Sender::new(0),
            deliveries,
        });
        let stop = CancellationToken::new();
        let serving = tokio::spawn(http::serve(listener, Arc::clone(&shared), stop.clone()));
        let mut tasks = vec![tokio::spawn(Arc::clone(&shared).keep_time())];
        tasks.extend(sender.map(tokio::spawn));
        Ok(Self { shared, url, stop, serving: Some(serving), tasks })
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The base of the agent and Stacks APIs.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}/v3", self.url)
    }

    /// The base of the REST API.
    #[must_use]
    pub fn api_endpoint(&self) -> String {
        format!("{}/v2", self.url)
    }

    /// Looks at or changes the state, as a person at Buildkite's own controls would.
    pub fn engine<T>(&self, act: impl FnOnce(&mut Engine, Timestamp) -> T) -> T {
        self.shared.engine(act)
    }

    /// The sandbox's time, which `advance` moves ahead.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// Lets time pass at once.
    pub fn advance(&self, by: Duration) {
        self.shared.advance_clock(by);
    }

    pub fn add_fault(&self, fault: Fault) {
        self.shared.faults(|faults| faults.add(fault));
    }

    pub fn begin_outage(&self, kind: OutageKind, length: Duration) {
        let until = self.now() + length;
        self.shared.faults(|faults| faults.begin_outage(kind, until));
    }

    /// Ends all faults and outages.
    pub fn clear_faults(&self) {
        self.shared.faults(Faults::clear);
    }

    /// What came in so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.journal(|journal| journal.entries().cloned().collect())
    }

    /// Waits until the look answers something. It is taken again after every change.
    pub async fn until<T>(&self, mut look: impl FnMut(&Engine) -> Option<T>) -> T {
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(found) = self.shared.look(&mut look) {
                return found;
            }
            changes.changed().await.expect("the sender lives as long as the server");
        }
    }

    /// Waits until somebody stops the server, which by itself it never does.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Answers what is being answered, and ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(mut serving) = self.serving.take()
            && tokio::time::timeout(STOP_PATIENCE, &mut serving).await.is_err()
        {
            serving.abort();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop.cancel();
        for task in &self.tasks {
            task.abort();
        }
    }
}
