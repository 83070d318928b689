//! When the next write may be sent: as often as the operator allows, and not before the API server
//! wants us again.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::contract::{Class, Error};

#[derive(Debug)]
pub(super) struct Pace {
    between: Option<Duration>,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(between: Option<Duration>) -> Self {
        Self { between, next: Mutex::default() }
    }

    /// Waits for its turn.
    pub(super) async fn turn(&self) {
        let now = Instant::now();
        let at = {
            let mut next = self.next.lock().expect("nothing panics while it holds this lock");
            let at = next.map_or(now, |next| next.max(now));
            *next = self.between.map(|between| at + between).or(*next);
            at
        };
        if at > now {
            sleep_until(at).await;
        }
    }

    /// Takes an answer in: those that come after us wait for as long as it asks.
    pub(super) fn heard(&self, error: &Error) {
        if error.class != Class::Rate {
            return;
        }
        let until = Instant::now() + error.retry_after.unwrap_or_default();
        let mut next = self.next.lock().expect("nothing panics while it holds this lock");
        *next = Some(next.map_or(until, |next| next.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_are_as_far_apart_as_the_operator_wants() {
        let (began, pace) = (Instant::now(), Pace::new(Some(Duration::from_millis(5))));
        for _ in 0..201 {
            pace.turn().await;
        }
        assert_eq!(began.elapsed().as_secs(), 1);
        let (began, free) = (Instant::now(), Pace::new(None));
        for _ in 0..1000 {
            free.turn().await;
        }
        assert!(began.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_goes_before_the_server_wants_us_again() {
        let (began, pace) = (Instant::now(), Pace::new(None));
        let mut error = Error::new(Class::Rate, "too many requests");
        error.retry_after = Some(Duration::from_secs(3));
        pace.heard(&Error::new(Class::Quota, "another matter"));
        pace.turn().await;
        assert!(began.elapsed().is_zero());
        pace.heard(&error);
        pace.turn().await;
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}
