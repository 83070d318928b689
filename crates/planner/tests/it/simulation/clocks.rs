//! Clocks that do not show the time: that of our own host, which somebody sets between two lives of
//! the process, and those of Buildkite and the backends. The simulation's own time is the true one.

use std::time::Duration;

use planner::Timestamp;

use super::dice::Dice;

/// How far a clock is off; at most one of the two is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skew {
    ahead: Duration,
    behind: Duration,
}

impl Skew {
    /// Off by up to `most` milliseconds, in either direction.
    pub(crate) fn of(dice: &mut Dice, most: u64) -> Self {
        let off = dice.millis(0, most);
        if dice.chance(500) {
            Self { ahead: off, behind: Duration::ZERO }
        } else {
            Self { ahead: Duration::ZERO, behind: off }
        }
    }

    /// The clock that shows `shown` at the true moment `now`.
    pub(crate) fn between(now: Timestamp, shown: Timestamp) -> Self {
        Self { ahead: shown.since(now), behind: now.since(shown) }
    }

    /// What the clock shows at that moment.
    pub(crate) fn shows(self, at: Timestamp) -> Timestamp {
        at.plus(self.ahead).minus(self.behind)
    }

    /// The moment at which the clock shows that.
    pub(crate) fn when(self, shown: Timestamp) -> Timestamp {
        shown.plus(self.behind).minus(self.ahead)
    }
}
