//! What is in use, by whose limit it counts, and what still fits.

use std::collections::BTreeMap;

use crate::ledger::{Used, sum};
use crate::{Bound, Bytes, Cpu, Limits, QueueKey, Scope};

/// What is held now counts for so much longer: the longer, the less the past weighs.
const AHEAD_MILLIS: u64 = 60_000;

/// Machines, vCPU, memory and price of what is live or promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub machines: u32,
    pub cpu: u64,
    pub memory: u64,
    pub cost_micros_per_hour: u64,
}

impl Amount {
    pub(super) fn machine(cpu: Cpu, memory: Bytes, cost_micros_per_hour: u64) -> Self {
        Self {
            machines: 1,
            cpu: u64::from(cpu.millis()),
            memory: memory.get(),
            cost_micros_per_hour,
        }
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            machines: self.machines.saturating_add(other.machines),
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            cost_micros_per_hour: self
                .cost_micros_per_hour
                .saturating_add(other.cost_micros_per_hour),
        }
    }

    /// The first limit that this exceeds.
    pub(super) fn over(&self, limits: &Limits) -> Option<Bound> {
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        if over(limits.machines.map(u64::from), u64::from(self.machines)) {
            Some(Bound::Machines)
        } else if over(limits.cpu.map(|cpu| u64::from(cpu.millis())), self.cpu) {
            Some(Bound::Cpu)
        } else if over(limits.memory.map(Bytes::get), self.memory) {
            Some(Bound::Memory)
        } else if over(limits.cost_micros_per_hour, self.cost_micros_per_hour) {
            Some(Bound::CostPerHour)
        } else {
            None
        }
    }
}

/// The sums, each under its scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    sums: BTreeMap<Scope, Amount>,
    /// What each queue has used lately.
    spent: BTreeMap<QueueKey, Used>,
}

impl Usage {
    pub(super) fn add(&mut self, scope: &Scope, amount: Amount) {
        if let Some(sum) = self.sums.get_mut(scope) {
            *sum = sum.plus(amount);
        } else {
            self.sums.insert(scope.clone(), amount);
        }
    }

    /// Counts what a queue has used lately, beside what it holds.
    pub(super) fn spend(&mut self, queue: &QueueKey, used: Used) {
        if let Some(before) = self.spent.get_mut(queue) {
            *before = sum(*before, used);
        } else {
            self.spent.insert(queue.clone(), used);
        }
    }

    /// How far a queue has had its turns: what it used lately and is about to use of what it holds
    /// now, of that limit of which it takes most. Without a limit, vCPU count.
    pub(super) fn turns(&self, queue: &QueueKey, limits: &Limits) -> u64 {
        let held = self.of(&Scope::Queue(queue.clone()));
        let held =
            [u64::from(held.machines), held.cpu, held.memory >> 20, held.cost_micros_per_hour];
        let spent = self.spent.get(queue).copied().unwrap_or_default();
        let used = sum(spent, held.map(|amount| amount.saturating_mul(AHEAD_MILLIS)));
        let most = [
            limits.machines.map(u64::from),
            limits.cpu.map(|cpu| u64::from(cpu.millis())),
            limits.memory.map(|memory| memory.get() >> 20),
            limits.cost_micros_per_hour,
        ];
        let parts = used.into_iter().zip(most);
        let part =
            |(used, most): (u64, Option<u64>)| Some(used.saturating_mul(1000) / most?.max(1));
        parts.filter_map(part).max().unwrap_or(used[1])
    }

    pub(super) fn of(&self, scope: &Scope) -> Amount {
        self.sums.get(scope).copied().unwrap_or_default()
    }

    /// The first limit that `more` would break.
    pub(super) fn broken(&self, scope: &Scope, limits: &Limits, more: Amount) -> Option<Bound> {
        // Most scopes have none: then nothing is looked up.
        if *limits == Limits::default() {
            return None;
        }
        self.of(scope).plus(more).over(limits)
    }
}
