//! What has changed from one observation to the next, and from one plan's holds to the next one's:
//! exactly, so that applying a change to the old gives the new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Answer, BackendName, BackendSeen, Candidate, Hold, JobId, MachineSeen, Observation, OriginSeen,
    QueueKey, QueueSeen, TokenSeen,
};

/// What has changed in a map: values that are new or others, and keys that are gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapChange<K, V> {
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(K, V)>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<K>,
}

impl<K, V> Default for MapChange<K, V> {
    fn default() -> Self {
        Self { set: Vec::new(), gone: Vec::new() }
    }
}

impl<K: Clone + Ord, V> MapChange<K, V> {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.gone.is_empty()
    }

    /// `change` says what is to be set for a key, given its old value; nothing where it is the same.
    fn between<O, N>(
        old: &BTreeMap<K, O>,
        new: &BTreeMap<K, N>,
        mut change: impl FnMut(Option<&O>, &N) -> Option<V>,
    ) -> Self {
        let mut all = Self::default();
        let mut rest = old.iter().peekable();
        for (key, value) in new {
            while let Some((gone, _)) = rest.next_if(|(known, _)| *known < key) {
                all.gone.push(gone.clone());
            }
            let known = rest.next_if(|(known, _)| *known == key).map(|(_, value)| value);
            if let Some(value) = change(known, value) {
                all.set.push((key.clone(), value));
            }
        }
        all.gone.extend(rest.map(|(key, _)| key.clone()));
        all
    }

    fn apply_with<O: Default>(self, map: &mut BTreeMap<K, O>, mut apply: impl FnMut(V, &mut O)) {
        for key in &self.gone {
            map.remove(key);
        }
        for (key, value) in self.set {
            apply(value, map.entry(key).or_default());
        }
    }
}

impl<K: Clone + Ord, V: Clone + PartialEq> MapChange<K, V> {
    fn of_values(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Self {
        Self::between(old, new, |old, new| (old != Some(new)).then(|| new.clone()))
    }

    fn apply(self, map: &mut BTreeMap<K, V>) {
        for key in &self.gone {
            map.remove(key);
        }
        map.extend(self.set);
    }
}

/// What has changed from one round's observation to the next one's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservationChange {
    /// The new one, without its maps.
    pub now: Observation,
    #[serde(default, skip_serializing_if = "MapChange::is_empty")]
    pub queues: MapChange<QueueKey, QueueChange>,
    #[serde(default, skip_serializing_if = "MapChange::is_empty")]
    pub answers: MapChange<JobId, Answer>,
    #[serde(default, skip_serializing_if = "MapChange::is_empty")]
    pub backends: MapChange<BackendName, BackendChange>,
    #[serde(default, skip_serializing_if = "MapChange::is_empty")]
    pub tokens: MapChange<JobId, TokenSeen>,
}

impl ObservationChange {
    pub(super) fn between(old: &Observation, new: &Observation) -> Self {
        // Named one by one, so that nothing that is added to an observation can be left out here.
        let Observation {
            instance,
            dispatch,
            started_at,
            journal_since,
            buildkite,
            queues,
            answers,
            backends,
            rest,
            tokens,
            journal_full,
            draining,
        } = new;
        Self {
            now: Observation {
                instance: Arc::clone(instance),
                dispatch: Arc::clone(dispatch),
                started_at: *started_at,
                journal_since: *journal_since,
                buildkite: *buildkite,
                rest: rest.clone(),
                journal_full: *journal_full,
                draining: *draining,
                ..Observation::default()
            },
            queues: MapChange::between(&old.queues, queues, QueueChange::between),
            answers: MapChange::of_values(&old.answers, answers),
            backends: MapChange::between(&old.backends, backends, BackendChange::between),
            tokens: MapChange::of_values(&old.tokens, tokens),
        }
    }

    pub(super) fn apply(self, seen: &mut Observation) {
        let old = std::mem::replace(seen, self.now);
        seen.queues = old.queues;
        self.queues.apply_with(&mut seen.queues, QueueChange::apply);
        seen.answers = old.answers;
        self.answers.apply(&mut seen.answers);
        seen.backends = old.backends;
        self.backends.apply_with(&mut seen.backends, BackendChange::apply);
        seen.tokens = old.tokens;
        self.tokens.apply(&mut seen.tokens);
    }
}

