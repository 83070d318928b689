//! Carries out what was decided, and makes no choices: it drops what is under way already, and
//! sees to it that every call ends in exactly one outcome, also when no answer comes.

mod lanes;
mod machine_calls;
mod notices;
mod origin;
mod queue_calls;
mod rest_calls;
mod vault;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backends::Backend;
use buildkite::RestClient;
use planner::{Action, BackendName, JobId, QueueKey, Step, TokenSeen};
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::input::{Call, Input, Outcome, Sender, Stack};
use crate::run::Error;
use lanes::Lanes;
pub(crate) use machine_calls::order;
use notices::Notices;
pub(crate) use vault::Vault;

/// What is the same for every machine.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub mark: Arc<str>,
    pub instance: Arc<str>,
    /// Where agents register.
    pub endpoint: Arc<str>,
}

#[derive(Debug)]
pub(crate) struct Executor {
    clock: Clock,
    inbox: Sender,
    stamp: Stamp,
    stacks: BTreeMap<QueueKey, Stack>,
    /// Where there is a token for it.
    rest: Option<RestClient>,
    lanes: BTreeMap<BackendName, Lanes>,
    vault: Vault,
    in_flight: BTreeSet<Call>,
    notices: Notices,
    tasks: JoinSet<()>,
}

impl Executor {
    pub(crate) fn new(clock: Clock, inbox: Sender, stamp: Stamp, rest: Option<RestClient>) -> Self {
        let mut tasks = JoinSet::new();
        let notices = Notices::start(&mut tasks);
        Self {
            clock,
            inbox,
            stamp,
            stacks: BTreeMap::new(),
            rest,
            lanes: BTreeMap::new(),
            vault: Vault::default(),
            in_flight: BTreeSet::new(),
            notices,
            tasks,
        }
    }

    pub(crate) fn add_backend(
        &mut self,
        name: BackendName,
        backend: Arc<dyn Backend>,
    ) -> Arc<Notify> {
        let lanes = Lanes::open(&name, backend, &self.stamp, &self.inbox, &mut self.tasks);
        let poke = Arc::clone(&lanes.poke);
        self.lanes.insert(name, lanes);
        poke
    }

    pub(crate) fn add_stack(&mut self, queue: QueueKey, stack: Stack) {
        self.stacks.insert(queue, stack);
    }

    pub(crate) fn stack(&self, queue: &QueueKey) -> Option<&Stack> {
        self.stacks.get(queue)
    }

