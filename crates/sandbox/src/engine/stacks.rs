//! The Stacks API's calls: registration, the listing, reservations, tokens, states, ends and
//! notifications. Limits of rates are the shell's.

use std::collections::BTreeMap;

use buildkite::wire;
use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use super::job::{Actor, EventKind, Job, Outcome, Reservation, State, Told};
use super::timers::Due;
use super::{Credential, Engine, Refusal};

/// Of ids or items in one call.
const MAX_BATCH: usize = 1_000;
/// Of one job, over its whole life.
const MAX_NOTIFICATIONS: usize = 100;
const DEFAULT_RESERVATION_S: u32 = 900;
const MAX_LEASE_S: u32 = 3_600;

#[derive(Clone, Debug)]
pub struct Stack {
    pub id: Uuid,
    pub key: String,
    pub kind: String,
    /// Index of its cluster.
    pub cluster: usize,
    /// Index of the queue it registered for.
    pub queue: usize,
    pub metadata: BTreeMap<String, String>,
    pub last_connected_on: Option<Timestamp>,
}

/// Which part of a queue's listing is asked for.
#[derive(Clone, Debug)]
pub struct PageRequest {
    pub queue_key: String,
    pub limit: usize,
    /// The end of the page before.
    pub after: Option<(Timestamp, u64)>,
}

/// A page, and where the next one begins.
#[derive(Clone, Debug)]
pub struct Page {
    pub jobs: Vec<wire::ScheduledJob>,
    pub end: Option<(Timestamp, u64)>,
    pub queue: wire::ClusterQueue,
}

impl Engine {
    /// Creates or updates a stack; true if it is new.
    pub fn register_stack(
        &mut self,
        cluster: usize,
        new: wire::RegisterStack,
        now: Timestamp,
    ) -> Result<(wire::Stack, bool), Refusal> {
        if !self.clusters[cluster].clustered {
            let why = "this is an unclustered agent token: a stack needs a cluster's token";
            return Err(Refusal::Forbidden(why.to_owned()));
        }
        check_stack(&new)?;
        let queue = self.queue_named(cluster, &new.queue_key)?;
        let is_new = match self.stacks.get(&new.key) {
            Some(stack) if stack.cluster != cluster => {
                let why = format!("the key {:?} belongs to a stack of another cluster", new.key);
                return Err(Refusal::Unprocessable(why));
            }
            Some(_) => false,
            None if self.stacks.len() >= self.settings.stack_quota => {
                let quota = self.settings.stack_quota;
                let why = format!("the organisation has its {quota} stacks: deregister one");
                return Err(Refusal::Forbidden(why));
            }
            None => true,
        };
        let id = self.ids.uuid(now);
        let stack = self.stacks.entry(new.key.clone()).or_insert_with(|| Stack {
            id,
            key: new.key,
            kind: String::new(),
            cluster,
            queue,
            metadata: BTreeMap::new(),
            last_connected_on: None,
        });
        stack.kind = new.kind;
        stack.queue = queue;
        stack.metadata = new.metadata;
        let reply = wire::Stack {
            id: stack.id,
            organization_uuid: self.organization_id.to_string(),
            cluster_queue_key: self.queues[queue].key.clone(),
            key: stack.key.clone(),
            kind: stack.kind.clone(),
            metadata: stack.metadata.clone(),
            last_connected_on: stack.last_connected_on,
            state: "connected".to_owned(),
        };
        Ok((reply, is_new))
    }

    /// Frees the key. What the stack reserved stays reserved until it lapses.
    pub fn deregister_stack(&mut self, cluster: usize, key: &str) -> Result<(), Refusal> {
        self.stack(cluster, key)?;
        self.stacks.remove(key);
        Ok(())
    }

