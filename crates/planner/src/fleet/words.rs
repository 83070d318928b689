//! Holds and alerts of a fleet as sentences, and the short keys by which machines know them.

use super::{Alert, Failing, Hold, Policy, Sizing};
use crate::Timestamp;
use crate::shape::spell_duration;
use crate::words::crop;

/// A sentence in a log or a table; what the cluster adds may be long.
const LINE: usize = 500;
/// Why agents and jobs may be there and do not meet.
const NO_MATCH: &str = "the jobs ask for tags that the agents do not carry, or wait for a \
                        concurrency group";

impl Hold {
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::NothingQueued => "nothing_queued",
            Self::Draining => "draining",
            Self::Enough { .. } => "enough",
            Self::Cooldown { .. } => "cooldown",
            Self::AtMax { .. } => "at_max",
            Self::Asking { .. } => "asking",
            Self::Unanswered { .. } => "unanswered",
            Self::Refused { .. } => "refused",
            Self::Starting { .. } => "starting",
            Self::ClusterUnknown { .. } => "cluster_unknown",
            Self::CountsUnknown { .. } => "counts_unknown",
        }
    }

    /// All keys, for metrics that show the others as 0.
    pub const KEYS: [&'static str; 11] = [
        "nothing_queued",
        "draining",
        "enough",
        "cooldown",
        "at_max",
        "asking",
        "unanswered",
        "refused",
        "starting",
        "cluster_unknown",
        "counts_unknown",
    ];

    /// One line. `now` is when it is read.
    #[must_use]
    pub fn sentence(&self, now: Timestamp) -> String {
        crop(&self.text(now), LINE)
    }

    fn text(&self, now: Timestamp) -> String {
        let left = |until: &Timestamp| spell_duration(seconds(until.since(now)));
        match self {
            Self::NothingQueued => "no jobs are queued".into(),
            Self::Draining => "Jitney is being drained, and dispatches nothing".into(),
            Self::Enough { scheduled, idle, coming: 0 } => format!(
                "{scheduled} jobs are queued and {idle} agents idle; where it stays so, {NO_MATCH}"
            ),
            Self::Enough { scheduled, idle, coming } => {
                format!("{scheduled} jobs are queued, {idle} agents idle and {coming} on their way")
            }
            Self::Cooldown { id, arrived, of, until, words } => format!(
                "cooldown: {arrived} of {of} agents of dispatch {id} are online or done; not \
                 waited for longer than {}{}",
                left(until),
                because(words.as_deref())
            ),
            Self::AtMax { max, holding, wanted, idle } => {
                // Agents without a job beside jobs that wait are another trouble than max.
                let idle = match idle {
                    0 => String::new(),
                    _ => format!("; {idle} agents are idle, and where it stays so, {NO_MATCH}"),
                };
                format!(
                    "{wanted} agents are missing, and there are {holding} pods of at most \
                     {max}{idle}"
                )
            }
            Self::Asking { id } => format!("dispatch {id} is asked for; no answer yet"),
            Self::Unanswered { id, until, words } => format!(
                "whether dispatch {id} was made is not known; looked at again in {}: {words}",
                left(until)
            ),
            Self::Refused { words, until } => {
                format!("the cluster refused the last dispatch; again in {}: {words}", left(until))
            }
            Self::Starting { until } => {
                format!("just started: what was asked for before has {} to be seen", left(until))
            }
            Self::ClusterUnknown { words } => {
                format!("the cluster has not been seen{}", because(words.as_deref()))
            }
            Self::CountsUnknown { words } => {
                format!("the queue's counts are not known{}", because(words.as_deref()))
            }
        }
    }
}

impl Sizing {
    /// As a Job says what it was sized on.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { queued, idle, coming, pods, policy } = self;
        let Policy { min, max, buffer, .. } = policy;
        format!(
            "{queued} jobs queued; agents: {idle} idle, {coming} on their way; {pods} pods of at \
             most {max}; buffer {buffer}, min {min}"
        )
    }
}

impl Alert {
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::NotRolledOut { .. } => "not_rolled_out",
            Self::Refused { .. } => "refused",
            Self::ClusterUnknown(_) => "cluster_unknown",
            Self::CountsUnknown(_) => "counts_unknown",
        }
    }

    #[must_use]
    pub fn sentence(&self, now: Timestamp) -> String {
        crop(&self.text(now), LINE)
    }

    fn text(&self, now: Timestamp) -> String {
        let blind = |what: &str, Failing { since, words }: &Failing| {
            format!("{what} for {}: {words}", spell_duration(seconds(now.since(*since))))
        };
        match self {
            Self::NotRolledOut { id, arrived, failed, of, words } => format!(
                "dispatch {id} does not roll out: of {of} agents {arrived} are online or done and \
                 {failed} failed{}",
                because(words.as_deref())
            ),
            Self::Refused { words } => format!("the cluster refuses dispatches: {words}"),
            Self::ClusterUnknown(failing) => blind("the cluster cannot be seen", failing),
            Self::CountsUnknown(failing) => {
                blind("Buildkite does not tell the queue's counts", failing)
            }
        }
    }
}

fn because(words: Option<&str>) -> String {
    words.map_or_else(String::new, |words| format!(": {words}"))
}

/// Fractions of a second tell nobody anything; what is left of one is a second.
fn seconds(span: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_secs(span.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
}
