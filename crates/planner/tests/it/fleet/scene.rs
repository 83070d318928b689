//! What a seed sets up: the fleet's policy, how long things take, and which bad luck there is.

use std::collections::BTreeSet;
use std::time::Duration;

use planner::fleet::Policy;

use crate::simulation::dice::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Pods take minutes.
    SlowPods,
    /// Pods do not come until all is calm.
    NeverCome,
    /// Pods fail before they are ready.
    DieEarly,
    /// A pod dies under its job.
    Dies,
    /// A pod runs, and its agent never registers.
    Zombies,
    NodeLost,
    LostBefore,
    LostAfter,
    /// The caller gives up, and the request arrives later all the same.
    LateArrival,
    Refused,
    TooMany,
    Delay,
    /// Buildkite's counts are as old as it says that they may be.
    OldCounts,
    CountsFail,
    ClusterFails,
    /// No pods are made and no status is written for minutes.
    ControllerDown,
    Crash,
    /// The process starts again, and the clock shows an earlier hour.
    ClockSetBack,
    Bursts,
    Cancels,
    LimitsChange,
    /// Somebody else's agents serve the queue as well.
    OtherAgents,
}

pub(super) const KINDS: [Kind; 22] = [
    Kind::SlowPods,
    Kind::NeverCome,
    Kind::DieEarly,
    Kind::Dies,
    Kind::Zombies,
    Kind::NodeLost,
    Kind::LostBefore,
    Kind::LostAfter,
    Kind::LateArrival,
    Kind::Refused,
    Kind::TooMany,
    Kind::Delay,
    Kind::OldCounts,
    Kind::CountsFail,
    Kind::ClusterFails,
    Kind::ControllerDown,
    Kind::Crash,
    Kind::ClockSetBack,
    Kind::Bursts,
    Kind::Cancels,
    Kind::LimitsChange,
    Kind::OtherAgents,
];

/// Times are milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) faults: BTreeSet<Kind>,
    pub(super) policy: Policy,
    pub(super) poll: u64,
    /// How old counts may be; what Buildkite says with them.
    pub(super) lag: u64,
    pub(super) jobs: u32,
    /// Until then jobs come and bad luck strikes.
    pub(super) busy: u64,
    pub(super) startup: (u64, u64),
    pub(super) connects: (u64, u64),
    pub(super) runs: (u64, u64),
    pub(super) idle_timeout: u64,
    pub(super) deadline: u64,
    pub(super) ttl: u64,
    pub(super) other_agents: u32,
}

impl Scene {
    pub(super) fn of(seed: u64, dice: &mut Dice) -> Self {
        let single = usize::try_from(seed).ok().and_then(|seed| KINDS.get(seed));
        let faults = match single {
            Some(kind) => BTreeSet::from([*kind]),
            None => (0..dice.between(1, 6)).map(|_| KINDS[dice.index(KINDS.len())]).collect(),
        };
        Self::with(faults, dice)
    }

    pub(super) fn with(faults: BTreeSet<Kind>, dice: &mut Dice) -> Self {
        let has = |kind| faults.contains(&kind);
        let max = dice.small(3, 60);
        let min = if dice.chance(300) { dice.small(1, max / 3) } else { 0 };
        let jobs = dice.small(5, 120);
        let slow = has(Kind::SlowPods);
        let others = has(Kind::OtherAgents);
        Self {
            policy: Policy {
                min,
                max,
                buffer: if dice.chance(600) { dice.small(0, 5) } else { 0 },
                ready_permille: dice.small(100, 1000),
                at_most: Duration::from_secs(dice.between(90, 600)),
            },
            poll: dice.between(3_000, 20_000),
            lag: if has(Kind::OldCounts) { dice.between(1_000, 15_000) } else { 1_000 },
            jobs,
            busy: dice.between(60_000, 1_200_000),
            startup: if slow { (30_000, 400_000) } else { (1_000, 20_000) },
            // With others' agents about, a pod is ready only once its agent has registered.
            connects: if others { (0, 0) } else { (100, 25_000) },
            runs: if dice.chance(400) { (200, 3_000) } else { (2_000, 240_000) },
            idle_timeout: dice.between(30_000, 600_000),
            deadline: dice.between(600_000, 1_800_000),
            ttl: if dice.chance(200) { 0 } else { dice.between(10_000, 300_000) },
            other_agents: if others { dice.small(1, 4) } else { 0 },
            faults,
        }
    }

    /// How long after the calm the last job may still wait for its agent.
    pub(super) fn patience(&self) -> u64 {
        let at_most = u64::try_from(self.policy.at_most.as_millis()).expect("minutes");
        let waves = u64::from(self.jobs.div_ceil(self.policy.max)) + 2;
        let wave = self.startup.1 + self.connects.1 + self.runs.1 + at_most + 4 * self.poll;
        self.deadline + waves * wave + 600_000
    }

    /// How long after the last job agents may still be there.
    pub(super) fn empties(&self) -> u64 {
        self.deadline + self.idle_timeout + self.ttl + self.startup.1 + 600_000
    }
}
