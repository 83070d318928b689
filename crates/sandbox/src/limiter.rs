//! The Stacks API's limits: requests of the last second, per stack and scope. The REST API's:
//! requests of the minute that runs, per user and for all of them together.
//! It only counts; what a refused client is told is the shell's.

use std::collections::{HashMap, VecDeque};

use buildkite::wire::Scope;
use jiff::{SignedDuration, Timestamp};

const WINDOW: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// Requests a minute, as documented; Buildkite raises both for those who ask.
const REST_PER_ORGANIZATION: u32 = 200;
const REST_PER_USER: u32 = 50;
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

/// The REST API's minutes: one of the organisation and one of each user. A minute begins with its
/// first request, and all of it is forgotten together.
#[derive(Debug, Default)]
pub(crate) struct Minutes {
    organization: Minute,
    users: HashMap<String, Minute>,
}

#[derive(Debug, Default)]
struct Minute {
    began: Option<Timestamp>,
    allowed: u32,
    refused: u32,
}

/// Where a request stands in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) scope: &'static str,
    pub(crate) limit: u32,
    /// Requests of this minute, this one and refused ones with them.
    pub(crate) current: u32,
    pub(crate) remaining: u32,
    /// Whole seconds until the minute ends.
    pub(crate) reset_s: u32,
    pub(crate) exceeded: bool,
}

impl Minutes {
    /// Counts one request for the organisation and for its user. One that either refuses uses up
    /// neither.
    pub(crate) fn count(&mut self, user: &str, now: Timestamp) -> [Quota; 2] {
        let of_user = self.users.entry(user.to_owned()).or_default();
        let minutes = [
            (&mut self.organization, "rest", REST_PER_ORGANIZATION),
            (of_user, "rest_user", REST_PER_USER),
        ];
        let mut minutes = minutes.map(|(minute, scope, limit)| {
            minute.turn(now);
            (minute, scope, limit)
        });
        let full = minutes.each_ref().map(|(minute, _, limit)| minute.allowed >= *limit);
        let allowed = full == [false, false];
        for (minute, _, _) in &mut minutes {
            minute.allowed += u32::from(allowed);
            minute.refused += u32::from(!allowed);
        }
        let [organization, user] = minutes;
        [(organization, full[0]), (user, full[1])].map(|((minute, scope, limit), exceeded)| Quota {
            scope,
            limit,
            current: minute.allowed + minute.refused,
            remaining: limit.saturating_sub(minute.allowed),
            reset_s: minute.reset_s(now),
            exceeded,
        })
    }
}

impl Minute {
    fn turn(&mut self, now: Timestamp) {
        if self.began.is_none_or(|began| began + MINUTE <= now) {
            *self = Self { began: Some(now), allowed: 0, refused: 0 };
        }
    }

    fn reset_s(&self, now: Timestamp) -> u32 {
        let left =
            self.began.map_or(SignedDuration::ZERO, |began| (began + MINUTE).duration_since(now));
        let seconds = left.as_secs() + i64::from(left.subsec_nanos() > 0);
        u32::try_from(seconds).unwrap_or(0)
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

    #[test]
    fn a_minute_is_forgotten_as_a_whole_and_each_limit_refuses_for_itself() {
        let mut minutes = Minutes::default();
        for call in 0..50 {
            let [organization, user] = minutes.count("kim", at(call * 100));
            assert!(!organization.exceeded && !user.exceeded);
            assert_eq!(i64::from(user.remaining), 49 - call);
        }
        let [organization, user] = minutes.count("kim", at(18_500));
        assert!(user.exceeded && !organization.exceeded);
        assert_eq!((user.current, user.remaining, user.reset_s), (51, 0, 42));
        assert_eq!(organization.remaining, 150, "a refused request uses nothing up");
        for other in ["a", "b", "c"] {
            for _ in 0..50 {
                assert!(!minutes.count(other, at(20_000))[1].exceeded);
            }
        }
        let [organization, user] = minutes.count("d", at(20_000));
        assert!(organization.exceeded && !user.exceeded);
        assert_eq!((organization.limit, organization.reset_s), (200, 40));
        let [organization, _] = minutes.count("d", at(60_000));
        assert_eq!((organization.exceeded, organization.remaining), (false, 199));
    }
}
