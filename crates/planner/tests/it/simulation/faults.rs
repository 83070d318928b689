//! The kinds of bad luck, which of them a seed has, and how a call fares on its way. What a kind
//! does to a job or a machine is told where jobs and machines live.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use planner::BackendName;

use super::dice::Dice;
use super::mask::Mask;
use super::world::Sim;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    LostBefore,
    LostAfter,
    /// The caller gives up, and the request arrives later all the same.
    LateArrival,
    ServerError,
    TooMany,
    Delay,
    /// A call takes minutes: its answer comes very late, or it takes effect long after the caller
    /// has given it up.
    LongDelay,
    StaleQueue,
    StaleMachines,
    HalfListing,
    /// A backend lists only some of its machines, and says so.
    PartialListing,
    AnswerOmits,
    BuildkiteOutage,
    BackendOutage,
    OtherStack,
    /// Buildkite refuses a reservation that it could give.
    Refused,
    ShortLease,
    TokenDiesEarly,
    NotIssued,
    NeverStarts,
    DiesBefore,
    DiesAfter,
    /// The cloud takes a machine away, and the guest hears of it in time.
    PreemptedWithNotice,
    /// The cloud takes a machine away at once.
    Preempted,
    StartsAtTheTimeout,
    Lingers,
    Vanishes,
    RunsTooLong,
    Capacity,
    Quota,
    Rejected,
    Denied,
    /// A place takes a create, and then does not have the machine.
    RefusedLater,
    SlowDelete,
    Cancels,
    Pauses,
    Priorities,
    /// The operator changes the limits while jobs come.
    LimitsChange,
    Crash,
    CrashLoop,
    LostJournal,
    JournalFull,
    Drained,
    Frozen,
    /// The process starts again, and the clock shows another hour.
    ClockSet,
    /// The clocks of Buildkite and of the backends are minutes off.
    OtherClocks,
    TwoInstallations,
    /// Buildkite gives a job to an agent that never takes it up, and takes it back.
    TakenBack,
}

pub(crate) const KINDS: [Kind; 48] = [
    Kind::LostBefore,
    Kind::LostAfter,
    Kind::LateArrival,
    Kind::ServerError,
    Kind::TooMany,
    Kind::Delay,
    Kind::LongDelay,
    Kind::StaleQueue,
    Kind::StaleMachines,
    Kind::HalfListing,
    Kind::PartialListing,
    Kind::AnswerOmits,
    Kind::BuildkiteOutage,
    Kind::BackendOutage,
    Kind::OtherStack,
    Kind::Refused,
    Kind::ShortLease,
    Kind::TokenDiesEarly,
    Kind::NotIssued,
    Kind::NeverStarts,
    Kind::DiesBefore,
    Kind::DiesAfter,
    Kind::PreemptedWithNotice,
    Kind::Preempted,
    Kind::StartsAtTheTimeout,
    Kind::Lingers,
    Kind::Vanishes,
    Kind::RunsTooLong,
    Kind::Capacity,
    Kind::Quota,
    Kind::Rejected,
    Kind::Denied,
    Kind::SlowDelete,
    Kind::Cancels,
    Kind::Pauses,
    Kind::Priorities,
    Kind::LimitsChange,
    Kind::Crash,
    Kind::CrashLoop,
    Kind::LostJournal,
    Kind::JournalFull,
    Kind::Drained,
    Kind::Frozen,
    Kind::ClockSet,
    Kind::OtherClocks,
    Kind::TwoInstallations,
    Kind::RefusedLater,
    Kind::TakenBack,
];

/// Where a crash is put on purpose: at the n-th step that the shell carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrashAt {
    pub(crate) step: u64,
    pub(crate) point: Point,
}

/// What a process that dies around a step did not come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Nothing is in the journal yet.
    Journal,
    /// It is in the journal, and the call has not been sent.
    Call,
    /// The call is on its way.
    Reply,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    on: BTreeSet<Kind>,
    calm: bool,
    /// How often each kind has done its harm.
    struck: BTreeMap<Kind, u64>,
    /// What cannot be reached just now.
    pub(crate) buildkite_down: bool,
    pub(crate) backend_down: BTreeSet<BackendName>,
    pub(crate) crash_at: Option<CrashAt>,
    /// Somebody cancels the job that this step is about, the moment before it.
    pub(crate) cancel_at: Option<u64>,
    pub(crate) crashes_left: u32,
    pub(crate) mask: Mask,
    /// How many times rarer each strike is than where every minute is to have its share of them;
    /// 0 is as good as 1.
    pub(crate) rarer: u64,
}

impl Faults {
    /// No bad luck at all, but perhaps one crash that is put on purpose.
    pub(crate) fn none(crash_at: Option<CrashAt>) -> Self {
        Self { crash_at, ..Self::default() }
    }

    pub(crate) fn only(kinds: &[Kind]) -> Self {
        Self { on: kinds.iter().copied().collect(), crashes_left: 6, ..Self::default() }
    }

