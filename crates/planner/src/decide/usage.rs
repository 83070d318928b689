//! What is in use, by whose limit it counts, and what still fits.

use std::collections::BTreeMap;

use crate::{Bytes, Cpu, Limits, Scope};

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

    /// The first limit that this exceeds, by its name in the configuration.
    pub(super) fn over(&self, limits: &Limits) -> Option<&'static str> {
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        if over(limits.machines.map(u64::from), u64::from(self.machines)) {
            Some("machines")
        } else if over(limits.cpu.map(|cpu| u64::from(cpu.millis())), self.cpu) {
            Some("cpu")
        } else if over(limits.memory.map(Bytes::get), self.memory) {
            Some("memory")
        } else if over(limits.cost_micros_per_hour, self.cost_micros_per_hour) {
            Some("cost_per_hour")
        } else {
            None
        }
    }
}

/// The sums, each under its scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    sums: BTreeMap<Scope, Amount>,
}

impl Usage {
    pub(super) fn add(&mut self, scope: &Scope, amount: Amount) {
        if let Some(sum) = self.sums.get_mut(scope) {
            *sum = sum.plus(amount);
        } else {
            self.sums.insert(scope.clone(), amount);
        }
    }

    pub(super) fn of(&self, scope: &Scope) -> Amount {
        self.sums.get(scope).copied().unwrap_or_default()
    }

    /// The first limit that `more` would break, by its name in the configuration.
    pub(super) fn broken(
        &self,
        scope: &Scope,
        limits: &Limits,
        more: Amount,
    ) -> Option<&'static str> {
        // Most scopes have none: then nothing is looked up.
        if *limits == Limits::default() {
            return None;
        }
        self.of(scope).plus(more).over(limits)
    }
}
