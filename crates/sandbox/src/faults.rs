//! Faults on demand: wrong statuses, delays, lost replies and outages, by route.
//! It decides what befalls a request; the gate carries it out.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What befalls the requests of a route. Several may befall one request: their delays add up, and
/// the first status counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Any method if it is left out.
    pub method: Option<String>,
    /// As the request journal has it, `/v3/jobs/{id}/acquire`; `*` at the end matches any rest.
    pub route: String,
    /// Only requests whose path contains this text, such as a job's id.
    pub path_contains: Option<String>,
    /// So many requests pass before it begins.
    pub skip: u32,
    /// For so many requests; without it until it is taken away.
    pub times: Option<u32>,
    /// The request is answered with this status and is not carried out.
    pub status: Option<u16>,
    /// The message of that answer.
    pub message: Option<String>,
    /// Seconds, sent with the answer whatever its status.
    pub retry_after: Option<f64>,
    pub delay_before_ms: u64,
    pub delay_after_ms: u64,
    /// The connection is closed before anything was done.
    pub drop: bool,
    /// The request is carried out and its connection closed without an answer.
    pub lose_reply: bool,
}

/// How the server is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutageKind {
    /// Connections are closed without an answer.
    Drop,
    /// Every answer is 503.
    Refuse,
    /// Requests hang until the outage is over, then their connections close.
    Hang,
}

/// What befalls one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fate {
    pub(crate) before: Duration,
    pub(crate) after: Duration,
    pub(crate) status: Option<(u16, Option<String>)>,
    pub(crate) retry_after: Option<f64>,
    pub(crate) drop: bool,
    pub(crate) lose_reply: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<Fault>,
    outage: Option<(OutageKind, Timestamp)>,
}

impl Faults {
    pub(crate) fn list(&self) -> &[Fault] {
        &self.list
    }

    pub(crate) fn add(&mut self, fault: Fault) {
        self.list.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.outage = None;
    }

    pub(crate) fn begin_outage(&mut self, kind: OutageKind, until: Timestamp) {
        self.outage = Some((kind, until));
    }

    /// The outage that holds now, with what is left of it.
    pub(crate) fn outage(&mut self, now: Timestamp) -> Option<(OutageKind, Duration)> {
        let (kind, until) = self.outage?;
        let left = Duration::try_from(until.duration_since(now)).ok().filter(|d| !d.is_zero());
        if left.is_none() {
            self.outage = None;
        }
        left.map(|left| (kind, left))
    }

    /// Uses up one turn of every fault that matches.
    pub(crate) fn fate(&mut self, method: &str, route: &str, path: &str) -> Fate {
        let mut fate = Fate::default();
        for fault in &mut self.list {
            if !fault.matches(method, route, path) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if let Some(times) = &mut fault.times {
                if *times == 0 {
                    continue;
                }
                *times -= 1;
            }
            fate.before += Duration::from_millis(fault.delay_before_ms);
            fate.after += Duration::from_millis(fault.delay_after_ms);
            fate.drop |= fault.drop;
            fate.lose_reply |= fault.lose_reply;
            fate.retry_after = fate.retry_after.or(fault.retry_after);
            if fate.status.is_none() {
                fate.status = fault.status.map(|status| (status, fault.message.clone()));
            }
        }
        fate
    }
}

impl Fault {
    fn matches(&self, method: &str, route: &str, path: &str) -> bool {
        let by_method =
            self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method));
        let by_route = match self.route.strip_suffix('*') {
            Some(start) => route.starts_with(start),
            None => self.route == route,
        };
        by_method && by_route && self.path_contains.as_ref().is_none_or(|part| path.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACQUIRE: &str = "/v3/jobs/{id}/acquire";

    #[test]
    fn a_fault_skips_then_strikes_then_is_used_up() {
        let mut faults = Faults::default();
        faults.add(Fault {
            method: Some("put".to_owned()),
            route: ACQUIRE.to_owned(),
            skip: 1,
            times: Some(2),
            status: Some(423),
            ..Fault::default()
        });
        let mut strikes =
            |method: &str| faults.fate(method, ACQUIRE, "/v3/jobs/1/acquire").status.is_some();
        let seen: Vec<bool> = ["PUT", "GET", "PUT", "PUT", "PUT"].map(&mut strikes).into();
        assert_eq!(seen, [false, false, true, true, false]);
    }

    #[test]
    fn delays_add_up_and_the_first_status_counts() {
        let mut faults = Faults::default();
        let latency = Fault {
            route: "/v3/*".to_owned(),
            delay_before_ms: 25,
            delay_after_ms: 25,
            ..Fault::default()
        };
        faults.add(latency.clone());
        faults.add(Fault { route: ACQUIRE.to_owned(), status: Some(500), ..latency.clone() });
        faults.add(Fault { route: ACQUIRE.to_owned(), status: Some(503), ..Fault::default() });
        let fate = faults.fate("PUT", ACQUIRE, "/v3/jobs/1/acquire");
        assert_eq!((fate.before.as_millis(), fate.after.as_millis()), (50, 50));
        assert_eq!(fate.status, Some((500, None)));
        assert_eq!(faults.fate("GET", "/builds", "/builds"), Fate::default());
    }

    #[test]
    fn an_outage_ends_by_itself() {
        let mut faults = Faults::default();
        let now = Timestamp::UNIX_EPOCH;
        let end = now + Duration::from_secs(30);
        faults.begin_outage(OutageKind::Refuse, end);
        assert_eq!(faults.outage(now), Some((OutageKind::Refuse, Duration::from_secs(30))));
        assert_eq!(faults.outage(end), None);
    }
}
