//! Concurrency groups: which of their jobs may go. A group is a line of all its jobs that have not
//! ended, in the order of their creation, and those of them that have been let go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::Engine;
use super::job::{Actor, EventKind, State};
use super::steps::{Command, Concurrency, ConcurrencyMethod};

type Place = (Timestamp, u64);

/// One concurrency group, of the whole organisation. Its jobs are apart by whether they have been
/// let go, so that finding the next one takes no look at all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) idle: BTreeMap<Place, Uuid>,
    pub(super) active: BTreeMap<Place, Uuid>,
    /// Of the idle ones those that are eager and could run, in the order in which they may.
    eager: BTreeSet<(Reverse<i64>, Place)>,
    /// The largest limit that any of its jobs has had.
    most: usize,
}

fn limit_of(of: &Concurrency) -> usize {
    usize::try_from(of.limit).unwrap_or(usize::MAX)
}

impl Line {
    /// A retry takes the room of what it retries, if that had any.
    fn join(&mut self, place: Place, job: Uuid, of: &Concurrency) {
        self.most = self.most.max(limit_of(of));
        let jobs = if self.active.contains_key(&place) { &mut self.active } else { &mut self.idle };
        jobs.insert(place, job);
    }

    /// Whether the job at this place may go now. One in order counts everybody before it, even who
    /// waits for other steps; that is what makes two jobs of a group the gates around others.
    fn has_room(&self, place: Place, of: &Concurrency) -> bool {
        let limit = limit_of(of);
        let before = match of.method {
            ConcurrencyMethod::Ordered => self.idle.range(..place).take(limit).count(),
            ConcurrencyMethod::Eager => 0,
        };
        self.active.len() + before < limit
    }

    fn let_go(&mut self, place: Place, command: &Command) {
        if let Some(job) = self.idle.remove(&place) {
            self.active.insert(place, job);
        }
        self.eager.remove(&(Reverse(command.priority), place));
    }

    /// Whether the job was in the line, and not a retry of it by now.
    fn leave(&mut self, place: Place, job: Uuid, command: &Command) -> bool {
        let jobs = if self.active.contains_key(&place) { &mut self.active } else { &mut self.idle };
        let there = jobs.get(&place) == Some(&job);
        if there {
            jobs.remove(&place);
            self.eager.remove(&(Reverse(command.priority), place));
        }
        there
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
        if of.state.is_terminal() {
            return;
        }
        let (command, place) = (Arc::clone(&of.command), of.in_line);
        if let Some(limit) = &command.concurrency {
            self.lines.entry(limit.group.clone()).or_default().join(place, job, limit);
        }
    }

    /// Lets a job go that nothing holds back any more, except perhaps its group.
    pub(super) fn release(&mut self, job: Uuid, now: Timestamp) {
        self.join_line(job);
        let of = self.own_job(job);
        let (command, place) = (Arc::clone(&of.command), of.in_line);
        let Some(limit) = &command.concurrency else { return self.schedule(job, now) };
        let line = self.lines.entry(limit.group.clone()).or_default();
        if line.active.contains_key(&place) || line.has_room(place, limit) {
            line.let_go(place, &command);
            return self.schedule(job, now);
        }
        match limit.method {
            ConcurrencyMethod::Ordered => {}
            ConcurrencyMethod::Eager => {
                line.eager.insert((Reverse(command.priority), place));
            }
        }
        let group = limit.group.clone();
        self.own_job(job).tell_detail(now, EventKind::Limited, Actor::System, group);
        self.shift(job, State::Limited);
    }

    /// An eager job that waits goes to where its new priority puts it.
    pub(super) fn move_in_line(&mut self, job: Uuid, before: i64) {
        let of = self.own_job(job);
        let (command, place) = (Arc::clone(&of.command), of.in_line);
        let group = command.concurrency.as_ref().map(|limit| limit.group.as_str());
        let Some(line) = group.and_then(|group| self.lines.get_mut(group)) else { return };
        if line.eager.remove(&(Reverse(before), place)) {
            line.eager.insert((Reverse(command.priority), place));
        }
    }

    /// A job that has ended makes room for others, unless a retry has taken its place.
    pub(super) fn leave_line(&mut self, job: Uuid, now: Timestamp) {
        let of = self.own_job(job);
        let (command, place) = (Arc::clone(&of.command), of.in_line);
        let Some(limit) = &command.concurrency else { return };
        let Some(line) = self.lines.get_mut(&limit.group) else { return };
        if !line.leave(place, job, &command) {
            return;
        }
        while let Some((place, next)) = self.next_in(&limit.group) {
            let command = Arc::clone(&self.own_job(next).command);
            self.lines.entry(limit.group.clone()).or_default().let_go(place, &command);
            self.schedule(next, now);
        }
    }

    /// The job of a group that goes next, if one may: who keeps the order first, and of the eager
    /// ones that with the highest priority.
    fn next_in(&self, group: &str) -> Option<(Place, Uuid)> {
        let line = self.lines.get(group)?;
        let active = line.active.len();
        let limit = |id: &Uuid| self.jobs[id].command.concurrency.as_ref();
        // Behind so many idle ones no limit leaves any room.
        let first = line.idle.iter().take(line.most.saturating_sub(active)).enumerate();
        let mut in_order = first.filter(|(before, (_, id))| {
            self.jobs[*id].state == State::Limited
                && limit(id).is_some_and(|of| {
                    of.method == ConcurrencyMethod::Ordered && active + before < limit_of(of)
                })
        });
        if let Some((_, (place, id))) = in_order.next() {
            return Some((*place, *id));
        }
        if active >= line.most {
            return None;
        }
        let mut eager = line.eager.iter().map(|(_, place)| (*place, line.idle[place]));
        eager.find(|(_, id)| limit(id).is_some_and(|of| active < limit_of(of)))
    }
}
