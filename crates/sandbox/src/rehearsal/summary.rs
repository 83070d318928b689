//! What came of a day: which jobs ended as the day says, how long they waited, and how many were
//! under way at once. It is reckoned from the jobs' own times, and knows nothing of machines.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::Arrival;
use crate::engine::{Engine, Job, State};

/// Jobs that are named one by one.
const MOST_ODD: usize = 10;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Arrivals of the whole day, and how many of them came.
    pub arrivals: usize,
    pub came: usize,
    pub passed: usize,
    /// With the status that the day gives them.
    pub failed: usize,
    pub cancelled: usize,
    /// Had not ended when the summary was taken.
    pub open: usize,
    /// Ended in another way than the day says.
    pub otherwise: usize,
    /// The first of those.
    pub odd: Vec<Odd>,
    /// Jobs that were run once more.
    pub retried: usize,
    /// The most jobs that agents had at once.
    pub most_running: usize,
    /// The most jobs that waited for an agent at once.
    pub most_waiting: usize,
    pub waits: Waits,
    pub queues: BTreeMap<String, QueueSummary>,
}

/// A job that did not end as the day says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Odd {
    pub job: Uuid,
    pub state: State,
    pub exit_status: Option<i32>,
    /// What a stack said when it failed the job.
    pub detail: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueueSummary {
    pub jobs: usize,
    pub waits: Waits,
}

/// From when a job could run until it ran, of the jobs that did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Waits {
    pub started: usize,
    pub p50: Duration,
    pub p95: Duration,
    pub max: Duration,
}

impl Waits {
    fn of(mut waits: Vec<Duration>) -> Self {
        waits.sort_unstable();
        let at = |percent: usize| {
            let rank = (waits.len() * percent).div_ceil(100).max(1);
            waits.get(rank - 1).copied().unwrap_or_default()
        };
        Self { started: waits.len(), p50: at(50), p95: at(95), max: at(100) }
    }
}

impl Summary {
    /// Whether all of the day came and ended as it says.
    #[must_use]
    pub fn is_as_planned(&self) -> bool {
        self.came == self.arrivals && self.open == 0 && self.otherwise == 0
    }

    pub(super) fn of(day: &[Arrival], came: &[Uuid], engine: &Engine) -> Self {
        let mut summary = Self { arrivals: day.len(), came: came.len(), ..Self::default() };
        let mut by_queue: BTreeMap<String, (usize, Vec<Duration>)> = BTreeMap::new();
        let (mut runs, mut waits) = (Vec::new(), Vec::new());
        for (arrival, first) in day.iter().zip(came) {
            let jobs = attempts(engine, *first);
            let Some(last) = jobs.last() else {
                // The controls have made the sandbox forget it.
                summary.otherwise += 1;
                continue;
            };
            summary.retried += jobs.len() - 1;
            summary.count(arrival, last);
            let (count, waited) = by_queue.entry(arrival.queue.clone()).or_default();
            *count += 1;
            for job in jobs {
                runs.extend(span(job.accepted_at, job.finished_at));
                waits.extend(span(job.runnable_at, job.accepted_at.or(job.finished_at)));
                waited.extend(wait(job));
            }
        }
        summary.most_running = most_at_once(&runs);
        summary.most_waiting = most_at_once(&waits);
        let all = by_queue.values().flat_map(|(_, waits)| waits).copied();
        summary.waits = Waits::of(all.collect());
        let queues = by_queue.into_iter();
        summary.queues = queues
            .map(|(key, (jobs, waits))| (key, QueueSummary { jobs, waits: Waits::of(waits) }))
            .collect();
        summary
    }

    fn count(&mut self, arrival: &Arrival, job: &Job) {
        if !job.state.is_terminal() {
            self.open += 1;
        } else if job.state == State::Canceled && arrival.cancel_after.is_some() {
            self.cancelled += 1;
        } else if job.state == State::Finished
            && job.outcome.exit_status == Some(arrival.exit_status)
        {
            *(if arrival.exit_status == 0 { &mut self.passed } else { &mut self.failed }) += 1;
        } else {
            self.otherwise += 1;
            if self.odd.len() < MOST_ODD {
                self.odd.push(Odd {
                    job: job.id,
                    state: job.state,
                    exit_status: job.outcome.exit_status,
                    detail: job.detail.clone(),
                });
            }
        }
    }
}

/// A job and its retries.
fn attempts(engine: &Engine, first: Uuid) -> Vec<&Job> {
    let next = |job: &&Job| job.retried_in.and_then(|again| engine.job(again));
    std::iter::successors(engine.job(first), next).collect()
}

fn wait(job: &Job) -> Option<Duration> {
    Duration::try_from(job.started_at?.duration_since(job.runnable_at?)).ok()
}

/// What has begun; without an end it lasts.
fn span(begun: Option<Timestamp>, ended: Option<Timestamp>) -> Option<(Timestamp, Timestamp)> {
    begun.map(|begun| (begun, ended.unwrap_or(Timestamp::MAX)))
}

fn most_at_once(spans: &[(Timestamp, Timestamp)]) -> usize {
    // What ends at the moment when another begins makes room for it.
    let mut steps: Vec<(Timestamp, bool)> =
        spans.iter().flat_map(|(from, to)| [(*from, true), (*to, false)]).collect();
    steps.sort_unstable();
    let (mut now, mut most) = (0_usize, 0);
    for (_, begins) in steps {
        now = if begins { now + 1 } else { now.saturating_sub(1) };
        most = most.max(now);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_ranked() {
        let waits = Waits::of((1..=200).rev().map(Duration::from_secs).collect());
        let seconds = [waits.p50, waits.p95, waits.max].map(|wait| wait.as_secs());
        assert_eq!((waits.started, seconds), (200, [100, 190, 200]));
        let one = Waits::of(vec![Duration::from_secs(3)]);
        assert_eq!([one.p50, one.p95, one.max], [Duration::from_secs(3); 3]);
        assert_eq!(Waits::of(Vec::new()), Waits::default());
    }

    #[test]
    fn what_ends_makes_room_for_what_begins() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let spans = [(at(0), at(5)), (at(5), at(9)), (at(1), at(2)), (at(6), Timestamp::MAX)];
        assert_eq!(most_at_once(&spans), 2);
        assert_eq!(most_at_once(&[]), 0);
    }
}
