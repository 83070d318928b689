//! How two plans for the same round differ, part by part. What it means is for people to say.

use std::collections::BTreeMap;
use std::fmt::Debug;

use planner::{Plan, Recorded, Timestamp};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// A round that is decided otherwise than it was.
#[derive(Debug, Serialize)]
pub(super) struct Differing {
    pub(super) round: u64,
    pub(super) at: Timestamp,
    pub(super) dispatch: String,
    pub(super) differences: Vec<Difference>,
}

/// One thing that only one of the plans has, or that they have otherwise.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    /// `fact`, `step`, `hold`, `alarm`, `wake_at`.
    pub(super) part: &'static str,
    pub(super) recorded: Option<Box<RawValue>>,
    pub(super) replayed: Option<Box<RawValue>>,
}

impl Differing {
    pub(super) fn between(round: u64, dispatch: &str, recorded: &Recorded, again: &Plan) -> Self {
        let Recorded { now, plan } = recorded;
        // Named one by one, so that nothing that is added to a plan can be left out here.
        let Plan { facts, steps, holds, alarms, wake_at } = plan;
        let mut differences = Vec::new();
        of_lists("fact", facts, &again.facts, &mut differences);
        of_lists("step", steps, &again.steps, &mut differences);
        of_maps("hold", holds, &again.holds, &mut differences);
        of_lists("alarm", alarms, &again.alarms, &mut differences);
        if *wake_at != again.wake_at {
            differences.push(Difference {
                part: "wake_at",
                recorded: wake_at.as_ref().map(raw),
                replayed: again.wake_at.as_ref().map(raw),
            });
        }
        Self { round, at: *now, dispatch: dispatch.to_owned(), differences }
    }
}

/// With its fields in the order in which they are declared: the first words say most.
pub(super) fn raw(part: &impl Serialize) -> Box<RawValue> {
    to_raw_value(part).expect("parts of a round have a JSON form")
}

/// What is in one of them and not, or not as often, in the other; where both have the same, the
/// first place at which their orders part.
fn of_lists<T: Debug + PartialEq + Serialize>(
    part: &'static str,
    recorded: &[T],
    replayed: &[T],
    all: &mut Vec<Difference>,
) {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let text = |item: &T| raw(item).get().to_owned();
    for item in recorded {
        *counts.entry(text(item)).or_default() += 1;
    }
    for item in replayed {
        *counts.entry(text(item)).or_default() -= 1;
    }
    let before = all.len();
    for item in recorded {
        let count = counts.entry(text(item)).or_default();
        if *count > 0 {
            *count -= 1;
            all.push(Difference { part, recorded: Some(raw(item)), replayed: None });
        }
    }
    for item in replayed {
        let count = counts.entry(text(item)).or_default();
        if *count < 0 {
            *count += 1;
            all.push(Difference { part, recorded: None, replayed: Some(raw(item)) });
        }
    }
    if all.len() == before
        && let Some((one, other)) = recorded.iter().zip(replayed).find(|(one, other)| one != other)
    {
        let (recorded, replayed) = (Some(raw(one)), Some(raw(other)));
        all.push(Difference { part, recorded, replayed });
    }
}

/// Each with the key that it stands under.
fn of_maps<K: Ord + Serialize, V: PartialEq + Serialize>(
    part: &'static str,
    recorded: &BTreeMap<K, V>,
    replayed: &BTreeMap<K, V>,
    all: &mut Vec<Difference>,
) {
    let pair = |key: &K, one: &V| raw(&(key, one));
    for (key, one) in recorded {
        let other = replayed.get(key);
        if other != Some(one) {
            let (recorded, replayed) = (Some(pair(key, one)), other.map(|other| pair(key, other)));
            all.push(Difference { part, recorded, replayed });
        }
    }
    for (key, other) in replayed {
        if !recorded.contains_key(key) {
            all.push(Difference { part, recorded: None, replayed: Some(pair(key, other)) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-` was recorded, `+` is replayed, each behind the place that they share.
    fn shown(all: &[Difference]) -> String {
        let text = |sign: &str, value: &Option<Box<RawValue>>| {
            value.as_ref().map_or_else(String::new, |value| format!("{sign}{}", value.get()))
        };
        let each = all
            .iter()
            .map(|one| format!("{}{}", text("-", &one.recorded), text("+", &one.replayed)));
        each.collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check_lists(recorded: &[u32], replayed: &[u32], expected: &str) {
        let mut all = Vec::new();
        of_lists("step", recorded, replayed, &mut all);
        assert_eq!(shown(&all), expected);
    }

    #[test]
    fn lists_differ_by_what_one_of_them_lacks_or_by_their_order() {
        check_lists(&[1, 2, 3], &[1, 2, 3], "");
        check_lists(&[1, 2, 3], &[1, 3], "-2");
        check_lists(&[1, 1], &[1], "-1");
        check_lists(&[1], &[1, 1, 4], "+1 +4");
        check_lists(&[1, 2, 3], &[1, 3, 2], "-2+3");
    }

    #[test]
    fn maps_differ_key_by_key() {
        let one = BTreeMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        let other = BTreeMap::from([(1, 'a'), (2, 'x'), (4, 'd')]);
        let mut all = Vec::new();
        of_maps("hold", &one, &other, &mut all);
        assert_eq!(shown(&all), r#"-[2,"b"]+[2,"x"] -[3,"c"] +[4,"d"]"#);
    }
}