    pub fn stack(&self, cluster: usize, key: &str) -> Result<&Stack, Refusal> {
        self.stacks
            .get(key)
            .filter(|stack| stack.cluster == cluster)
            .ok_or_else(|| Refusal::NotFound(format!("no stack {key:?}: register it first")))
    }

    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        self.stacks.values()
    }

    /// One page of the jobs that are `scheduled`, oldest first.
    pub fn list_scheduled(
        &mut self,
        cluster: usize,
        key: &str,
        request: &PageRequest,
        now: Timestamp,
    ) -> Result<Page, Refusal> {
        self.stack(cluster, key)?;
        let index = self.queue_named(cluster, &request.queue_key)?;
        if request.limit == 0 || request.limit > MAX_BATCH {
            let why = format!("limit is {}: it must be 1 to {MAX_BATCH}", request.limit);
            return Err(Refusal::BadRequest(why));
        }
        if let Some(stack) = self.stacks.get_mut(key) {
            stack.last_connected_on = Some(now);
        }
        let queue = &self.queues[index];
        let mut page: Vec<&Job> =
            if request.after.is_none() { self.still_listed(index, now) } else { Vec::new() };
        let late = self.quirks.listing_late();
        let from = request.after.map_or(std::ops::Bound::Unbounded, |(at, sequence)| {
            std::ops::Bound::Excluded((at, sequence, Uuid::max()))
        });
        page.extend(
            queue
                .scheduled
                .range((from, std::ops::Bound::Unbounded))
                .map(|(_, _, id)| &self.jobs[id])
                .filter(|job| late.is_zero() || job.runnable_at.is_some_and(|at| at + late <= now))
                .take(request.limit + 1),
        );
        let more = page.len() > request.limit;
        page.truncate(request.limit);
        let repeat = self.quirks.listing_repeats_over_pages && page.len() > 1;
        let last = if repeat { page.len().checked_sub(2) } else { page.len().checked_sub(1) };
        let end = last.filter(|_| more).map(|at| (page[at].scheduled_at, page[at].sequence));
        Ok(Page {
            jobs: page.into_iter().map(|job| self.listed(job)).collect(),
            end,
            queue: wire::ClusterQueue {
                id: queue.id,
                dispatch_paused: queue.paused,
                paused: queue.paused,
            },
        })
    }

    /// What a stale listing still shows although it is reserved.
    fn still_listed(&self, queue: usize, now: Timestamp) -> Vec<&Job> {
        let keeps = self.quirks.listing_keeps_reserved();
        if keeps.is_zero() {
            return Vec::new();
        }
        let lately = self.queues[queue].lately_reserved.iter();
        lately
            .filter(|(at, _)| *at + keeps > now)
            .filter_map(|(_, id)| self.jobs.get(id))
            .filter(|job| job.state != State::Scheduled)
            .collect()
    }

    fn listed(&self, job: &Job) -> wire::ScheduledJob {
        let build = &self.builds[job.build];
        wire::ScheduledJob {
            id: job.id,
            priority: job.command.priority,
            agent_query_rules: job.rules.clone(),
            scheduled_at: job.scheduled_at,
            runnable_at: job.runnable_at,
            pipeline: wire::PipelineRef {
                slug: Some(build.pipeline.clone()),
                uuid: Some(build.pipeline_id),
            },
            build: wire::BuildRef {
                uuid: Some(build.id),
                number: Some(build.number),
                branch: Some(build.branch.clone()),
            },
            step: wire::StepRef { key: job.step_key.clone() },
        }
    }

    /// Reserves jobs, all under one lock, or extends what this stack holds.
    pub fn batch_reserve(
        &mut self,
        cluster: usize,
        key: &str,
        request: &wire::BatchReserve,
        now: Timestamp,
    ) -> Result<wire::BatchReserved, Refusal> {
        self.stack(cluster, key)?;
        check_batch(request.job_uuids.len(), "job_uuids")?;
        let lease = request.reservation_expiry_seconds.unwrap_or(DEFAULT_RESERVATION_S);
        check_lease(lease, "reservation_expiry_seconds")?;
        let until = now + i64::from(lease).seconds();
        let mut reply = wire::BatchReserved::default();
        for id in &request.job_uuids {
            if self.reserve(cluster, key, *id, until, now) {
                reply.reserved.push(*id);
            } else {
                reply.not_reserved.push(*id);
            }
        }
        Ok(reply)
    }

    fn reserve(
        &mut self,
        cluster: usize,
        stack: &str,
        id: Uuid,
        until: Timestamp,
        now: Timestamp,
    ) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        if self.builds[job.build].cluster != cluster {
            return false;
        }
        let is_mine = job.reservation.as_ref().is_some_and(|held| held.stack == stack);
        match job.state {
            State::Scheduled => {
                job.tell(now, EventKind::Reserved, Actor::Stack(stack.to_owned()));
                let queue = job.queue;
                self.shift(id, State::Reserved);
                self.remember_reserved(queue, id, now);
            }
            State::Reserved if is_mine => {}
            State::Reserved
            | State::Waiting
            | State::WaitingFailed
            | State::Limited
            | State::Accepted
            | State::Running
            | State::Canceling
            | State::Canceled
            | State::TimingOut
            | State::TimedOut
            | State::Finished
            | State::Expired
            | State::Broken
            | State::Skipped => return false,
        }
        self.own_job(id).reservation = Some(Reservation { stack: stack.to_owned(), until });
        self.due_at(until, Due::Reservation(id));
        true
    }

    fn remember_reserved(&mut self, queue: usize, id: Uuid, now: Timestamp) {
        let keeps = self.quirks.listing_keeps_reserved();
        if keeps.is_zero() {
            return;
        }
        let lately = &mut self.queues[queue].lately_reserved;
        lately.push_back((now, id));
        while lately.front().is_some_and(|(at, _)| *at + keeps <= now) {
            lately.pop_front();
        }
    }

    /// What a stack may know of a job before it starts a machine for it.
    pub fn show_job(
        &self,
        cluster: usize,
        key: &str,
        id: Uuid,
    ) -> Result<wire::JobDetail, Refusal> {
        self.stack(cluster, key)?;
        let job = self.job_of(cluster, id)?;
        Ok(wire::JobDetail {
            id,
            env: self.job_environment(id),
            command: job.command.command.clone(),
        })
    }

    fn job_of(&self, cluster: usize, id: Uuid) -> Result<&Job, Refusal> {
        self.known_job(id).and_then(|job| {
            let here = self.builds[job.build].cluster == cluster;
            here.then_some(job)
                .ok_or_else(|| Refusal::NotFound(format!("no job {id} in this cluster")))
        })
    }

    pub fn job_states(
        &self,
        cluster: usize,
        key: &str,
        ids: &[Uuid],
    ) -> Result<wire::JobStates, Refusal> {
        self.stack(cluster, key)?;
        check_batch(ids.len(), "job_uuids")?;
        let states = ids
            .iter()
            .filter_map(|id| self.job_of(cluster, *id).ok())
            .map(|job| (job.id, job.state.into()))
            .collect();
        Ok(wire::JobStates { states })
    }

    /// A stack ends a job that no agent has.
    pub fn stack_finish(
        &mut self,
        cluster: usize,
        key: &str,
        id: Uuid,
        finish: wire::FinishJob,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.stack(cluster, key)?;
        if finish.detail.is_empty() || finish.detail.len() > 4096 {
            let length = finish.detail.len();
            let why = format!("detail has {length} bytes: it must have 1 to 4096");
            return Err(Refusal::Unprocessable(why));
        }
        let job = self.job_of(cluster, id)?;
        let held_by_us = job.reservation.as_ref().is_some_and(|held| held.stack == key);
        let free = job.state == State::Scheduled || (job.state == State::Reserved && held_by_us);
        if !free {
            let why = format!("job {id} cannot be finished by {key}: it is {}", job.state.name());
            return Err(Refusal::Unprocessable(why));
        }
        let failed = finish.exit_status != 0;
        let kind = if failed { EventKind::StackErrored } else { EventKind::StackFinished };
        let job = self.own_job(id);
        job.tell_detail(now, kind, Actor::Stack(key.to_owned()), finish.detail.clone());
        job.detail = Some(finish.detail);
        let outcome = Outcome {
            exit_status: Some(finish.exit_status),
            signal: None,
            signal_reason: failed.then(|| "stack_error".to_owned()),
        };
        self.end(id, State::Finished, outcome, Actor::Stack(key.to_owned()), now);
        Ok(())
    }

    /// Stores what can be stored, and names the rest by its index.
    pub fn notify(
        &mut self,
        cluster: usize,
        key: &str,
        request: wire::Notifications,
        now: Timestamp,
    ) -> Result<wire::NotificationErrors, Refusal> {
        self.stack(cluster, key)?;
        check_batch(request.notifications.len(), "notifications")?;
        let mut errors: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, item) in request.notifications.into_iter().enumerate() {
            if let Err(error) = self.notify_one(cluster, key, item, now) {
                errors.entry(error).or_default().push(index);
            }
        }
        let errors = errors
            .into_iter()
            .map(|(error, indexes)| wire::NotificationError { error, indexes })
            .collect();
        Ok(wire::NotificationErrors { errors })
    }

    fn notify_one(
        &mut self,
        cluster: usize,
        key: &str,
        item: wire::Notification,
        now: Timestamp,
    ) -> Result<(), String> {
        if self.quirks.refuses_notification() {
            return Err("refused by a fault that was asked for".to_owned());
        }
        let grace = self.settings.timing.notification_grace;
        self.job_of(cluster, item.job_uuid).map_err(|_| "job not found".to_owned())?;
        let job = self.own_job(item.job_uuid);
        let length = item.detail.chars().count();
        if length == 0 || length > 256 {
            return Err("detail must have 1 to 256 characters".to_owned());
        }
        let at = item.timestamp.unwrap_or(now);
        if at > now || at < job.created_at {
            return Err("timestamp is in the future or before the job's creation".to_owned());
        }
        if job.finished_at.is_some_and(|ended| now > ended + grace) {
            return Err("the job finished too long ago".to_owned());
        }
        let told = Told { at, detail: item.detail };
        // Without a time of its own there is no telling a repeat from a second remark.
        if item.timestamp.is_some() && job.notifications.contains(&told) {
            job.repeated_notifications += 1;
            return Ok(());
        }
        if job.notifications.len() >= MAX_NOTIFICATIONS {
            return Err(format!("the job has its {MAX_NOTIFICATIONS} notifications"));
        }
        let actor = Actor::Stack(key.to_owned());
        job.tell_detail(now, EventKind::StackNotification, actor, told.detail.clone());
        job.notifications.push(told);
        Ok(())
    }

    /// Tokens for jobs that this stack holds, for agents that may run only them.
    pub fn issue_tokens(
        &mut self,
        cluster: usize,
        key: &str,
        request: &wire::IssueTokens,
        now: Timestamp,
    ) -> Result<wire::IssuedTokens, Refusal> {
        if !self.settings.job_tokens {
            let why = "this organisation has no job acquisition tokens";
            return Err(Refusal::NotFound(why.to_owned()));
        }
        let queue = self.stack(cluster, key)?.queue;
        check_batch(request.job_uuids.len(), "job_uuids")?;
        let lifetime = request.token_lifetime_seconds.unwrap_or(DEFAULT_RESERVATION_S);
        check_lease(lifetime, "token_lifetime_seconds")?;
        let latest = now + i64::from(lifetime).seconds();
        let mut reply =
            wire::IssuedTokens { job_acquisition_tokens: Vec::new(), not_issued: Vec::new() };
        for id in &request.job_uuids {
            let held = self.jobs.get(id).and_then(|job| {
                let held = job.reservation.as_ref().filter(|held| held.stack == key)?;
                (job.state == State::Reserved && job.queue == queue).then_some(held.until)
            });
            match held {
                Some(until) if !self.quirks.withholds_token() => {
                    let token = self.ids.token("bkjat_");
                    let expires_at = until.min(latest);
                    let credential =
                        Credential::Acquisition { job: *id, stack: key.to_owned(), expires_at };
                    self.tokens.insert(token.clone(), credential);
                    reply.job_acquisition_tokens.push(wire::JobAcquisitionToken {
                        job_uuid: *id,
                        job_acquisition_token: token,
                        expires_at,
                    });
                }
                Some(_) | None => reply.not_issued.push(*id),
            }
        }
        Ok(reply)
    }
}

