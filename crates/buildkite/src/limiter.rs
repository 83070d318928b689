//! Keeps Buildkite's rate limits on our side, so that the server has nothing to refuse: one
//! sliding window per stack key and scope, and two for the REST API. It does not retry and knows
//! no HTTP client.
//!
//! Why the server never sees more than the limit: it counts a request somewhere between our
//! sending and its reply, so a request counts here from its sending until a second after its
//! reply. Of all requests within any second at the server, the one that was sent last had been
//! counted together with all the others when it was let go.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::wire::Scope;

/// The Stacks API's window (B.0), and a little for a clock that is not quite ours.
const WINDOW: Duration = Duration::from_millis(1_020);
/// The REST API's window (D.3), and as much more as its whole seconds may hide.
const MINUTE: Duration = Duration::from_secs(61);
/// Requests a minute that the REST API allows an organisation, and a user in it (D.3).
const PER_ORGANIZATION: usize = 200;
const PER_USER: usize = 50;
/// Quotas can be raised; beyond this many a minute a word of the server's is not believed.
const HIGHEST_QUOTA: usize = 100_000;
/// A request that was not answered this long after its sending has arrived long ago, or never will.
const TRANSIT: Duration = Duration::from_secs(2);
/// The server tells the rest of a window in whole seconds.
const SLACK: Duration = Duration::from_secs(1);
/// Requests of one scope that are on their way at once: over HTTP/1.1 each needs a connection, and
/// with 50 ms to Buildkite these already make 1,280 a second.
pub(crate) const MOST_IN_FLIGHT: usize = 64;
/// The longest wait that we let a server impose with one reply.
const LONGEST_BLOCK: Duration = Duration::from_secs(300);

/// What a reply said about the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) limit: Option<u32>,
    pub(crate) remaining: Option<u32>,
    pub(crate) reset: Option<Duration>,
    /// Nothing more of this scope before this has passed.
    pub(crate) block: Option<Duration>,
}

/// How the server counts requests of one kind.
#[derive(Clone, Copy, Debug)]
struct Law {
    documented: usize,
    /// The most that a reply may raise the limit to.
    ceiling: usize,
    /// How long a request counts.
    length: Duration,
    /// The server forgets all requests at once when its window ends, and not each by itself.
    resets: bool,
}

impl Law {
    fn of(scope: Scope) -> Self {
        let documented = usize::try_from(scope.per_second()).expect("a limit fits");
        Self { documented, ceiling: documented, length: WINDOW, resets: false }
    }

    const fn a_minute(documented: usize) -> Self {
        Self { documented, ceiling: HIGHEST_QUOTA, length: MINUTE, resets: true }
    }
}

/// The REST API's two limits; every request counts for both. We count in a sliding minute, which
/// is never more than the server's own, whenever that may begin.
#[derive(Clone)]
pub(crate) struct Quotas {
    pub(crate) organization: Arc<Window>,
    pub(crate) user: Arc<Window>,
}

impl Quotas {
    pub(crate) fn new() -> Self {
        let window = |limit| Arc::new(Window::new(Law::a_minute(limit)));
        Self { organization: window(PER_ORGANIZATION), user: window(PER_USER) }
    }

    /// Waits for room in both.
    pub(crate) async fn acquire(&self) -> [Permit; 2] {
        let mut organization = self.organization.acquire().await;
        // It may wait long for the user's turn, and give up: what counts is when it is sent.
        organization.sent = false;
        let user = self.user.acquire().await;
        organization.send();
        [organization, user]
    }

    pub(crate) fn wait(&self) -> Duration {
        self.organization.wait().max(self.user.wait())
    }
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Quotas").field(&self.wait()).finish()
    }
}

/// All windows of one stack key.
pub(crate) struct Windows(BTreeMap<Scope, Arc<Window>>);

impl Windows {
    pub(crate) fn new() -> Self {
        Self(
            Scope::ALL
                .iter()
                .map(|&scope| (scope, Arc::new(Window::new(Law::of(scope)))))
                .collect(),
        )
    }

    pub(crate) fn of(&self, scope: Scope) -> &Arc<Window> {
        self.0.get(&scope).expect("Scope::ALL names every scope")
    }
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(scope, w)| (scope.name(), w.wait()))).finish()
    }
}

/// One scope's window of one stack key, or one of the REST API's two.
pub(crate) struct Window {
    law: Law,
    /// First come, first served: who holds this is the next to go.
    turn: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    changed: Notify,
    state: Mutex<State>,
}

struct State {
    law: Law,
    limit: usize,
    counted: Vec<Counted>,
    next_id: u64,
    in_flight: usize,
    blocked_until: Option<Instant>,
}

/// A request that the server may count.
struct Counted {
    id: u64,
    until: Instant,
}

