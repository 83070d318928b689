//! Ways in which the server's answers can be wrong or late without a status that says so.
//! Faults of the connection itself are the shell's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// All off by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// A job enters the listing so much later than it became scheduled.
    pub listing_late_ms: u64,
    /// A reserved job is still listed for so long.
    pub listing_keeps_reserved_ms: u64,
    /// A page's last job is also the next page's first.
    pub listing_repeats_over_pages: bool,
    /// So many more notifications are refused, each by its index.
    pub refuse_notifications: u32,
    /// So many more ids get no job acquisition token.
    pub withhold_tokens: u32,
    /// Heartbeats are answered and not counted.
    pub ignore_heartbeats: bool,
}

impl Quirks {
    pub(super) fn listing_late(&self) -> Duration {
        Duration::from_millis(self.listing_late_ms)
    }

    pub(super) fn listing_keeps_reserved(&self) -> Duration {
        Duration::from_millis(self.listing_keeps_reserved_ms)
    }

    /// Uses up one refusal of a notification, if there is one left.
    pub(super) fn refuses_notification(&mut self) -> bool {
        use_up(&mut self.refuse_notifications)
    }

    /// Uses up one withheld token, if there is one left.
    pub(super) fn withholds_token(&mut self) -> bool {
        use_up(&mut self.withhold_tokens)
    }
}

fn use_up(left: &mut u32) -> bool {
    let has = *left > 0;
    *left = left.saturating_sub(1);
    has
}
