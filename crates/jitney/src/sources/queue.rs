//! One queue: registers its stack, lists it to the end again and again, and looks at each new row
//! once. What follows from the listing is decided elsewhere.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use buildkite::wire::ScheduledJob;
use buildkite::{Paging, Remedy};
use planner::{
    Candidate, JobId, JobRow, OriginSeen, Policy, QueueKey, Request, Timestamp, Verdict,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Pauses;
use super::stacks::{Identity, Registrar};
use crate::clock::from_jiff;
use crate::input::{Input, Listed, Refused, Stack};
use crate::run::Error;
use crate::settings::Settings;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long after the last job for us the queue counts as busy.
const BUSY_FOR: Duration = Duration::from_secs(5);

/// So many different requests are remembered, so that jobs which ask for the same share one.
const ALIKE_MOST: usize = 16;

/// Where a source hears of its jobs' origins, once each is settled. As many can lie here as the
/// queue has jobs of which a policy asks.
pub(crate) type OriginSender = mpsc::UnboundedSender<(JobId, OriginSeen)>;

pub(crate) struct QueueSource {
    pub queue: QueueKey,
    pub registrar: Registrar,
    pub settings: watch::Receiver<Arc<Settings>>,
    /// A webhook says that something may be new.
    pub wake: Arc<Notify>,
    pub origins: mpsc::UnboundedReceiver<(JobId, OriginSeen)>,
}

/// What was made of the last listing.
#[derive(Default)]
struct Memory {
    candidates: HashMap<JobId, Arc<Candidate>>,
    /// Where the builds of listed jobs come from, of those that were looked at.
    origins: HashMap<JobId, OriginSeen>,
    last: Option<Arc<[Arc<Candidate>]>>,
    /// The last different requests, oldest first: thousands of jobs are often of a few kinds.
    alike: VecDeque<Arc<Request>>,
    /// By which they were assessed.
    policy: Option<Arc<Policy>>,
}

impl QueueSource {
    /// Never returns, but for an error that cannot heal.
    pub(crate) async fn run(mut self, identity: Identity) -> Error {
        let mut first = true;
        loop {
            let stack = match self.registrar.register(&identity, &self.queue).await {
                Ok(stack) => stack,
                Err(error) if first => return error,
                Err(error) => {
                    // What was good at the start may be good again: running work goes on meanwhile.
                    tracing::error!(%error, queue = %self.queue, "failed to register the stack again");
                    tokio::time::sleep(LONGEST_PAUSE).await;
                    continue;
                }
            };
            first = false;
            let registered = Input::Registered { queue: self.queue.clone(), stack: stack.clone() };
            self.send(registered);
            self.list_until_gone(&stack).await;
        }
    }

    /// Lists until Buildkite says that it does not know the stack any more.
    async fn list_until_gone(&mut self, stack: &Stack) {
        let mut memory = Memory::default();
        let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut busy_until = Instant::now();
        loop {
            let (started, started_at) = (Instant::now(), self.registrar.clock.now());
            let listing = stack.client.list_all(&stack.queue_key, Paging::default()).await;
            let paused = match listing {
                Ok(listing) => {
                    pauses.reset();
                    if !listing.complete {
                        let jobs = listing.jobs.len();
                        tracing::warn!(jobs, queue = %self.queue, "the queue is longer than we read; the jobs behind these wait");
                    }
                    let policy = Arc::clone(&self.settings.borrow().policy);
                    memory.hear(heard(&mut self.origins));
                    let candidates = memory.update(&self.queue, listing.jobs, &policy);
                    if candidates.iter().any(|candidate| is_ours(candidate)) {
                        busy_until = started + BUSY_FOR;
                    }
                    self.list(started_at, candidates, listing.paused);
                    listing.paused
                }
                Err(error) => {
                    let pause = pauses.next(error.retry_after);
                    self.failed(&error, started_at, pause, pauses.is_old_news());
                    if error.remedy == Remedy::Gone {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                    continue;
                }
            };
            let poll = self.settings.borrow().poll;
            let every = if started < busy_until { poll.busy.min(poll.idle) } else { poll.idle };
            self.rest(started + every, &mut memory, started_at, paused).await;
        }
    }

    /// Until the next listing is due. What is heard meanwhile of where builds come from changes the
    /// last one: it is sent again.
    async fn rest(
        &mut self,
        until: Instant,
        memory: &mut Memory,
        started_at: Timestamp,
        paused: bool,
    ) {
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.wake.notified() => return,
                Some(first) = self.origins.recv() => {
                    memory.hear([first].into_iter().chain(heard(&mut self.origins)));
                    if let Some(candidates) = memory.last.clone() {
                        self.list(started_at, candidates, paused);
                    }
                }
            }
        }
    }

    fn list(&self, started_at: Timestamp, candidates: Arc<[Arc<Candidate>]>, paused: bool) {
        let (queue, listed) = (self.queue.clone(), Listed { candidates, paused });
        self.send(Input::Listed { queue, started_at, listed });
    }

    fn failed(
        &self,
        error: &buildkite::Error,
        started_at: Timestamp,
        pause: Duration,
        is_old_news: bool,
    ) {
        let retry_in_seconds = pause.as_secs_f64();
        match error.remedy {
            _ if is_old_news => tracing::debug!(
                %error, queue = %self.queue, retry_in_seconds, "failed again to list the queue"
            ),
            Remedy::Unauthorized | Remedy::Forbidden | Remedy::Never => tracing::error!(
                %error, queue = %self.queue, retry_in_seconds,
                "Buildkite does not let us list the queue any more; what runs goes on"
            ),
            Remedy::Gone => tracing::warn!(
                %error, queue = %self.queue,
                "Buildkite does not know our stack any more; registering it again"
            ),
            Remedy::Retry | Remedy::Unknown => tracing::warn!(
                %error, queue = %self.queue, retry_in_seconds, "failed to list the queue"
            ),
        }
        self.send(Input::CallFailed { started_at, error: Refused::from(error) });
    }

    fn send(&self, input: Input) {
        // The loop has gone: so will this task.
        let _ = self.registrar.loop_inbox.send(input);
    }
}

