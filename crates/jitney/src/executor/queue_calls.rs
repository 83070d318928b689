//! Calls to Buildkite on behalf of jobs: ask, look, reserve, mint, finish. Each takes the time at which
//! it was begun as the time of what it learns: later words cannot be older than that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use buildkite::{Batch, Remedy, StackClient, wire};
use planner::{FinishOutcome, JobId, JobState, LookFailure, QueueKey};
use tokio::time::timeout;
use uuid::Uuid;

use super::Executor;
use super::origin::origin;
use crate::input::{Outcome, Refused};

/// Longer than the client's own limit, which does not count the wait for its turn.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A job that we fail ends with this status, as one whose agent was lost.
const FAILED: i32 = -1;

impl Executor {
    pub(super) fn ask(&mut self, queue: QueueKey, jobs: Vec<JobId>) {
        let asked_at = self.clock.now();
        let client = self.client(&queue);
        self.spawn(async move {
            let (mut states, mut failed) = (Vec::new(), None);
            match with_limit("ask for job states", client, async |client| {
                client.states(&ids(&jobs)).await
            })
            .await
            {
                Ok(batch) => {
                    failed = first_failure(&batch);
                    states.extend(
                        batch.value.into_iter().map(|(job, state)| (JobId(job), known(&state))),
                    );
                }
                Err(refused) => failed = failed.or(Some(refused)),
            }
            Outcome::Asked { queue, jobs, asked_at, states, failed }
        });
    }

    /// Of the job's environment only what policies may ask for leaves this call.
    pub(super) fn look(&mut self, queue: QueueKey, job: JobId) {
        let started_at = self.clock.now();
        let client = self.client(&queue);
        self.spawn(async move {
            let answer = with_limit("read the job", client, async |client| client.job(job.0).await);
            let found = match answer.await {
                Ok(Ok(detail)) => Ok(origin(&detail.env)),
                Ok(Err(error)) => Err((look_failure(&error), Refused::from(&error))),
                Err(refused) => Err((LookFailure::Failed, refused)),
            };
            Outcome::Looked { queue, job, started_at, found }
        });
    }

    pub(super) fn reserve(&mut self, queue: QueueKey, jobs: Vec<JobId>, lease: Duration) {
        let sent_at = self.clock.now();
        let client = self.client(&queue);
        self.spawn(async move {
            let answer = with_limit("reserve jobs", client, async |client| {
                client.reserve(&ids(&jobs), lease).await
            });
            let (reserved, not_reserved, failed) = match answer.await {
                Ok(batch) => {
                    let failed = first_failure(&batch);
                    let jobs = |ids: Vec<Uuid>| ids.into_iter().map(JobId).collect();
                    (jobs(batch.value.reserved), jobs(batch.value.not_reserved), failed)
                }
                Err(refused) => (Vec::new(), Vec::new(), Some(refused)),
            };
            Outcome::Reserved { queue, jobs, sent_at, lease, reserved, not_reserved, failed }
        });
    }

    pub(super) fn mint(&mut self, queue: QueueKey, wanted: Vec<(JobId, u32)>, lifetime: Duration) {
        let sent_at = self.clock.now();
        let jobs: Vec<JobId> = wanted.iter().map(|(job, _)| *job).collect();
        if self.stacks.get(&queue).is_some_and(|stack| !stack.issues_tokens) {
            let client = self.client(&queue);
            return self.spawn(async move {
                let answer =
                    with_limit("read the token", client, async |client| client.agent_token().await);
                let (issued, failed) = match answer.await {
                    Ok(Ok(token)) => {
                        let each = wanted.iter().map(|(job, n)| (*job, *n, token.clone()));
                        (each.collect(), None)
                    }
                    Ok(Err(error)) => (Vec::new(), Some(Refused::from(&error))),
                    Err(refused) => (Vec::new(), Some(refused)),
                };
                let not_issued = Vec::new();
                Outcome::Minted { queue, jobs, sent_at, lifetime, issued, not_issued, failed }
            });
        }
        let client = self.client(&queue);
        self.spawn(async move {
            let answer = with_limit("issue job tokens", client, async |client| {
                client.issue_tokens(&ids(&jobs), lifetime).await
            });
            let (mut issued, mut not_issued, mut failed) = (Vec::new(), Vec::new(), None);
            match answer.await {
                Ok(batch) => {
                    failed = first_failure(&batch);
                    let attempts: BTreeMap<JobId, u32> = wanted.into_iter().collect();
                    for token in batch.value.issued {
                        let job = JobId(token.job);
                        issued.extend(attempts.get(&job).map(|n| (job, *n, token.token)));
                    }
                    not_issued.extend(batch.value.not_issued.into_iter().map(JobId));
                }
                Err(refused) => failed = failed.or(Some(refused)),
            }
            Outcome::Minted { queue, jobs, sent_at, lifetime, issued, not_issued, failed }
        });
    }

