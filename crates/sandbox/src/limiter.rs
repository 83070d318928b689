//! The Stacks API's limits: requests of the last second, per stack and scope.
//! It only counts; what a refused client is told is the shell's.

use std::collections::{HashMap, VecDeque};

use buildkite::wire::Scope;
use jiff::{SignedDuration, Timestamp};

const WINDOW: SignedDuration = SignedDuration::from_secs(1);
/// Refused requests that are remembered, only to be told.
const MAX_REFUSED: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Limiter {
    windows: HashMap<(String, Scope), Window>,
}

#[derive(Debug, Default)]
struct Window {
    allowed: VecDeque<Timestamp>,
    refused: VecDeque<Timestamp>,
}

/// Where a request stands in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) scope: Scope,
    pub(crate) allowed: bool,
    pub(crate) limit: u32,
    /// Requests of the last second, this one and refused ones with them.
    pub(crate) current: u32,
    pub(crate) remaining: u32,
    /// Whole seconds until the oldest request leaves the window.
    pub(crate) reset_s: u32,
}

impl Limiter {
    /// Counts one request of a stack. A refused one does not lengthen the wait.
    pub(crate) fn count(&mut self, stack: &str, scope: Scope, now: Timestamp) -> Standing {
        let window = self.windows.entry((stack.to_owned(), scope)).or_default();
        window.slide(now);
        let limit = scope.per_second();
        let used = u32::try_from(window.allowed.len()).unwrap_or(u32::MAX);
        let allowed = used < limit;
        if allowed {
            window.allowed.push_back(now);
        } else if window.refused.len() < MAX_REFUSED {
            window.refused.push_back(now);
        }
        let current = window.allowed.len() + window.refused.len();
        Standing {
            scope,
            allowed,
            limit,
            current: u32::try_from(current).unwrap_or(u32::MAX),
            remaining: limit.saturating_sub(used + u32::from(allowed)),
            reset_s: 1,
        }
    }
}

impl Window {
    fn slide(&mut self, now: Timestamp) {
        for times in [&mut self.allowed, &mut self.refused] {
            while times.front().is_some_and(|at| *at + WINDOW <= now) {
                times.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).expect("in range")
    }

    #[test]
    fn the_window_slides_and_stacks_do_not_share_it() {
        let mut limiter = Limiter::default();
        for call in 0..10 {
            let standing = limiter.count("a", Scope::BatchReserve, at(call * 50));
            assert!(standing.allowed);
            assert_eq!(i64::from(standing.remaining), 9 - call);
        }
        let refused = limiter.count("a", Scope::BatchReserve, at(900));
        assert_eq!((refused.allowed, refused.current, refused.remaining), (false, 11, 0));
        assert!(limiter.count("b", Scope::BatchReserve, at(900)).allowed);
        assert!(limiter.count("a", Scope::ListScheduledJobs, at(900)).allowed);
        assert!(limiter.count("a", Scope::BatchReserve, at(1000)).allowed, "the first has left");
        assert!(!limiter.count("a", Scope::BatchReserve, at(1001)).allowed, "the second has not");
    }
}