    /// The first seeds have one kind each, so that a failure names its cause; the others have
    /// two to eight together.
    pub(crate) fn of(seed: u64, dice: &mut Dice) -> Self {
        if let Some(kind) = usize::try_from(seed).ok().and_then(|seed| KINDS.get(seed)) {
            return Self::only(&[*kind]);
        }
        let count = dice.between(2, 8);
        let kinds: Vec<Kind> = (0..count).map(|_| KINDS[dice.index(KINDS.len())]).collect();
        Self::only(&kinds)
    }

    /// A crash or a cancel at one step, beside what there is.
    pub(crate) fn and_at(self, crash_at: Option<CrashAt>, cancel_at: Option<u64>) -> Self {
        Self { crash_at, cancel_at, ..self }
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        !self.calm && self.on.contains(&kind)
    }

    /// Whether this kind was there before the calm.
    pub(crate) fn had(&self, kind: Kind) -> bool {
        self.on.contains(&kind)
    }

    /// A kind of bad luck has done its harm.
    pub(crate) fn count(&mut self, kind: Kind) {
        *self.struck.entry(kind).or_default() += 1;
    }

    pub(crate) fn struck(&self) -> &BTreeMap<Kind, u64> {
        &self.struck
    }

    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.on.iter().copied().collect()
    }

    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.buildkite_down = false;
        self.backend_down.clear();
        self.crashes_left = 0;
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm
    }
}

/// Whom a call goes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Side {
    Buildkite,
    Backend(BackendName),
}

/// How a call fares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Route {
    /// After how long it takes effect; none: never.
    pub(crate) arrives: Option<Duration>,
    /// After how long the caller knows.
    pub(crate) returns: Duration,
    pub(crate) brings: Brings,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Brings {
    Word,
    Nothing,
    ServerError,
    TooMany,
}

/// After this the caller gives a call up.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that any caller waits.
const LONG_TIMEOUT: Duration = Duration::from_secs(60);

impl Sim<'_> {
    /// Whether this kind of bad luck is to strike, here or later; it counts when it does harm.
    pub(crate) fn looms(&mut self, kind: Kind, per_mille: u64) -> bool {
        let of = 1000 * self.faults.rarer.max(1);
        self.faults.has(kind) && self.faults.mask.strikes(kind, per_mille, of)
    }

    /// Whether this kind of bad luck strikes now.
    pub(crate) fn strikes(&mut self, kind: Kind, per_mille: u64) -> bool {
        let strikes = self.looms(kind, per_mille);
        if strikes {
            self.faults.count(kind);
        }
        strikes
    }

    pub(crate) fn is_down(&self, side: &Side) -> bool {
        match side {
            Side::Buildkite => self.faults.buildkite_down,
            Side::Backend(name) => self.faults.backend_down.contains(name),
        }
    }

    pub(crate) fn route(&mut self, side: &Side) -> Route {
        let there = self.dice.millis(5, 40);
        let back = self.dice.millis(5, 40);
        let given_up = if self.dice.chance(500) { CALL_TIMEOUT } else { self.dice.millis(20, 500) };
        if self.is_down(side) {
            let brings = if self.dice.chance(500) { Brings::ServerError } else { Brings::Nothing };
            return Route { arrives: None, returns: given_up, brings };
        }
        if self.strikes(Kind::LostBefore, 100) {
            return Route { arrives: None, returns: given_up, brings: Brings::Nothing };
        }
        if self.strikes(Kind::LostAfter, 100) {
            let returns = given_up.max(there);
            return Route { arrives: Some(there), returns, brings: Brings::Nothing };
        }
        // Where a listing is the truth, what it does not show does not come later either.
        let lags = match side {
            Side::Buildkite => true,
            Side::Backend(name) => {
                self.policy.backends.get(name).is_some_and(|backend| !backend.listing_lag.is_zero())
            }
        };
        if lags && self.strikes(Kind::LateArrival, 100) {
            let returns = self.dice.millis(20, 500);
            let arrives = Some(returns + self.dice.millis(1, 6_000));
            return Route { arrives, returns, brings: Brings::Nothing };
        }
        if self.strikes(Kind::LongDelay, 40) {
            return self.long_delay(lags);
        }
        if self.strikes(Kind::ServerError, 100) {
            let arrives = self.dice.chance(300).then_some(there);
            return Route { arrives, returns: there + back, brings: Brings::ServerError };
        }
        if self.strikes(Kind::TooMany, 150) {
            return Route { arrives: None, returns: there + back, brings: Brings::TooMany };
        }
        if self.strikes(Kind::Delay, 200) {
            let there = there + self.dice.millis(0, 4_000);
            let back = back + self.dice.millis(0, 5_000);
            return Route { arrives: Some(there), returns: there + back, brings: Brings::Word };
        }
        Route { arrives: Some(there), returns: there + back, brings: Brings::Word }
    }

    /// The answer comes within the patience of the caller, or the call takes effect minutes after.
    fn long_delay(&mut self, lags: bool) -> Route {
        let patience = LONG_TIMEOUT;
        if !lags || self.dice.chance(500) {
            let returns = self.dice.millis(10_000, 60_000);
            let arrives = Some(returns / 2);
            return Route { arrives, returns, brings: Brings::Word };
        }
        let arrives = Some(patience + self.dice.millis(1, 180_000));
        Route { arrives, returns: patience, brings: Brings::Nothing }
    }
}
