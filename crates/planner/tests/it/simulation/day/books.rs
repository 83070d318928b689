//! The books of a day: what machines cost and what of it was wasted, how long jobs waited and for
//! what. Kept while the day runs, from the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use planner::{Bound, FailureClass, JobId, Reason};

use super::super::tally::Waits;

/// So many of the longest waits are told one by one.
const LONGEST: usize = 6;

#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// By how they ended.
    pub(super) jobs: BTreeMap<&'static str, u64>,
    /// How many jobs had so many machines.
    pub(super) attempts: BTreeMap<u64, u64>,
    pub(super) machines: u64,
    pub(super) on_spot: u64,
    /// Creates that no machine came of: their zone had none.
    pub(super) refused: u64,
    pub(super) never_had: u64,
    /// Spot machines that were taken back before an agent had the job, and after.
    pub(super) preempted: [u64; 2],
    pub(super) spent: Spent,
    /// What the machines that did their jobs would have cost without spot.
    pub(super) on_demand: u128,
    pub(super) retried_on_spot: u64,
    pub(super) retried_off_spot: u64,
    pub(super) most: Most,
    pub(super) hours: Vec<Hour>,
    pub(super) waited: Waits,
    pub(super) longest: Vec<Wait>,
    /// Of jobs that wait: for what, in seconds.
    pub(super) causes: BTreeMap<JobId, BTreeMap<&'static str, u32>>,
}

/// Where machine time went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) all: Amount,
    /// Until the agent had connected.
    pub(super) before: Amount,
    pub(super) work: Amount,
    pub(super) after: Amount,
    /// Machines that never had a job.
    pub(super) failed: Amount,
    /// Work on jobs that were lost with their machines.
    pub(super) lost: Amount,
}

/// Machine time, and what it costs in millionths of an hour's price times milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) millis: u128,
    pub(super) cost: u128,
}

impl Amount {
    pub(super) fn of(span: Duration, price: u64) -> Self {
        let millis = span.as_millis();
        Self { millis, cost: millis * u128::from(price) }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.millis += more.millis;
        self.cost += more.cost;
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Most {
    pub(super) machines: u32,
    pub(super) cpu_millis: u64,
    pub(super) memory: u64,
}

/// What an hour of the day had at most, and in all.
#[derive(Clone, Debug, Default)]
pub(super) struct Hour {
    pub(super) machines: u32,
    pub(super) cpu_millis: u64,
    pub(super) waiting: u32,
    pub(super) came: u64,
    pub(super) waited: Waits,
}

#[derive(Clone, Debug)]
pub(super) struct Wait {
    pub(super) span: Duration,
    pub(super) shape: String,
    pub(super) machines: u64,
    pub(super) causes: Vec<(&'static str, u32)>,
}

impl Books {
    pub(super) fn hour(&mut self, hour: usize) -> &mut Hour {
        if self.hours.len() <= hour {
            self.hours.resize_with(hour + 1, Hour::default);
        }
        &mut self.hours[hour]
    }

    /// One more second of waiting.
    pub(super) fn waits(&mut self, job: JobId, reason: &Reason) {
        *self.causes.entry(job).or_default().entry(cause(reason)).or_default() += 1;
    }

    pub(super) fn had(&mut self, wait: Wait) {
        self.longest.push(wait);
        self.longest.sort_by_key(|wait| std::cmp::Reverse(wait.span));
        self.longest.truncate(LONGEST);
    }
}

const fn cause(reason: &Reason) -> &'static str {
    match reason {
        Reason::Limit { limit, .. } => match limit {
            Bound::Machines => "the limit of machines",
            Bound::Cpu => "the limit of vCPU",
            Bound::Memory => "the limit of memory",
            Bound::CostPerHour => "the limit of cost",
            Bound::Turn => "a larger job before it",
        },
        Reason::CoolingDown { failure, .. } => cooling(failure.class),
        Reason::BackingOff { .. } => "the pause after a failed machine",
        Reason::Starting { .. } | Reason::AgentConnected { .. } => "its machine's start",
        Reason::Creating { .. } => "the cloud's answer",
        Reason::Removing { .. } => "the removal of an earlier machine",
        Reason::CreateRate { .. }
        | Reason::QueuePaused
        | Reason::Draining
        | Reason::JournalFull
        | Reason::BuildkiteUnreachable
        | Reason::BackendUnreachable { .. }
        | Reason::TwoInstallations { .. }
        | Reason::LookingUp { .. }
        | Reason::Reserving
        | Reason::LeaseLapsing
        | Reason::Failing
        | Reason::Foreign { .. } => reason.key(),
    }
}

const fn cooling(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Capacity => "zones without room",
        FailureClass::Quota => "a quota",
        FailureClass::Rate
        | FailureClass::Ambiguous
        | FailureClass::Rejected
        | FailureClass::Denied
        | FailureClass::EndedEarly
        | FailureClass::StartTimeout
        | FailureClass::Lost => "another failure of the cloud",
    }
}