    pub(crate) const fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// How long a call to the REST API would wait for its turn.
    pub(crate) fn rest_wait(&self) -> Duration {
        self.rest.as_ref().map(RestClient::not_before).unwrap_or_default()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The tokens in our keeping, without their secrets.
    pub(crate) fn tokens(&self) -> &BTreeMap<JobId, TokenSeen> {
        self.vault.seen()
    }

    /// The secret of a token in our keeping.
    pub(crate) fn token(&self, job: JobId, attempt: u32) -> Option<SecretString> {
        self.vault.get(job, attempt, self.clock.now())
    }

    pub(crate) fn vault(&mut self) -> &mut Vault {
        &mut self.vault
    }

    /// What is left of a step when that which is under way is taken out, and what cannot be done
    /// at all yet: nothing of it is recorded then, and it is decided again when things have changed.
    pub(crate) fn admit(&mut self, step: Step) -> Option<Step> {
        let Step { mut intents, action } = step;
        let action = match action {
            Action::Ask { queue, jobs } => {
                let jobs = self.begin_jobs(&queue, jobs, |job| *job, Call::Ask)?;
                Action::Ask { queue, jobs }
            }
            Action::Look { queue, job } => {
                self.stacks.get(&queue)?;
                self.begin(Call::Look(job))?;
                Action::Look { queue, job }
            }
            Action::Reserve { queue, jobs, lease } => {
                let jobs = self.begin_jobs(&queue, jobs, |job| *job, Call::Reserve)?;
                let begun: BTreeSet<JobId> = jobs.iter().copied().collect();
                intents.retain(|intent| begun.contains(&intent.job()));
                Action::Reserve { queue, jobs, lease }
            }
            Action::Mint { queue, jobs, lifetime } => {
                let jobs = self.begin_jobs(&queue, jobs, |(job, _)| *job, Call::Mint)?;
                Action::Mint { queue, jobs, lifetime }
            }
            Action::Create(create) => {
                self.lanes.get(&create.offer.backend)?;
                self.begin(Call::Create(create.job, create.attempt))?;
                Action::Create(create)
            }
            Action::Delete { backend, name, job, attempt } => {
                self.lanes.get(&backend)?;
                self.begin(Call::Delete(job, attempt))?;
                Action::Delete { backend, name, job, attempt }
            }
            Action::Finish { queue, job, detail } => {
                self.stacks.get(&queue)?;
                self.begin(Call::Finish(job))?;
                Action::Finish { queue, job, detail }
            }
            Action::ReadRecord { job } => {
                self.rest.as_ref()?;
                self.begin(Call::ReadRecord(job))?;
                Action::ReadRecord { job }
            }
            Action::Retry { job } => {
                self.rest.as_ref()?;
                self.begin(Call::Retry(job))?;
                Action::Retry { job }
            }
            Action::Notify { queue, job, notice, at } => {
                self.stacks.get(&queue)?;
                Action::Notify { queue, job, notice, at }
            }
        };
        Some(Step { intents, action })
    }

    fn begin(&mut self, call: Call) -> Option<()> {
        self.in_flight.insert(call).then_some(())
    }

    fn begin_jobs<T>(
        &mut self,
        queue: &QueueKey,
        mut jobs: Vec<T>,
        job: impl Fn(&T) -> JobId,
        call: impl Fn(JobId) -> Call,
    ) -> Option<Vec<T>> {
        self.stacks.get(queue)?;
        jobs.retain(|item| self.in_flight.insert(call(job(item))));
        (!jobs.is_empty()).then_some(jobs)
    }

    /// Begins an action that was admitted. `dispatch` is the round that a machine bears.
    pub(crate) fn perform(&mut self, action: Action, dispatch: &Arc<str>) {
        match action {
            Action::Ask { queue, jobs } => self.ask(queue, jobs),
            Action::Look { queue, job } => self.look(queue, job),
            Action::Reserve { queue, jobs, lease } => self.reserve(queue, jobs, lease),
            Action::Mint { queue, jobs, lifetime } => self.mint(queue, jobs, lifetime),
            Action::Create(create) => self.create(create, Arc::clone(dispatch)),
            Action::Delete { backend, name, job, attempt } => {
                self.delete(backend, name, job, attempt);
            }
            Action::Finish { queue, job, detail } => self.finish(queue, job, detail),
            Action::ReadRecord { job } => self.read_record(job),
            Action::Retry { job } => self.retry(job),
            Action::Notify { queue, job, notice, at } => {
                if let Some(stack) = self.stacks.get(&queue) {
                    self.notices.send(stack.client.clone(), job, &notice, at);
                }
            }
        }
    }

    /// A call has ended: it may be begun again.
    pub(crate) fn ended(&mut self, outcome: &Outcome) {
        // What it came to has been told already.
        while self.tasks.try_join_next().is_some() {}
        match outcome {
            Outcome::Asked { jobs, .. } => self.free(jobs, Call::Ask),
            Outcome::Looked { job, .. } => {
                self.in_flight.remove(&Call::Look(*job));
            }
            Outcome::Reserved { jobs, .. } => self.free(jobs, Call::Reserve),
            Outcome::Minted { jobs, .. } => self.free(jobs, Call::Mint),
            Outcome::Created { job, attempt, .. } => {
                self.in_flight.remove(&Call::Create(*job, *attempt));
            }
            Outcome::Deleted { job, attempt, .. } => {
                self.in_flight.remove(&Call::Delete(*job, *attempt));
            }
            Outcome::Finished { job, .. } => {
                self.in_flight.remove(&Call::Finish(*job));
            }
            Outcome::RecordRead { job, .. } => {
                self.in_flight.remove(&Call::ReadRecord(*job));
            }
            Outcome::Retried { job, .. } => {
                self.in_flight.remove(&Call::Retry(*job));
            }
        }
    }

    fn free(&mut self, jobs: &[JobId], call: impl Fn(JobId) -> Call) {
        for job in jobs {
            self.in_flight.remove(&call(*job));
        }
    }

    /// Something of ours has changed at the backend: it is listed soon. To be called when the change
    /// has been recorded, so that the listing is begun after it.
    pub(crate) fn poke(&self, backend: &BackendName) {
        if let Some(lanes) = self.lanes.get(backend) {
            lanes.poke.notify_one();
        }
    }

    /// Starts a call whose end is told to the loop.
    fn spawn(&mut self, call: impl Future<Output = Outcome> + Send + 'static) {
        let teller = Teller(self.inbox.clone());
        self.tasks.spawn(async move {
            let outcome = call.await;
            teller.tell(Input::Ended(outcome));
        });
    }

    /// Waits for the notices that are still to be sent, for a while.
    pub(crate) async fn flush_notices(&mut self, patience: Duration) {
        self.notices.flush(patience).await;
    }
}

/// Tells the loop how a call went. A call that panicked would be under way for ever, and its job
/// with it: the loop is told that it cannot go on, and whoever is started next takes over.
struct Teller(Sender);

impl Teller {
    fn tell(&self, input: Input) {
        // The loop has gone: nobody is left to be told.
        let _ = self.0.send(input);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell(Input::Fatal(Error::Bug { words: "a call ended in a panic".into() }));
        }
    }
}
