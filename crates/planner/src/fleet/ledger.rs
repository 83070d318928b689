//! What a fleet has to remember between rounds, and nothing that the cluster tells: the request
//! that was sent last, and what the listings before this one showed as ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{ARRIVAL, Dispatch, DispatchId, FRESH, Listing, Policy};
use crate::Timestamp;

/// How far back listings are remembered: as far as counts that are still of use may reach.
const REMEMBERED: Duration = FRESH.saturating_mul(2);
/// The first pause after a refusal; doubled each time.
const REFUSED: Duration = Duration::from_secs(10);
const REFUSED_MOST: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    pub(super) started_at: Timestamp,
    asked: Option<Asked>,
    /// In a row.
    refusals: u32,
    past: VecDeque<Past>,
    /// A clock that was set back must not make what is there young again and again.
    first_seen: BTreeMap<DispatchId, Timestamp>,
}

/// The request to make a dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub id: DispatchId,
    pub agents: u32,
    pub state: State,
    /// When the last of its tries that got no answer was given up.
    pub unanswered_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    UnderWay,
    Made {
        at: Timestamp,
    },
    /// It may have been made, or may yet be.
    Unanswered {
        at: Timestamp,
        words: Arc<str>,
    },
    Refused {
        until: Timestamp,
        words: Arc<str>,
    },
}

impl Asked {
    /// A try that got no answer may arrive until then, even where a later one has, and what that
    /// made has ended and is gone.
    pub(super) fn doubted_until(&self, listing: &Listing) -> Option<Timestamp> {
        let until = self.unanswered_at?.plus(ARRIVAL);
        (listing.began_at < until).then_some(until)
    }
}

/// What one listing showed of each dispatch: (wanted, ended).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) ended_at: Timestamp,
    pub(super) dispatches: BTreeMap<DispatchId, (u32, u32)>,
}

/// The only way that a ledger changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Listed(&'a Listing),
    /// Written down before the request is sent.
    Asks {
        id: DispatchId,
        agents: u32,
    },
    Answered {
        at: Timestamp,
        outcome: Outcome,
    },
}

/// How a request came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Now or before: a name that is taken is success.
    Made,
    Unanswered {
        words: Arc<str>,
    },
    /// Nothing was made.
    Refused {
        words: Arc<str>,
        /// Not before, as the cluster says.
        after: Option<Duration>,
    },
}

impl Ledger {
    /// Of a process that has just started.
    #[must_use]
    pub const fn new(started_at: Timestamp) -> Self {
        Self {
            started_at,
            asked: None,
            refusals: 0,
            past: VecDeque::new(),
            first_seen: BTreeMap::new(),
        }
    }

    pub fn record(&mut self, event: Event<'_>) {
        match event {
            Event::Listed(listing) => self.listed(listing),
            Event::Asks { id, agents } => {
                // A try before this one may still arrive, whatever becomes of this one.
                let before = self.asked.as_ref().filter(|asked| asked.id == id);
                let unanswered_at = before.and_then(|asked| asked.unanswered_at);
                let state = State::UnderWay;
                self.asked = Some(Asked { id, agents, state, unanswered_at });
            }
            Event::Answered { at, outcome } => self.answered(at, outcome),
        }
    }

    fn listed(&mut self, listing: &Listing) {
        let of = |dispatch: &Dispatch| (dispatch.id, (dispatch.wanted, dispatch.ended()));
        let dispatches: BTreeMap<_, _> = listing.dispatches.iter().map(of).collect();
        self.first_seen.retain(|id, _| dispatches.contains_key(id));
        for id in dispatches.keys() {
            self.first_seen.entry(*id).or_insert(listing.ended_at);
        }
        self.past.push_back(Past { ended_at: listing.ended_at, dispatches });
        let oldest = listing.ended_at.minus(REMEMBERED);
        while self.past.get(1).is_some_and(|past| past.ended_at <= oldest) {
            self.past.pop_front();
        }
    }