fn check_stack(new: &wire::RegisterStack) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::Unprocessable(why));
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if new.key.is_empty() || new.key.len() > 80 || !new.key.chars().all(good) {
        return refuse(format!("key {:?} must be 1 to 80 of A-Z a-z 0-9 _ -", new.key));
    }
    if !["kubernetes", "elastic", "custom"].contains(&new.kind.as_str()) {
        return refuse(format!("type {:?} must be kubernetes, elastic or custom", new.kind));
    }
    if new.queue_key.is_empty() {
        return refuse("queue_key must not be empty".to_owned());
    }
    if new.metadata.len() > 100 {
        return refuse("metadata has more than 100 keys".to_owned());
    }
    let long = new.metadata.iter().find(|(k, v)| k.chars().count() > 64 || v.chars().count() > 256);
    if let Some((key, _)) = long {
        return refuse(format!("metadata {key:?} is longer than 64 characters, or its value 256"));
    }
    Ok(())
}

fn check_batch(length: usize, field: &str) -> Result<(), Refusal> {
    if length <= MAX_BATCH {
        return Ok(());
    }
    Err(Refusal::Unprocessable(format!("{field} has {length} entries: at most {MAX_BATCH}")))
}

fn check_lease(seconds: u32, field: &str) -> Result<(), Refusal> {
    if (1..=MAX_LEASE_S).contains(&seconds) {
        return Ok(());
    }
    Err(Refusal::Unprocessable(format!("{field} is {seconds}: it must be 1 to {MAX_LEASE_S}")))
}
