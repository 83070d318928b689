//! The jobs that wait in the queues: which are taken on now, in which order, and why the others are
//! not. Queue priority first, then job priority, then the queue that has used least of its share,
//! then age.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Round;
use crate::{
    Action, Attempt, Candidate, Doom, Event, Foreign, JobId, JobRow, OriginSeen, QueueKey,
    QueuePolicy, QueueSeen, Reason, Request, Told, Verdict,
};

/// So many jobs of a queue are looked at at once: enough for a thousand a second, and no more
/// environments in memory than that.
const LOOKS_MOST: u32 = 32;
/// What was told about a job is remembered for so long after its last word, whether or not the job
/// is listed.
const TOLD_KEPT: Duration = Duration::from_secs(600);

/// One queue's waiting jobs in their order, and how far the round has come.
struct Line<'a> {
    key: &'a QueueKey,
    policy: &'a QueuePolicy,
    waiting: Vec<&'a Candidate>,
    next: usize,
    /// How many more may be looked at.
    looks: u32,
    /// What keeps every job of the queue, if something does.
    standstill: Option<Reason>,
}

impl<'a> Line<'a> {
    fn head(&self) -> Option<&'a Candidate> {
        self.waiting.get(self.next).copied()
    }
}

impl<'a> Round<'a> {
    pub(super) fn intake(&mut self) {
        let mut lines: Vec<Line<'a>> = Vec::new();
        for (key, policy) in &self.policy.queues {
            if let Some(seen) = self.seen.queues.get(key) {
                lines.push(self.line(key, policy, seen));
            }
        }
        while let Some(index) = self.turn(&lines) {
            let Some(line) = lines.get_mut(index) else { return };
            let Some(candidate) = line.head() else { return };
            let ahead = u32::try_from(line.next).unwrap_or(u32::MAX);
            line.next += 1;
            let (key, standstill) = (line.key, line.standstill.clone());
            let undecided = matches!(candidate.verdict, Verdict::Undecided { .. });
            let may_look = standstill.is_none() && line.looks > 0;
            line.looks = line.looks.saturating_sub(u32::from(undecided));
            if undecided && may_look {
                self.look(key, candidate.row.id);
            }
            self.consider(key, candidate, standstill, ahead);
        }
    }