    fn answered(&mut self, at: Timestamp, outcome: Outcome) {
        let refusals = self.refusals.saturating_add(1);
        let Some(asked) = &mut self.asked else { return };
        self.refusals = 0;
        asked.state = match outcome {
            Outcome::Made => State::Made { at },
            Outcome::Unanswered { words } => {
                asked.unanswered_at = Some(at);
                State::Unanswered { at, words }
            }
            Outcome::Refused { words, after } => {
                self.refusals = refusals;
                let pause = REFUSED.saturating_mul(1 << (refusals - 1).min(8)).min(REFUSED_MOST);
                let until = at.plus(after.map_or(pause, |after| after.max(Duration::from_secs(1))));
                State::Refused { until, words }
            }
        };
    }

    /// The last request, where the listing cannot tell yet what becomes of it.
    pub(super) fn unseen(&self, listing: &Listing) -> Option<&Asked> {
        let asked = self.asked.as_ref()?;
        let open = match &asked.state {
            State::UnderWay => true,
            State::Made { at } => !listing.has(asked.id) && listing.began_at < *at,
            State::Unanswered { .. } | State::Refused { .. } => false,
        };
        (open || asked.doubted_until(listing).is_some()).then_some(asked)
    }

    pub(super) fn refused_until(&self, now: Timestamp) -> Option<(Timestamp, Arc<str>)> {
        match &self.asked.as_ref()?.state {
            State::Refused { until, words, .. } if *until > now => Some((*until, words.clone())),
            State::Refused { .. }
            | State::UnderWay
            | State::Made { .. }
            | State::Unanswered { .. } => None,
        }
    }

    /// Why the last request was refused, if it was.
    pub(super) fn refusal(&self) -> Option<Arc<str>> {
        match &self.asked.as_ref()?.state {
            State::Refused { words, .. } => Some(words.clone()),
            State::UnderWay | State::Made { .. } | State::Unanswered { .. } => None,
        }
    }

    pub(super) fn age(&self, dispatch: &Dispatch, now: Timestamp) -> Duration {
        let first_seen = self.first_seen.get(&dispatch.id).copied().unwrap_or(now);
        now.since(dispatch.made_at).max(now.since(first_seen))
    }

    /// The youngest dispatch of which too little has arrived and whose time is not over, with its age.
    pub(super) fn awaited<'a>(
        &self,
        listing: &'a Listing,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<(&'a Dispatch, Duration)> {
        let dispatches = listing.dispatches.iter();
        let awaited = dispatches.filter(|dispatch| !dispatch.has_arrived(policy.ready_permille));
        let aged = awaited.map(|dispatch| (dispatch, self.age(dispatch, now)));
        let young = aged.filter(|(_, age)| *age < policy.at_most);
        young.min_by_key(|(dispatch, age)| (*age, dispatch.id))
    }

    /// Pods that may have been there at `then` and have ended since. None: no listing of ours goes
    /// back so far.
    pub(super) fn ended_since(&self, then: Timestamp, listing: &Listing) -> Option<u32> {
        let from = self.past.iter().rposition(|past| past.ended_at <= then)?;
        let mut before: BTreeMap<DispatchId, (u32, u32)> = BTreeMap::new();
        for past in self.past.iter().skip(from) {
            for (id, (wanted, ended)) in &past.dispatches {
                // What a later listing is the first to show had not ended before.
                let known = if past.ended_at <= then { *ended } else { 0 };
                before.entry(*id).or_insert((*wanted, known));
            }
        }
        let now: BTreeMap<DispatchId, u32> =
            listing.dispatches.iter().map(|d| (d.id, d.ended())).collect();
        let mut since = 0_u32;
        for (id, (wanted, ended)) in &before {
            // What is not listed any more has ended as a whole.
            let ended_now = now.get(id).copied().unwrap_or(*wanted);
            since = since.saturating_add(ended_now.saturating_sub(*ended));
        }
        let new = now.iter().filter(|(id, _)| !before.contains_key(id));
        Some(new.fold(since, |sum, (_, ended)| sum.saturating_add(*ended)))
    }
}
