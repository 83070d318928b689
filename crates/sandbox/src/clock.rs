//! The sandbox's only look at the time: wall clock at the start plus monotonic time since, plus
//! what the controls have moved it ahead.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;

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

    fn ahead(&self) -> Duration {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.ahead.lock().expect("nothing panics while it holds this lock")
    }
}
