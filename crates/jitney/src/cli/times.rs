//! Moments and spans as people read them. No clock is read.

use std::time::Duration;

use planner::{Timestamp, spell_duration};

use crate::clock::to_jiff;

/// `+0.12s` against a moment.
pub(crate) fn offset(at: Timestamp, since: Timestamp) -> String {
    if at < since {
        return format!("-{}", seconds(since.since(at)));
    }
    format!("+{}", seconds(at.since(since)))
}

/// `0.12s`, `12.3s`, `4m12s`.
pub(crate) fn seconds(span: Duration) -> String {
    match span.as_secs() {
        0..10 => format!("{:.2}s", span.as_secs_f64()),
        10..60 => format!("{:.1}s", span.as_secs_f64()),
        whole => spell_duration(Duration::from_secs(whole)),
    }
}

/// `12:00:01.234`, in UTC.
pub(crate) fn time_of_day(at: Timestamp) -> String {
    to_jiff(at).strftime("%H:%M:%S%.3f").to_string()
}

/// `2026-11-23 12:00:01.234 UTC`.
pub(crate) fn moment(at: Timestamp) -> String {
    to_jiff(at).strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

/// `2026-11-23 12:00:01 UTC`.
pub(crate) fn date(at: Timestamp) -> String {
    to_jiff(at).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
