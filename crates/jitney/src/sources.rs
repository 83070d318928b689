//! Turns the world into observations: Buildkite's queues and the backends' machines, listed again
//! and again and sent to the loop whole. It decides nothing and remembers only what it saw last.

pub(crate) mod machines;
pub(crate) mod queue;
pub(crate) mod stacks;

use std::time::Duration;

/// Longer and longer pauses after failures, a little different each time so that many do not come
/// back at once.
#[derive(Debug)]
pub(crate) struct Pauses {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Pauses {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the last failure was not the first in a row: then it is no news.
    pub(crate) const fn is_old_news(&self) -> bool {
        self.failures > 1
    }

    /// How long to wait after one more failure: between three quarters and the whole of the pause,
    /// never less than was asked for.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let factor = 1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let pause = self.first.saturating_mul(factor).min(self.most);
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        let share = u32::try_from(random % 250).unwrap_or_default();
        (pause - pause.saturating_mul(share) / 1000).max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut pauses = Pauses::new(first, most);
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let pause = pauses.next(None);
            let whole = Duration::from_millis(whole);
            assert!(pause <= whole && pause >= whole.mul_f32(0.74), "{pause:?} of {whole:?}");
        }
        pauses.reset();
        assert!(pauses.next(None) <= first);
        assert_eq!(pauses.next(Some(Duration::from_secs(9))), Duration::from_secs(9));
    }
}
