//! The calibration loop: a fixed amount of the kind of work that Jitney does (walks of and look-ups
//! in ordered maps of shared records, small allocations, sorting, hashing), with nothing of Jitney
//! in it. Its records take about as much memory as what it stands beside, so that it feels a shared
//! cache alike.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::process::thread_processor;

/// A turn goes through so many.
const TURN: u32 = 10_000;
/// Spreads the keys: neighbours in time are none in the map.
const SPREAD: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;

#[derive(Debug)]
struct Record {
    words: Vec<String>,
    numbers: [u64; 32],
}

/// What the loop walks over, made once.
#[derive(Debug)]
pub(super) struct Calibration {
    records: BTreeMap<Uuid, Arc<Record>>,
    marks: BTreeMap<Uuid, u32>,
    laps: u32,
}

impl Calibration {
    /// Of so many records; the fewer they are, the more often a turn goes through them.
    pub(super) fn of(records: u32) -> Self {
        let key = |number: u32| Uuid::from_u128(u128::from(number).wrapping_mul(SPREAD));
        let record = |number: u32| Record {
            words: (0..8).map(|word| format!("word {word} of {number}")).collect(),
            numbers: [u64::from(number); 32],
        };
        let all = (0..records).map(|number| (key(number), Arc::new(record(number)))).collect();
        let marks = (0..records).map(|number| (key(number), number % 7)).collect();
        Self { records: all, marks, laps: TURN / records }
    }

    /// What so many turns of the loop take of a processor, on this thread.
    pub(super) fn cost(&self, turns: u32) -> Duration {
        let before = thread_processor();
        for lap in 0..turns * self.laps {
            black_box(self.lap(lap));
        }
        thread_processor().saturating_sub(before)
    }

    fn lap(&self, lap: u32) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut chosen: Vec<(u64, String, Arc<Record>)> = Vec::new();
        for (key, record) in &self.records {
            let mark = self.marks.get(key).copied().unwrap_or_default();
            record.numbers[usize::from(mark == 0)].hash(&mut hasher);
            for word in &record.words {
                word.len().hash(&mut hasher);
            }
            if mark < 2 {
                chosen.push((hasher.finish(), format!("{lap}/{mark}"), Arc::clone(record)));
            }
        }
        chosen.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let by_words: BTreeMap<&str, &Arc<Record>> = chosen
            .iter()
            .filter_map(|(_, _, record)| Some((record.words.last()?.as_str(), record)))
            .collect();
        by_words.keys().for_each(|words| words.hash(&mut hasher));
        hasher.finish()
    }
}
