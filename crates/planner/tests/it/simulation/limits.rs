//! G8: limits hold. What lives in truth is counted when a machine is made, against the limits that
//! were in force when it was asked for, or since.

use planner::{BackendName, Bytes, Limits, Policy, QueueKey, Timestamp};

use super::backends::{Machine, Order, Place};
use super::invariants::Promise;
use super::world::Sim;

impl Sim<'_> {
    /// Counts what lives in truth: what this journal asked for, or a listing showed before.
    pub(crate) fn check_limits(&mut self, order: &Order) {
        let offer = &order.create.offer;
        let asked_at = self.watch.first_asked(order.create.job, order.create.attempt);
        let this = Sum::of(offer.cpu.millis(), offer.memory, offer.price_micros_per_hour);
        let mut over = None;
        for (name, scope, limits) in self.scopes(order, asked_at) {
            let mut sum = this;
            for machine in self.places.values().flat_map(Place::live) {
                if is_counted(machine, asked_at, order) && scope.counts(machine) {
                    let seen = &machine.seen;
                    // What a machine tells is not its price.
                    let cost = if machine.adopted { 0 } else { machine.cost };
                    sum.add(&Sum::of(seen.cpu.millis(), seen.memory, cost));
                }
            }
            if let Some(what) = sum.over(&limits) {
                over = Some(format!("{what} of {name}: {sum:?} with {}", order.create.name));
            }
        }
        if let Some(text) = over {
            self.broke(Promise::G8, Some(order.create.job), text);
        }
    }

    /// Every limit that counts the machine, with the most that it has been since the machine was
    /// first asked for: what was begun under one policy may come about under the next.
    fn scopes<'o>(
        &self,
        order: &'o Order,
        asked_at: Timestamp,
    ) -> Vec<(&'static str, Scope<'o>, Limits)> {
        let create = &order.create;
        let earlier = self.earlier_limits.iter().filter(|(until, _)| *until >= asked_at);
        let policies: Vec<&Policy> =
            earlier.map(|(_, policy)| policy).chain([&self.policy]).collect();
        let most = |of: &dyn Fn(&Policy) -> Limits| widest(policies.iter().map(|it| of(it)));
        let (queue, backend) = (&create.queue, &create.offer.backend);
        let mut scopes = vec![
            ("all", Scope::All, most(&|policy| policy.limits)),
            ("queue", Scope::Queue(queue), most(&|policy| policy.queues[queue].limits)),
            ("backend", Scope::Backend(backend), most(&|policy| policy.backends[backend].limits)),
            (
                "capacity",
                Scope::Backend(backend),
                most(&|policy| policy.backends[backend].capacity),
            ),
        ];
        let request = self.buildkite.jobs.get(&create.job).and_then(|job| job.request());
        for index in request.map(|request| request.policies.clone()).unwrap_or_default() {
            let limits = most(&|policy| policy.rules[index].limits);
            scopes.push(("policy", Scope::Policy(index), limits));
        }
        scopes
    }
}

/// Whether the journal that asks knew of the machine when it first asked: it had asked for that one
/// too, or seen it in a listing. What came about later than anybody could wait for is known from a
/// listing only.
fn is_counted(machine: &Machine, asked_at: Timestamp, order: &Order) -> bool {
    let seen_before = machine.known_since <= asked_at;
    machine.epoch == order.epoch && !machine.late && (seen_before || !machine.adopted)
}

/// Whatever any of them allows.
fn widest(limits: impl Iterator<Item = Limits>) -> Limits {
    fn most<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
        one.zip(other).map(|(one, other)| one.max(other))
    }
    let widest = limits.reduce(|one, other| Limits {
        machines: most(one.machines, other.machines),
        cpu: most(one.cpu, other.cpu),
        memory: most(one.memory, other.memory),
        cost_micros_per_hour: most(one.cost_micros_per_hour, other.cost_micros_per_hour),
    });
    widest.unwrap_or_default()
}

/// Whose limit is reckoned.
#[derive(Clone, Copy)]
enum Scope<'a> {
    All,
    Queue(&'a QueueKey),
    Backend(&'a BackendName),
    Policy(usize),
}

impl Scope<'_> {
    fn counts(self, machine: &Machine) -> bool {
        match self {
            Self::All => true,
            Self::Queue(queue) => machine.seen.queue == *queue,
            Self::Backend(backend) => machine.backend == *backend,
            // What a machine alone tells is not which policies its job matched.
            Self::Policy(index) => !machine.adopted && machine.policies.contains(&index),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Sum {
    machines: u32,
    cpu: u32,
    memory: u64,
    cost: u64,
}

impl Sum {
    fn of(cpu: u32, memory: Bytes, cost: u64) -> Self {
        Self { machines: 1, cpu, memory: memory.get(), cost }
    }

    fn add(&mut self, other: &Self) {
        self.machines += other.machines;
        self.cpu += other.cpu;
        self.memory += other.memory;
        self.cost += other.cost;
    }

    fn over(&self, limits: &Limits) -> Option<&'static str> {
        if limits.machines.is_some_and(|most| self.machines > most) {
            return Some("machines");
        }
        if limits.cpu.is_some_and(|most| self.cpu > most.millis()) {
            return Some("cpu");
        }
        if limits.memory.is_some_and(|most| self.memory > most.get()) {
            return Some("memory");
        }
        limits.cost_micros_per_hour.is_some_and(|most| self.cost > most).then_some("cost")
    }
}