/// The leave to send one request. Drop it when the reply's head has come (or nothing will).
pub(crate) struct Permit {
    window: Arc<Window>,
    id: u64,
    /// What is dropped before that has never been there.
    sent: bool,
}

impl Permit {
    /// Counts the request from now on.
    fn send(&mut self) {
        self.sent = true;
        let until = Instant::now() + TRANSIT + self.window.law.length;
        let mut state = self.window.state();
        match state.counted.iter_mut().find(|counted| counted.id == self.id) {
            Some(counted) => counted.until = until,
            None => state.counted.push(Counted { id: self.id, until }),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let until = Instant::now() + self.window.law.length;
        let mut state = self.window.state();
        state.in_flight -= 1;
        if !self.sent {
            state.counted.retain(|counted| counted.id != self.id);
        } else if let Some(counted) = state.counted.iter_mut().find(|counted| counted.id == self.id)
        {
            counted.until = counted.until.min(until);
        }
        drop(state);
        self.window.changed.notify_one();
    }
}

/// Counts a caller for as long as it waits, also when it gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Window {
    fn new(law: Law) -> Self {
        let state = State {
            law,
            limit: law.documented,
            counted: Vec::new(),
            next_id: 0,
            in_flight: 0,
            blocked_until: None,
        };
        Self {
            law,
            turn: tokio::sync::Mutex::new(()),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// Waits for this caller's turn and for room in the window.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Permit {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let _turn = self.turn.lock().await;
        loop {
            let free_at = match self.state().take(Instant::now()) {
                Ok(id) => return Permit { window: Arc::clone(self), id, sent: true },
                Err(free_at) => free_at,
            };
            tokio::select! {
                () = sleep_until(free_at) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// How long a caller that came now would wait, as far as is known: zero when not at all.
    pub(crate) fn wait(&self) -> Duration {
        let now = Instant::now();
        let ahead = self.waiting.load(Ordering::Relaxed);
        self.state().free_at(now, ahead).saturating_duration_since(now)
    }

    /// Takes in what the server said.
    pub(crate) fn told(&self, told: &Told) {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(limit) = told.limit.and_then(|limit| usize::try_from(limit).ok()) {
            state.limit = limit.clamp(1, self.law.ceiling);
        }
        state.believe(told, now);
        if let Some(block) = told.block {
            let until = now + block.min(LONGEST_BLOCK);
            state.blocked_until = Some(state.blocked_until.map_or(until, |old| old.max(until)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a request that is sent now, or says when to ask again.
    fn take(&mut self, now: Instant) -> Result<u64, Instant> {
        if self.in_flight >= MOST_IN_FLIGHT {
            // One that comes back wakes who waits; this is only how often to look without that.
            return Err(now + TRANSIT);
        }
        self.counted.retain(|counted| counted.until > now);
        let free_at = self.free_at(now, 0);
        if free_at > now {
            return Err(free_at);
        }
        self.in_flight += 1;
        Ok(self.count(now + TRANSIT + self.law.length))
    }

    fn count(&mut self, until: Instant) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.counted.push(Counted { id, until });
        id
    }

    /// When there is room for one more after `ahead` others.
    fn free_at(&self, now: Instant, ahead: usize) -> Instant {
        let start = self.blocked_until.map_or(now, |until| until.max(now));
        let ends = || self.counted.iter().map(|counted| counted.until).filter(|&end| end > start);
        let Some(index) = (ends().count() + ahead).checked_sub(self.limit) else { return start };
        let mut ends: Vec<Instant> = ends().collect();
        ends.sort_unstable();
        // Those ahead take the room that comes free first, and hold it for a window each.
        let rounds = u32::try_from(index / self.limit).unwrap_or(u32::MAX);
        let first = ends.get(index % self.limit).copied().unwrap_or(start);
        first + self.law.length.saturating_mul(rounds).min(LONGEST_BLOCK)
    }

    /// When the server counts more than we sent, somebody else uses the same key: their share is
    /// counted as if it were ours until the server's window is free again.
    fn believe(&mut self, told: &Told, now: Instant) {
        let (Some(limit), Some(remaining)) = (told.limit, told.remaining) else { return };
        self.counted.retain(|counted| counted.until > now);
        let used = usize::try_from(limit.saturating_sub(remaining)).unwrap_or(usize::MAX);
        let reset = told.reset.unwrap_or(self.law.length).min(LONGEST_BLOCK);
        // Of ours, a window that is forgotten as a whole holds only what came since it began.
        let begun = |counted: &&Counted| !self.law.resets || counted.until + SLACK >= now + reset;
        let ours = self.counted.iter().filter(begun).count();
        let foreign = used.min(self.limit).saturating_sub(ours);
        for _ in 0..foreign {
            self.count(now + reset);
        }
    }
}

#[cfg(test)]
mod tests;