    pub(super) fn finish(&mut self, queue: QueueKey, job: JobId, detail: Arc<str>) {
        let started_at = self.clock.now();
        let client = self.client(&queue);
        self.spawn(async move {
            let answer = with_limit("finish the job", client, async |client| {
                client.finish(job.0, FAILED, &detail).await
            });
            let (outcome, failed) = match answer.await {
                Ok(Ok(())) => (FinishOutcome::Taken, None),
                Ok(Err(error)) => (finished(error.remedy), Some(Refused::from(&error))),
                Err(refused) => (FinishOutcome::Unknown, Some(refused)),
            };
            if let Some(refused) = &failed {
                let error = &refused.words;
                tracing::warn!(%job, %queue, error, "failed to tell Buildkite that a job failed");
            }
            Outcome::Finished { queue, job, started_at, outcome, failed }
        });
    }

    fn client(&self, queue: &QueueKey) -> Option<StackClient> {
        self.stacks.get(queue).map(|stack| stack.client.clone())
    }
}

/// No call is under way for ever.
async fn with_limit<T>(
    name: &str,
    client: Option<StackClient>,
    call: impl AsyncFnOnce(StackClient) -> T,
) -> Result<T, Refused> {
    let Some(client) = client else { return Err(Refused::timeout(name)) };
    timeout(TIMEOUT, call(client)).await.map_err(|_| Refused::timeout(name))
}

fn ids(jobs: &[JobId]) -> Vec<Uuid> {
    jobs.iter().map(|job| job.0).collect()
}

fn first_failure<T>(batch: &Batch<T>) -> Option<Refused> {
    batch.failures.first().map(|failure| Refused::from(&failure.error))
}

fn look_failure(error: &buildkite::Error) -> LookFailure {
    const TOO_EARLY: [u16; 3] = [408, 425, 429];
    match error.remedy {
        Remedy::Never | Remedy::Gone | Remedy::Forbidden => LookFailure::Refused,
        // That is said to whoever asks for anything.
        Remedy::Unauthorized => LookFailure::Unreachable,
        Remedy::Retry | Remedy::Unknown => match error.status {
            Some(status) if TOO_EARLY.contains(&status) => LookFailure::Unreachable,
            Some(_) | None => LookFailure::Failed,
        },
    }
}

const fn finished(remedy: Remedy) -> FinishOutcome {
    match remedy {
        // Refused for good: the job is decided already, or is not ours to decide.
        Remedy::Never | Remedy::Gone | Remedy::Forbidden => FinishOutcome::TooLate,
        Remedy::Retry | Remedy::Unknown | Remedy::Unauthorized => FinishOutcome::Unknown,
    }
}

fn known(state: &wire::JobState) -> JobState {
    use wire::JobState as Wire;
    match state {
        Wire::Pending
        | Wire::Waiting
        | Wire::WaitingFailed
        | Wire::Blocked
        | Wire::BlockedFailed
        | Wire::Unblocked
        | Wire::UnblockedFailed
        | Wire::Limiting
        | Wire::Limited
        | Wire::PlatformLimiting
        | Wire::PlatformLimited => JobState::NotReady,
        Wire::Scheduled => JobState::Scheduled,
        Wire::Reserved => JobState::Reserved,
        Wire::Assigned => JobState::Assigned,
        Wire::Accepted => JobState::Accepted,
        Wire::Running => JobState::Running,
        Wire::Canceling => JobState::Canceling,
        Wire::Canceled => JobState::Canceled,
        Wire::TimingOut => JobState::TimingOut,
        Wire::TimedOut => JobState::TimedOut,
        Wire::Finished => JobState::Finished,
        Wire::Expired => JobState::Expired,
        Wire::Skipped | Wire::Broken => JobState::NeverRun,
        Wire::Other(_) => JobState::Unknown,
    }
}
