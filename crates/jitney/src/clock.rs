//! The only clock: the wall at the start, and the monotonic time since, also of a suspended host.
//! A clock that is set afterwards changes nothing. It decides nothing and waits for nothing.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use planner::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Counts on from one reading of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    since: Duration,
}

impl Clock {
    /// Reads the wall clock, this once.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(Timestamp::ZERO.plus(wall))
    }

    /// The process's one clock, started when it is first asked for.
    #[must_use]
    pub fn of_process() -> Self {
        static CLOCK: OnceLock<Clock> = OnceLock::new();
        *CLOCK.get_or_init(Self::start)
    }

    /// As if the wall clock showed `wall` now: for a host whose clock is wrong.
    #[must_use]
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { wall, since: boottime() }
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall.plus(boottime().saturating_sub(self.since))
    }

    /// The same clock, set forward where it does not show `at` yet: what was written down lies in the
    /// past, though the wall clock was set back since.
    #[must_use]
    pub fn not_before(self, at: Timestamp) -> Self {
        Self { wall: self.wall.plus(at.since(self.now())), ..self }
    }

    /// How long until `at`; nothing where it has come.
    #[must_use]
    pub fn until(&self, at: Timestamp) -> Duration {
        at.since(self.now())
    }
}

/// Time since the host was started, with the time that it was suspended: a process that was frozen
/// knows how long.
fn boottime() -> Duration {
    #[cfg(target_os = "linux")]
    let time = clock_gettime(ClockId::Boottime);
    #[cfg(not(target_os = "linux"))]
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// The process's clock, for parts that take a function.
#[must_use]
pub fn process_now() -> jiff::Timestamp {
    to_jiff(Clock::of_process().now())
}

/// For display, and for the wire.
#[must_use]
pub fn to_jiff(at: Timestamp) -> jiff::Timestamp {
    i64::try_from(at.millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .unwrap_or(jiff::Timestamp::MAX)
}

/// Before the epoch is the epoch.
#[must_use]
pub fn from_jiff(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_on_from_where_it_was_started() {
        let wall = Timestamp::from_millis(1_000_000);
        let clock = Clock::starting_at(wall);
        let (first, second) = (clock.now(), clock.now());
        assert!(first >= wall && second >= first);
        assert!(second.since(wall) < Duration::from_secs(60));
    }

    #[test]
    fn goes_on_from_a_later_moment_and_never_back() {
        let clock = Clock::starting_at(Timestamp::from_millis(1_000_000));
        let hour = Duration::from_secs(3_600);
        let later = clock.now().plus(hour);
        assert!(clock.not_before(later).now() >= later);
        assert!(clock.not_before(later).now().since(later) < Duration::from_secs(60));
        let kept = clock.not_before(clock.now().minus(hour));
        assert!(kept.now().since(clock.now()) < Duration::from_secs(60));
    }

    #[test]
    fn converts_both_ways() {
        let at = Timestamp::from_millis(1_760_000_000_123);
        assert_eq!(from_jiff(to_jiff(at)), at);
        assert_eq!(from_jiff(jiff::Timestamp::MIN), Timestamp::ZERO);
    }
}
