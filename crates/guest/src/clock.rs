//! The guest's only clocks: the wall's for what is written down, and one that also runs while the
//! computer sleeps for what is measured.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

#[expect(clippy::disallowed_methods, reason = "this is the guest's one clock file")]
pub(crate) fn wall() -> Timestamp {
    Timestamp::now()
}

/// Time since the boot, sleep included; never set, never backwards.
pub(crate) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).expect("the time since the boot is not negative");
    let nanos = u32::try_from(now.tv_nsec).expect("nanoseconds of a second fit");
    Duration::new(seconds, nanos)
}