fn is_ours(candidate: &Candidate) -> bool {
    match candidate.verdict {
        Verdict::Ours(_) | Verdict::Invalid(_) | Verdict::Undecided { .. } => true,
        Verdict::Foreign(_) => false,
    }
}

/// What has been told since the last time.
fn heard(
    origins: &mut mpsc::UnboundedReceiver<(JobId, OriginSeen)>,
) -> impl Iterator<Item = (JobId, OriginSeen)> {
    std::iter::from_fn(|| origins.try_recv().ok())
}

impl Memory {
    /// Assesses the rows anew of whose jobs something was told.
    fn hear(&mut self, told: impl Iterator<Item = (JobId, OriginSeen)>) {
        let mut changed = false;
        for (job, origin) in told {
            if let (Some(known), Some(policy)) = (self.candidates.get_mut(&job), &self.policy) {
                *known = assessed(Arc::clone(&known.row), Some(&origin), policy, &mut self.alike);
                changed = true;
            }
            self.origins.insert(job, origin);
        }
        if let (true, Some(last)) = (changed, &mut self.last) {
            let known = last.iter().map(|old| self.candidates.get(&old.row.id).unwrap_or(old));
            *last = known.map(Arc::clone).collect();
        }
    }

    /// Assesses what is new. A listing with nothing new is the very same slice as before.
    fn update(
        &mut self,
        queue: &QueueKey,
        jobs: Vec<ScheduledJob>,
        policy: &Arc<Policy>,
    ) -> Arc<[Arc<Candidate>]> {
        if !self.policy.as_ref().is_some_and(|known| Arc::ptr_eq(known, policy)) {
            let origins = std::mem::take(&mut self.origins);
            *self = Self { policy: Some(Arc::clone(policy)), origins, ..Self::default() };
        }
        let mut now = HashMap::with_capacity(jobs.len());
        let mut order = Vec::with_capacity(jobs.len());
        for job in jobs {
            let row = row(queue, job);
            let candidate = match self.candidates.remove(&row.id) {
                Some(known) if *known.row == row => known,
                Some(_) | None => {
                    let origin = self.origins.get(&row.id);
                    assessed(Arc::new(row), origin, policy, &mut self.alike)
                }
            };
            now.insert(candidate.row.id, Arc::clone(&candidate));
            order.push(candidate);
        }
        self.origins.retain(|job, _| now.contains_key(job));
        self.candidates = now;
        if let Some(last) = &self.last
            && last.len() == order.len()
            && last.iter().zip(&order).all(|(old, new)| Arc::ptr_eq(old, new))
        {
            return Arc::clone(last);
        }
        let fresh: Arc<[Arc<Candidate>]> = order.into();
        self.last = Some(Arc::clone(&fresh));
        fresh
    }
}