    fn line(
        &mut self,
        key: &'a QueueKey,
        policy: &'a QueuePolicy,
        seen: &'a QueueSeen,
    ) -> Line<'a> {
        let mut waiting = Vec::new();
        for candidate in seen.candidates.iter() {
            if !self.is_news(candidate, seen) {
                continue;
            }
            match &candidate.verdict {
                Verdict::Ours(_) | Verdict::Invalid(_) | Verdict::Undecided { .. } => {
                    waiting.push(&**candidate);
                }
                Verdict::Foreign(foreign) => self.foreign(&candidate.row, foreign),
            }
        }
        waiting.sort_by_key(|candidate| {
            let row = &candidate.row;
            (Reverse(row.priority), row.scheduled_at, row.id)
        });
        let standstill = self.standstill(key).or_else(|| self.no_intake(seen));
        Line { key, policy, waiting, next: 0, looks: LOOKS_MOST, standstill }
    }

    /// Whether the row says something that the ledger does not say better.
    fn is_news(&self, candidate: &Candidate, seen: &QueueSeen) -> bool {
        let job = candidate.row.id;
        if let Some(entry) = self.ledger.entries.get(&job) {
            // Known from its machine only, and that one is gone: now we learn what it asks for.
            return entry.row.is_none()
                && entry.ended.is_none()
                && !entry.attempts.iter().any(Attempt::holds);
        }
        let left_at = self.ledger.left.get(&job);
        left_at.is_none_or(|left_at| seen.listed_at.is_some_and(|listed| listed > *left_at))
    }

    /// What keeps new jobs out, beside what keeps everything.
    fn no_intake(&mut self, seen: &QueueSeen) -> Option<Reason> {
        if self.seen.draining {
            return Some(Reason::Draining);
        }
        let fresh = self.policy.margins.fresh;
        let current = seen.listed_at.is_some_and(|listed| self.now.since(listed) <= fresh);
        if !current {
            return Some(Reason::BuildkiteUnreachable);
        }
        if !self.due(seen.reserve_not_before) {
            let unreachable = self.seen.buildkite.failing_since.is_some();
            let reason = if unreachable { Reason::BuildkiteUnreachable } else { Reason::Reserving };
            return Some(reason);
        }
        None
    }

    /// Whose head comes next.
    fn turn(&self, lines: &[Line<'a>]) -> Option<usize> {
        let heads = lines.iter().enumerate().filter_map(|(index, line)| {
            let row = &line.head()?.row;
            let turns = self.room.usage.turns(line.key, &self.policy.limits);
            let share = u64::from(line.policy.share.max(1));
            let place = (
                Reverse(line.policy.priority),
                Reverse(row.priority),
                turns / share,
                row.scheduled_at,
                row.id,
            );
            Some((place, index))
        });
        heads.min().map(|(_, index)| index)
    }

    fn consider(
        &mut self,
        key: &QueueKey,
        candidate: &Candidate,
        standstill: Option<Reason>,
        ahead: u32,
    ) {
        let row = &candidate.row;
        let reason = match (&candidate.verdict, standstill) {
            (_, Some(reason)) => reason,
            (Verdict::Ours(request), None) => match self.place(key, row.id, Some(row), request) {
                Ok(offer) => {
                    self.room.promise(self.policy, key, request, offer);
                    return self.take_on(key, row, Some(request), None);
                }
                Err(reason) => reason,
            },
            (Verdict::Invalid(invalid), None) => {
                let doom = Doom::Invalid { invalid: invalid.clone() };
                return self.take_on(key, row, None, Some(doom));
            }
            (Verdict::Undecided { policies }, None) => {
                let words = match self.origin(key, row.id) {
                    Some(OriginSeen::Unknown { words, .. }) => words.clone(),
                    Some(OriginSeen::Known(_) | OriginSeen::Denied { .. }) | None => None,
                };
                Reason::LookingUp { policies: policies.clone(), words }
            }
            (Verdict::Foreign(_), None) => return,
        };
        let told = self.told(row.id);
        self.tell_hold(row.id, key, &told, &reason, Some(ahead));
        self.hold(row.id, key, reason, Some(ahead));
    }

    /// Asks where the job's build comes from, unless that is known and its verdict about to follow.
    fn look(&mut self, key: &QueueKey, job: JobId) {
        let known = self.origin(key, job);
        if known.is_some_and(OriginSeen::is_settled) {
            return;
        }
        let queue = self.queue(key).map(|seen| seen.look_not_before);
        let not_before = queue.max(known.map(OriginSeen::not_before));
        if not_before.is_none_or(|at| self.due(at)) {
            self.step(Vec::new(), Action::Look { queue: key.clone(), job });
        }
    }

    fn origin(&self, key: &QueueKey, job: JobId) -> Option<&'a OriginSeen> {
        self.queue(key)?.origins.get(&job)
    }

    fn take_on(
        &mut self,
        key: &QueueKey,
        row: &Arc<JobRow>,
        request: Option<&Arc<Request>>,
        doom: Option<Doom>,
    ) {
        let taken = Event::Taken {
            job: row.id,
            row: Arc::clone(row),
            request: request.map(Arc::clone),
            doom,
            at: self.now,
        };
        self.take(key, row.id, taken);
        self.hold(row.id, key, Reason::Reserving, None);
    }

    fn foreign(&mut self, row: &JobRow, foreign: &Foreign) {
        let reason = match foreign {
            Foreign::UnknownTag { tag, nearest } => Reason::Foreign {
                tag: tag.as_str().into(),
                nearest: nearest.as_deref().map(Into::into),
            },
            Foreign::OtherValue { tag, .. } => {
                Reason::Foreign { tag: tag.as_str().into(), nearest: None }
            }
            Foreign::OtherQueue { .. } => return,
        };
        let told = self.told(row.id);
        self.tell_hold(row.id, &row.queue, &told, &reason, None);
        self.hold(row.id, &row.queue, reason, None);
    }

    fn told(&self, job: JobId) -> Told {
        let known = self.ledger.entries.get(&job).map(|entry| &entry.told);
        known.or_else(|| self.ledger.told.get(&job)).cloned().unwrap_or_default()
    }

    /// Forgets what was told about jobs that left the queues without us, some time ago: one listing
    /// may lack a job, and the next one have it again.
    pub(super) fn forget_told(&mut self) {
        if self.ledger.told.is_empty() {
            return;
        }
        let ledger = self.ledger;
        let mut visible = BTreeSet::new();
        let mut oldest = self.now;
        for queue in self.seen.queues.values() {
            match queue.listed_at {
                Some(at) => oldest = oldest.min(at),
                // It may come soon, and show them all; or never.
                None if self.now < self.seen.started_at.plus(TOLD_KEPT) => return,
                None => {}
            }
            visible.extend(queue.candidates.iter().map(|candidate| candidate.row.id));
        }
        for (job, told) in &ledger.told {
            let before = told.last.as_ref().is_none_or(|(_, at)| at.plus(TOLD_KEPT) < oldest);
            if before && !visible.contains(job) {
                let why = "it left the queue without us".into();
                self.fact(Event::Forgotten { job: *job, at: self.now, why });
            }
        }
    }
}
