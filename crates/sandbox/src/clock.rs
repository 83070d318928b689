//! The sandbox's only look at the time: wall clock at the start plus monotonic time since, plus
//! what the controls have moved it ahead.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

/// When nothing is due it is still looked this often.
const IDLE_LOOK: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    began: Instant,
    ahead: Mutex<Duration>,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the file where the clock is read")]
    pub(crate) fn start() -> Self {
        Self { wall: Timestamp::now(), began: Instant::now(), ahead: Mutex::default() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.wall + self.began.elapsed() + self.ahead()
    }

    /// Moves the clock ahead; it never goes back.
    pub(crate) fn advance(&self, by: Duration) {
        *self.lock() += by;
    }

    /// Does what is due when it is due, though nobody calls: `due` does it, and says when the next
    /// is. Sooner, where somebody says that this has changed.
    pub(crate) async fn keep(&self, sooner: &Notify, due: impl Fn() -> Option<Timestamp>) {
        loop {
            let left = due().map_or(IDLE_LOOK, |due| {
                Duration::try_from(due.duration_since(self.now())).unwrap_or_default()
            });
            tokio::select! {
                () = tokio::time::sleep(left.min(IDLE_LOOK)) => {}
                () = sooner.notified() => {}
            }
        }
    }

    fn ahead(&self) -> Duration {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.ahead.lock().expect("nothing panics while it holds this lock")
    }
}
