//! The clock of the stand-in kubelet: statuses, events and leases bear the real time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

pub(crate) fn now() -> Time {
    Time(timestamp())
}

pub(crate) fn now_micro() -> MicroTime {
    MicroTime(timestamp())
}

#[expect(clippy::disallowed_methods, reason = "the one place where this crate reads the clock")]
fn timestamp() -> Timestamp {
    Timestamp::now()
}