/// What has changed of a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueChange {
    /// The queue as it is, without its candidates.
    pub now: QueueSeen,
    /// The candidates stand in another order than before: all of them are in `came`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
    /// Candidates that are in the listing no more, or otherwise than before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<JobId>,
    /// Those that are new in it, each with its place in the new listing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<(usize, Arc<Candidate>)>,
    /// Where builds come from, of jobs that were looked at.
    #[serde(default, skip_serializing_if = "MapChange::is_empty")]
    pub origins: MapChange<JobId, OriginSeen>,
}

impl QueueChange {
    fn between(old: Option<&QueueSeen>, new: &QueueSeen) -> Option<Self> {
        let now = bare_queue(new);
        let before = old.map_or(&[][..], |old| &old.candidates);
        let same = old.is_some_and(|old| Arc::ptr_eq(&old.candidates, &new.candidates));
        let mut change = if same {
            Self::without_candidates(now)
        } else {
            Self::of_candidates(before, &new.candidates, now)
        };
        let none = BTreeMap::new();
        change.origins = MapChange::of_values(old.map_or(&none, |old| &old.origins), &new.origins);
        let nothing = !change.anew
            && change.left.is_empty()
            && change.came.is_empty()
            && change.origins.is_empty();
        let unchanged = nothing && old.is_some_and(|old| bare_queue(old) == change.now);
        (!unchanged).then_some(change)
    }

    fn without_candidates(now: QueueSeen) -> Self {
        let (left, came) = (Vec::new(), Vec::new());
        Self { now, anew: false, left, came, origins: MapChange::default() }
    }

    fn of_candidates(old: &[Arc<Candidate>], new: &[Arc<Candidate>], now: QueueSeen) -> Self {
        let known: BTreeMap<JobId, &Arc<Candidate>> =
            new.iter().map(|candidate| (candidate.row.id, candidate)).collect();
        let (stay, leave): (Vec<_>, Vec<_>) = old.iter().partition(|old| {
            known.get(&old.row.id).is_some_and(|new| Arc::ptr_eq(old, new) || old == new)
        });
        let mut stay = stay.into_iter().peekable();
        let mut came = Vec::new();
        for (place, candidate) in new.iter().enumerate() {
            if stay.next_if(|old| old.row.id == candidate.row.id).is_none() {
                came.push((place, Arc::clone(candidate)));
            }
        }
        // A listing that names a job twice is not told by ids.
        if stay.peek().is_none() && known.len() == new.len() && are_distinct(old) {
            let left = leave.into_iter().map(|candidate| candidate.row.id).collect();
            return Self { left, came, ..Self::without_candidates(now) };
        }
        let came = new.iter().cloned().enumerate().collect();
        Self { anew: true, came, ..Self::without_candidates(now) }
    }

    fn apply(self, seen: &mut QueueSeen) {
        let QueueSeen { candidates: old, origins, .. } = std::mem::replace(seen, self.now);
        seen.origins = origins;
        self.origins.apply(&mut seen.origins);
        if !self.anew && self.left.is_empty() && self.came.is_empty() {
            seen.candidates = old;
            return;
        }
        let left: BTreeSet<JobId> = self.left.into_iter().collect();
        let mut stay = old.iter().filter(|old| !self.anew && !left.contains(&old.row.id)).cloned();
        let mut all: Vec<Arc<Candidate>> = Vec::new();
        for (place, candidate) in self.came {
            all.extend(stay.by_ref().take(place.saturating_sub(all.len())));
            all.push(candidate);
        }
        all.extend(stay);
        seen.candidates = all.into();
    }
}

fn are_distinct(candidates: &[Arc<Candidate>]) -> bool {
    let ids: BTreeSet<JobId> = candidates.iter().map(|candidate| candidate.row.id).collect();
    ids.len() == candidates.len()
}

