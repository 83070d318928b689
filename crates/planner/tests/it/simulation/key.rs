//! What a shell does not do twice at a time: the keys of its calls, one for each job of a batch.

use std::collections::BTreeSet;

use planner::{Action, JobId, Timestamp};

/// What a shell does not do twice at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Ask(JobId),
    Look(JobId),
    Reserve(JobId),
    Mint(JobId),
    Create(JobId, u32),
    Delete(JobId, u32),
    Finish(JobId),
    Record(JobId),
    Retry(JobId),
    Notify(JobId, Timestamp),
}

impl Key {
    pub(crate) const fn job(&self) -> JobId {
        match self {
            Self::Ask(job)
            | Self::Look(job)
            | Self::Reserve(job)
            | Self::Mint(job)
            | Self::Create(job, _)
            | Self::Delete(job, _)
            | Self::Finish(job)
            | Self::Record(job)
            | Self::Retry(job)
            | Self::Notify(job, _) => *job,
        }
    }
}

impl Key {
    pub(crate) const fn attempt(&self) -> Option<u32> {
        match self {
            Self::Create(_, attempt) | Self::Delete(_, attempt) => Some(*attempt),
            Self::Ask(_)
            | Self::Look(_)
            | Self::Reserve(_)
            | Self::Mint(_)
            | Self::Finish(_)
            | Self::Record(_)
            | Self::Retry(_)
            | Self::Notify(..) => None,
        }
    }
}

pub(crate) fn keys_of(action: &Action) -> Vec<Key> {
    match action {
        Action::Ask { jobs, .. } => jobs.iter().copied().map(Key::Ask).collect(),
        Action::Look { job, .. } => vec![Key::Look(*job)],
        Action::Reserve { jobs, .. } => jobs.iter().copied().map(Key::Reserve).collect(),
        Action::Mint { jobs, .. } => jobs.iter().map(|(job, _)| Key::Mint(*job)).collect(),
        Action::Create(create) => vec![Key::Create(create.job, create.attempt)],
        Action::Delete { job, attempt, .. } => vec![Key::Delete(*job, *attempt)],
        Action::Finish { job, .. } => vec![Key::Finish(*job)],
        Action::ReadRecord { job } => vec![Key::Record(*job)],
        Action::Retry { job } => vec![Key::Retry(*job)],
        Action::Notify { job, at, .. } => vec![Key::Notify(*job, *at)],
    }
}

/// The action, for those jobs of a batch that are not left out.
pub(crate) fn without(action: &mut Action, left_out: &BTreeSet<JobId>) {
    match action {
        Action::Ask { jobs, .. } | Action::Reserve { jobs, .. } => {
            jobs.retain(|job| !left_out.contains(job));
        }
        Action::Mint { jobs, .. } => jobs.retain(|(job, _)| !left_out.contains(job)),
        Action::Look { .. }
        | Action::Create(_)
        | Action::Delete { .. }
        | Action::Finish { .. }
        | Action::ReadRecord { .. }
        | Action::Retry { .. }
        | Action::Notify { .. } => {}
    }
}
