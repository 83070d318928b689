//! The heart: one round of decisions over what was taken on, what is seen, and what is wanted.

use crate::{Ledger, Observation, Plan, Policy, Timestamp};

/// One round. The same arguments give the same plan, always.
#[must_use]
pub fn decide(ledger: &Ledger, seen: &Observation, policy: &Policy, now: Timestamp) -> Plan {
    let _ = (ledger, seen, policy, now);
    Plan::default()
}