fn bare_queue(seen: &QueueSeen) -> QueueSeen {
    let QueueSeen {
        listed_at,
        paused,
        candidates: _,
        origins: _,
        look_not_before,
        ask_not_before,
        reserve_not_before,
        mint_not_before,
        finish_not_before,
    } = seen;
    QueueSeen {
        listed_at: *listed_at,
        paused: *paused,
        candidates: Arc::default(),
        origins: BTreeMap::new(),
        look_not_before: *look_not_before,
        ask_not_before: *ask_not_before,
        reserve_not_before: *reserve_not_before,
        mint_not_before: *mint_not_before,
        finish_not_before: *finish_not_before,
    }
}

/// What has changed of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendChange {
    /// The backend as it is, without its machines.
    pub now: BackendSeen,
    #[serde(default, skip_serializing_if = "MapChange::is_empty")]
    pub machines: MapChange<(JobId, u32), Arc<MachineSeen>>,
}

impl BackendChange {
    fn between(old: Option<&BackendSeen>, new: &BackendSeen) -> Option<Self> {
        let none = BackendSeen::default();
        let before = old.unwrap_or(&none);
        let machines = MapChange::of_values(&before.machines, &new.machines);
        let now = bare_backend(new);
        let same = machines.is_empty() && old.is_some_and(|old| bare_backend(old) == now);
        (!same).then_some(Self { now, machines })
    }

    fn apply(self, seen: &mut BackendSeen) {
        let old = std::mem::replace(seen, self.now);
        seen.machines = old.machines;
        self.machines.apply(&mut seen.machines);
    }
}

fn bare_backend(seen: &BackendSeen) -> BackendSeen {
    let BackendSeen { listed_at, first_listed_at, machines: _, creates_left, failing } = seen;
    BackendSeen {
        listed_at: *listed_at,
        first_listed_at: *first_listed_at,
        machines: BTreeMap::new(),
        creates_left: *creates_left,
        failing: failing.clone(),
    }
}

/// What has changed from one plan's holds to the next one's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HoldsChange {
    /// By how much the place in each queue has changed for all that wait for a turn in it: when ten
    /// are taken from the head of a thousand, the rest are not worth a line each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ahead: BTreeMap<QueueKey, i64>,
    #[serde(flatten)]
    pub holds: MapChange<JobId, Hold>,
}

impl HoldsChange {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.holds.is_empty()
    }

    /// Brings `holds` to `new`, and says how.
    pub(super) fn bring(holds: &mut BTreeMap<JobId, Hold>, new: &BTreeMap<JobId, Hold>) -> Self {
        let ahead = usual_moves(holds, new);
        move_up(holds, &ahead);
        let change = MapChange::of_values(holds, new);
        change.clone().apply(holds);
        Self { ahead, holds: change }
    }

    pub(super) fn apply(self, holds: &mut BTreeMap<JobId, Hold>) {
        move_up(holds, &self.ahead);
        self.holds.apply(holds);
    }
}

/// Per queue, the change of place that most of its waiting jobs have in common, if it is one.
fn usual_moves(
    old: &BTreeMap<JobId, Hold>,
    new: &BTreeMap<JobId, Hold>,
) -> BTreeMap<QueueKey, i64> {
    let mut counts: BTreeMap<&QueueKey, BTreeMap<i64, usize>> = BTreeMap::new();
    for (job, hold) in new {
        let Some(before) = old.get(job).filter(|before| before.queue == hold.queue) else {
            continue;
        };
        if let (Some(was), Some(is)) = (before.ahead, hold.ahead) {
            let moves = counts.entry(&hold.queue).or_default();
            *moves.entry(i64::from(is) - i64::from(was)).or_default() += 1;
        }
    }
    let usual = counts.into_iter().filter_map(|(queue, moves)| {
        let (by, _) = moves.into_iter().max_by_key(|(_, count)| *count)?;
        (by != 0).then(|| (queue.clone(), by))
    });
    usual.collect()
}

/// A place that would be before the first is left as it is: who is there is told by name.
fn move_up(holds: &mut BTreeMap<JobId, Hold>, by: &BTreeMap<QueueKey, i64>) {
    if by.is_empty() {
        return;
    }
    for hold in holds.values_mut() {
        if let (Some(ahead), Some(by)) = (&mut hold.ahead, by.get(&hold.queue)) {
            *ahead = u32::try_from(i64::from(*ahead).saturating_add(*by)).unwrap_or(*ahead);
        }
    }
}
