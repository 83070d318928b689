//! One look at a listed job: is it ours, what does it get, and where could that be made?

use std::sync::Arc;

use crate::{Foreign, JobRow, Policy, Verdict};

/// The verdict on one row under this policy; the same for the same row and policy.
#[must_use]
pub fn assess(row: &Arc<JobRow>, policy: &Policy) -> Verdict {
    let _ = policy;
    Verdict::Foreign(Foreign::OtherQueue { queue: row.queue.to_string() })
}
