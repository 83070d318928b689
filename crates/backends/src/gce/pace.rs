//! How many changes a minute and region are asked for: inserts and deletes count together, and a
//! share of them is kept for deletes. Google counts by the clock's minutes, and so do we.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

/// The part of a minute's changes that inserts leave to deletes.
const KEPT: u32 = 4;
const MINUTE_MS: i64 = 60_000;
/// Whoever was refused comes back within so much after the minute's edge: not all at once.
const SPREAD_MS: i64 = 3_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Insert,
    Delete,
}

#[derive(Debug)]
pub(super) struct Minutes {
    each: u32,
    regions: Mutex<BTreeMap<String, Minute>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    number: i64,
    inserts: u32,
    all: u32,
    /// Google has refused a call, and will go on until the next minute.
    full: bool,
}

impl Minutes {
    /// At the least so many that one is left for inserts and one for deletes.
    pub(super) fn new(each: u32) -> Self {
        Self { each: each.max(2), regions: Mutex::default() }
    }

    /// Takes one of the minute's changes, or says how long until there are some again.
    pub(super) fn take(&self, region: &str, write: Write, now: Timestamp) -> Result<(), Duration> {
        let mut regions = self.regions.lock().expect("nothing panics while it holds this lock");
        let minute = regions.entry(region.to_owned()).or_default();
        let number = now.as_millisecond().div_euclid(MINUTE_MS);
        if minute.number != number {
            *minute = Minute { number, ..Minute::default() };
        }
        let most_inserts = self.each - (self.each / KEPT).max(1);
        let room = minute.all < self.each
            && match write {
                Write::Insert => minute.inserts < most_inserts,
                Write::Delete => true,
            };
        if minute.full || !room {
            return Err(until_the_next(now, region));
        }
        minute.all += 1;
        if write == Write::Insert {
            minute.inserts += 1;
        }
        Ok(())
    }

    /// Google has refused a call of this minute; how long until it may be repeated.
    pub(super) fn refused(&self, region: &str, now: Timestamp) -> Duration {
        let mut regions = self.regions.lock().expect("nothing panics while it holds this lock");
        let minute = regions.entry(region.to_owned()).or_default();
        let number = now.as_millisecond().div_euclid(MINUTE_MS);
        if minute.number != number {
            *minute = Minute { number, ..Minute::default() };
        }
        minute.full = true;
        until_the_next(now, region)
    }
}

/// Just past the minute's edge, for each region and millisecond of asking at another moment.
fn until_the_next(now: Timestamp, region: &str) -> Duration {
    let millis = now.as_millisecond();
    let rest = MINUTE_MS - millis.rem_euclid(MINUTE_MS);
    let seed = region
        .bytes()
        .fold(millis, |seed, byte| seed.wrapping_mul(31).wrapping_add(i64::from(byte)));
    let spread = seed.wrapping_mul(0x9e37_79b9).rem_euclid(SPREAD_MS);
    Duration::from_millis(u64::try_from(rest + spread).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
    }

    fn taken(minutes: &Minutes, write: Write, now: Timestamp) -> u32 {
        let mut count = 0;
        while minutes.take("r", write, now).is_ok() {
            count += 1;
        }
        count
    }

    #[test]
    fn inserts_leave_a_share_to_deletes_and_the_next_minute_begins_anew() {
        let minutes = Minutes::new(1200);
        assert_eq!(taken(&minutes, Write::Insert, at(10)), 900);
        assert_eq!(taken(&minutes, Write::Delete, at(20)), 300);
        assert!(minutes.take("another", Write::Insert, at(20)).is_ok());
        let wait = minutes.take("r", Write::Insert, at(20)).expect_err("the minute is used up");
        assert!((40..=43).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(taken(&minutes, Write::Delete, at(60)), 1200);
        assert_eq!(taken(&minutes, Write::Insert, at(60)), 0);
    }

    #[test]
    fn a_refusal_closes_the_minute_and_not_all_come_back_at_once() {
        let minutes = Minutes::new(1200);
        let waits: Vec<Duration> =
            (0..50).map(|n| minutes.refused("r", at(30) + Duration::from_millis(n))).collect();
        assert!(waits.iter().all(|wait| (29..=33).contains(&wait.as_secs())), "{waits:?}");
        let ends: std::collections::BTreeSet<u64> = (0..)
            .zip(&waits)
            .map(|(n, wait)| n + u64::try_from(wait.as_millis()).unwrap_or(0))
            .collect();
        assert!(ends.len() > 40, "they are spread: {ends:?}");
        assert!(minutes.take("r", Write::Delete, at(59)).is_err());
        assert!(minutes.take("r", Write::Delete, at(60)).is_ok());
    }

    #[test]
    fn even_the_smallest_rate_lets_both_through() {
        let minutes = Minutes::new(0);
        assert_eq!(taken(&minutes, Write::Insert, at(0)), 1);
        assert_eq!(taken(&minutes, Write::Delete, at(0)), 1);
    }
}
