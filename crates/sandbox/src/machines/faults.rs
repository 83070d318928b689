//! What goes wrong on demand. It only says what and how often; where it strikes is in the fleet
//! and in the routes.

use std::time::Duration;

use backends::Class;
use backends::http::wire::Failure;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Faults to come, as JSON: what is not named does not happen. Numbers without a unit count down
/// with each time that the fault strikes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// How long each call takes before it has an effect.
    pub create_delay_ms: u64,
    pub delete_delay_ms: u64,
    pub list_delay_ms: u64,
    /// From the create to the agent's first call.
    pub boot_delay_ms: u64,
    /// Machines that never come up: their agents do not connect, and only the deadline ends them.
    pub fail_boot: u32,
    /// Machines that die when their agent has connected.
    pub die_before_acquire: u32,
    /// Machines that die when their agent has started the job.
    pub die_after_acquire: u32,
    /// Creates that refuse.
    pub refuse: Option<Refusal>,
    /// Calls that have their effect and then lose the connection.
    pub lose_create_reply: u32,
    pub lose_delete_reply: u32,
    /// Deletes that have no effect and answer 503.
    pub fail_delete: u32,
    /// Listings that leave out every second machine, and say that they are not complete.
    pub incomplete_lists: u32,
    /// For how long listings show what there is at the moment when this is set.
    pub stale_ms: u64,
    /// For how long none of the three calls has an effect.
    pub outage_ms: u64,
    /// What they answer meanwhile; left out, the connection is lost.
    pub outage_status: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub class: Class,
    pub times: u32,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub retry_after_s: Option<f64>,
    /// Only in this place; everywhere if left out.
    #[serde(default)]
    pub place: Option<String>,
}

/// What will become of a machine, decided when it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    #[default]
    Lives,
    NeverBoots,
    DiesConnected,
    DiesStarted,
}

/// Counts down; whether the fault strikes now.
pub(super) fn strike(left: &mut u32) -> bool {
    let strikes = *left > 0;
    *left = left.saturating_sub(1);
    strikes
}

impl Faults {
    pub(super) fn fate(&mut self) -> Fate {
        if strike(&mut self.fail_boot) {
            Fate::NeverBoots
        } else if strike(&mut self.die_before_acquire) {
            Fate::DiesConnected
        } else if strike(&mut self.die_after_acquire) {
            Fate::DiesStarted
        } else {
            Fate::Lives
        }
    }

    pub(super) fn refusal(&mut self, place: &str) -> Option<Failure> {
        let refusal = self.refuse.as_mut()?;
        if refusal.place.as_ref().is_some_and(|only| only != place) || !strike(&mut refusal.times) {
            return None;
        }
        let class = refusal.class;
        let message = refusal
            .message
            .clone()
            .unwrap_or_else(|| format!("refused on demand ({class:?}){}", at(place)));
        Some(Failure { class, message, retry_after_s: refusal.retry_after_s })
    }

    pub(super) fn outage_until(&self, since: Timestamp) -> Timestamp {
        after(since, self.outage_ms)
    }

    pub(super) fn stale_until(&self, since: Timestamp) -> Timestamp {
        after(since, self.stale_ms)
    }
}

/// A service without places has an empty one.
fn at(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!(" in `{place}`") }
}

fn after(since: Timestamp, millis: u64) -> Timestamp {
    since.checked_add(Duration::from_millis(millis)).unwrap_or(Timestamp::MAX)
}
