//! What our virtual machines and their disks bear: labels to be found by, and in the description,
//! which takes any text, the whole of it. Read back it is exactly what was written.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::contract::{Labels, Order};

pub(super) const MARK: &str = "jitney-mark";
/// In the place of the mark, on what is kept for a look: whose it was.
pub(super) const KEPT: &str = "jitney-kept-for";
const JOB: &str = "jitney-job";
const ATTEMPT: &str = "jitney-attempt";
const QUEUE: &str = "jitney-queue";
const DISPATCH: &str = "jitney-dispatch";

/// The longest value of a label.
const LONGEST_LABEL: usize = 63;
/// The longest life that Google takes: 120 days, and the shortest.
const LONGEST_LIFE_S: u64 = 120 * 24 * 3_600;
const SHORTEST_LIFE_S: u64 = 30;

/// A machine's description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    #[serde(rename = "jitney")]
    pub(super) labels: Labels,
    /// From the create on.
    pub(super) deadline_s: u64,
}

impl Stamp {
    pub(super) fn of(order: &Order) -> Self {
        Self { labels: order.labels.clone(), deadline_s: seconds(order.deadline) }
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are always JSON")
    }

    pub(super) fn read(description: &str) -> Result<Self, String> {
        serde_json::from_str(description).map_err(|error| {
            format!("its description is not the one that it was made with: {error}")
        })
    }
}

/// What lists are filtered by, and people look for.
pub(super) fn labels(order: &Order) -> BTreeMap<String, String> {
    let of = &order.labels;
    let pairs = [
        (MARK, of.mark.to_string()),
        (JOB, of.job.to_string()),
        (ATTEMPT, of.attempt.to_string()),
        (QUEUE, fitted(&of.queue)),
        (DISPATCH, fitted(&of.dispatch_id)),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whole seconds, rounded up.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// How long Google lets a machine run.
pub(super) fn run_seconds(order: &Order) -> u64 {
    seconds(order.deadline).clamp(SHORTEST_LIFE_S, LONGEST_LIFE_S)
}

/// As much of a text as a label takes.
fn fitted(text: &str) -> String {
    let fit = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_') => c,
        _ => '-',
    };
    text.chars().map(fit).take(LONGEST_LABEL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gce::instance::tests::order;

    #[test]
    fn what_is_written_is_read_back_exactly() {
        let mut order = order();
        order.labels.queue = "a queue with \"quotes\", ümläuts = and, commas".into();
        order.labels.instance = "host.example/1".into();
        (order.labels.attempt, order.labels.memory_bytes) = (u32::MAX, u64::MAX);
        let stamp = Stamp::of(&order);
        assert_eq!(Stamp::read(&stamp.text()), Ok(stamp));
        assert!(!Stamp::of(&order).text().contains("bkjat"));
        let labels = labels(&order);
        assert_eq!(labels[QUEUE], "a-queue-with--quotes----ml-uts---and--commas");
        assert!(Stamp::read("a machine of mine").is_err());
    }

    #[test]
    fn lives_are_as_long_as_google_takes_them() {
        let mut order = order();
        for (deadline, expected) in
            [(1, 30), (31, 31), (7_500, 7_500), (365 * 24 * 3_600, LONGEST_LIFE_S)]
        {
            order.deadline = Duration::from_secs(deadline);
            assert_eq!(run_seconds(&order), expected);
        }
    }
}