fn assessed(
    row: Arc<JobRow>,
    origin: Option<&OriginSeen>,
    policy: &Policy,
    alike: &mut VecDeque<Arc<Request>>,
) -> Arc<Candidate> {
    let nothing = OriginSeen::default();
    let verdict = match planner::assess_with(&row, origin.unwrap_or(&nothing), policy) {
        Verdict::Ours(request) => Verdict::Ours(shared(request, alike)),
        other @ (Verdict::Invalid(_) | Verdict::Foreign(_) | Verdict::Undecided { .. }) => other,
    };
    Arc::new(Candidate { row, verdict })
}

/// The request, or one that is the same and there already.
fn shared(request: Arc<Request>, alike: &mut VecDeque<Arc<Request>>) -> Arc<Request> {
    if let Some(known) = alike.iter().find(|known| **known == request) {
        return Arc::clone(known);
    }
    if alike.len() >= ALIKE_MOST {
        alike.pop_front();
    }
    alike.push_back(Arc::clone(&request));
    request
}

fn row(queue: &QueueKey, job: ScheduledJob) -> JobRow {
    JobRow {
        id: JobId(job.id),
        queue: queue.clone(),
        priority: job.priority,
        rules: job.agent_query_rules,
        scheduled_at: from_jiff(job.scheduled_at),
        runnable_at: job.runnable_at.map(from_jiff),
        pipeline: job.pipeline.slug.unwrap_or_default().into(),
        branch: job.build.branch.unwrap_or_default().into(),
        build: job.build.number.unwrap_or_default(),
        step: job.step.key.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use buildkite::wire::{BuildRef, PipelineRef, StepRef};
    use uuid::Uuid;

    use super::*;
    use crate::config::Config;
    use crate::host::Host;

    fn policy(tags: &str) -> Arc<Policy> {
        let yaml = format!(
            "buildkite: {{ token: t }}\nqueues: {{ jit: {{ backends: [there], tags: {tags} }} }}\n\
             backends: {{ there: {{ http: {{ url: \"http://127.0.0.1:9\" }} }} }}\n"
        );
        let config = Config::parse("test.yaml", &yaml, &|_: &str| None).unwrap();
        let host = Host { cpu_millis: 1000, memory_bytes: 1 << 30, arch: None, root: false };
        Arc::new(config.policy(&host))
    }

    fn job() -> ScheduledJob {
        ScheduledJob {
            id: Uuid::from_u128(1),
            priority: 0,
            agent_query_rules: vec!["queue=jit".into(), "os=linux".into()],
            scheduled_at: jiff::Timestamp::UNIX_EPOCH,
            runnable_at: None,
            pipeline: PipelineRef::default(),
            build: BuildRef::default(),
            step: StepRef::default(),
        }
    }

    #[test]
    fn what_is_known_is_assessed_again_when_the_policy_is_another() {
        let (queue, mut memory) = (QueueKey::new("jit"), Memory::default());
        let (before, after) = (policy("{}"), policy("{ os: linux }"));
        let mut look = |policy| memory.update(&queue, vec![job()], policy);
        let first = look(&before);
        assert!(!is_ours(&first[0]));
        assert!(Arc::ptr_eq(&first, &look(&before)), "nothing new is the very same slice");
        assert!(is_ours(&look(&after)[0]));
    }

    #[test]
    fn jobs_that_ask_for_the_same_share_one_request() {
        let (queue, mut memory) = (QueueKey::new("jit"), Memory::default());
        let policy = policy("{ os: linux }");
        let other = ScheduledJob { id: Uuid::from_u128(2), ..job() };
        let mut large = ScheduledJob { id: Uuid::from_u128(3), ..job() };
        large.agent_query_rules.push("cpu=4".into());
        let listed = memory.update(&queue, vec![job(), other, large], &policy);
        let requests: Vec<&Arc<Request>> = listed
            .iter()
            .map(|candidate| match &candidate.verdict {
                Verdict::Ours(request) => request,
                Verdict::Invalid(_) | Verdict::Foreign(_) | Verdict::Undecided { .. } => {
                    panic!("{:?}", candidate.verdict)
                }
            })
            .collect();
        assert!(Arc::ptr_eq(requests[0], requests[1]));
        assert_ne!(requests[0], requests[2]);
    }
}
