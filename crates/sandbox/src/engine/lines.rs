//! Concurrency groups: which of their jobs may go. A group is a line of all its jobs that have not
//! ended, in the order of their creation, and those of them that have been let go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::Engine;
use super::job::{Actor, EventKind, State};
use super::steps::{Concurrency, ConcurrencyMethod};

type Place = (Timestamp, u64);

/// One concurrency group, of the whole organisation.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) jobs: BTreeMap<Place, Uuid>,
    active: BTreeSet<Place>,
}

impl Line {
    /// Whether the job at this place may go now. One in order counts everybody before it, even who
    /// waits for other steps; that is what makes two jobs of a group the gates around others.
    fn has_room(&self, place: Place, of: &Concurrency) -> bool {
        let limit = usize::try_from(of.limit).unwrap_or(usize::MAX);
        let taken = match of.method {
            ConcurrencyMethod::Ordered => {
                let before = self.jobs.range(..place).take(limit).count();
                before + self.active.range(place..).take(limit).count()
            }
            ConcurrencyMethod::Eager => self.active.len(),
        };
        taken < limit
    }
}

impl Engine {
    /// Jobs join their line when they are created, except those that a person still holds back.
    pub(super) fn join_lines(&mut self, build: usize) {
        if self.builds[build].out_of_line.is_empty() {
            return;
        }
        let held = self.builds[build].held_by_a_person();
        let jobs = std::mem::take(&mut self.builds[build].out_of_line);
        for job in jobs {
            let of = self.own_job(job);
            let (step, ended) = (of.step, of.state.is_terminal());
            if held[step] && !ended {
                self.builds[build].out_of_line.push(job);
            } else {
                self.join_line(job);
            }
        }
    }

    fn join_line(&mut self, job: Uuid) {
        let of = self.own_job(job);
        let Some(limit) = &of.command.concurrency else { return };
        let (group, place) = (limit.group.clone(), of.in_line);
        if !of.state.is_terminal() {
            self.lines.entry(group).or_default().jobs.insert(place, job);
        }
    }

    /// Lets a job go that nothing holds back any more, except perhaps its group. A retry goes on
    /// with the room that what it retries had.
    pub(super) fn release(&mut self, job: Uuid, now: Timestamp) {
        self.join_line(job);
        let of = self.own_job(job);
        let (command, place) = (Arc::clone(&of.command), of.in_line);
        let Some(limit) = &command.concurrency else { return self.schedule(job, now) };
        let line = self.lines.entry(limit.group.clone()).or_default();
        if line.active.contains(&place) || line.has_room(place, limit) {
            line.active.insert(place);
            return self.schedule(job, now);
        }
        let group = limit.group.clone();
        self.own_job(job).tell_detail(now, EventKind::Limited, Actor::System, group);
        self.shift(job, State::Limited);
    }

    /// A job that has ended makes room for others, unless a retry has taken its place.
    pub(super) fn leave_line(&mut self, job: Uuid, now: Timestamp) {
        let of = self.own_job(job);
        let (command, place) = (Arc::clone(&of.command), of.in_line);
        let Some(limit) = &command.concurrency else { return };
        let Some(line) = self.lines.get_mut(&limit.group) else { return };
        if line.jobs.get(&place) != Some(&job) {
            return;
        }
        line.jobs.remove(&place);
        line.active.remove(&place);
        while let Some((place, next)) = self.next_in(&limit.group) {
            self.lines.entry(limit.group.clone()).or_default().active.insert(place);
            self.schedule(next, now);
        }
    }

    /// The job of a group that goes next, if one may: who keeps the order first, and of the eager
    /// ones that with the highest priority.
    fn next_in(&self, group: &str) -> Option<(Place, Uuid)> {
        let line = self.lines.get(group)?;
        let candidates = line.jobs.iter().filter_map(|(place, id)| {
            let job = &self.jobs[id];
            let limit = job.command.concurrency.as_ref()?;
            let may = job.state == State::Limited && line.has_room(*place, limit);
            let eager = limit.method == ConcurrencyMethod::Eager;
            may.then_some((eager.then_some(Reverse(job.command.priority)), *place, *id))
        });
        candidates.min().map(|(_, place, id)| (place, id))
    }
}
