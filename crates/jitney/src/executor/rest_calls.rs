//! Calls to Buildkite's REST API about jobs that were lost with their machines: read the record,
//! ask for a retry. Which of them are, and what follows, is decided elsewhere.

use buildkite::rest::wire;
use buildkite::{Error, Remedy};
use planner::{BuildKey, JobId, Record, RecordedEnd, RetryOutcome};

use super::Executor;
use crate::input::{Outcome, Refused};

impl Executor {
    pub(super) fn read_record(&mut self, job: JobId) {
        let Some(client) = self.rest.clone() else { return };
        let asked_at = self.clock.now();
        self.spawn(async move {
            let found = client.job(job.0).await;
            let found = found.map(|job| record(&job)).map_err(|error| Refused::from(&error));
            Outcome::RecordRead { job, asked_at, found }
        });
    }

    pub(super) fn retry(&mut self, job: JobId) {
        let Some(client) = self.rest.clone() else { return };
        self.spawn(async move {
            let answer = client.retry_job(job.0).await;
            let failed = answer.as_ref().err().map(Refused::from);
            Outcome::Retried { job, outcome: outcome(job, answer), failed }
        });
    }
}

/// An agent that was lost leaves −1 and no reason; one that was stopped under its job says so.
fn record(job: &wire::Job) -> Record {
    let end = match job.state.as_str() {
        "failed" | "finished" => match (job.exit_status, job.signal_reason.as_deref()) {
            (Some(-1), None | Some("" | "none")) | (_, Some("agent_stop")) => RecordedEnd::Lost,
            (_, _) => RecordedEnd::Other,
        },
        "passed" | "canceled" | "timed_out" | "expired" | "skipped" | "broken" => {
            RecordedEnd::Other
        }
        _ => RecordedEnd::None,
    };
    let build = job.build_url.as_deref().and_then(build);
    Record { end, successor: job.retried_in_job_id.map(JobId), build }
}

/// `https://…/organizations/acme/pipelines/web/builds/12`
fn build(url: &str) -> Option<BuildKey> {
    let (_, rest) = url.split_once("/pipelines/")?;
    let (pipeline, number) = rest.split_once("/builds/")?;
    let number = number.trim_end_matches('/').parse().ok()?;
    (!pipeline.is_empty()).then(|| BuildKey { pipeline: pipeline.into(), number })
}

fn outcome(job: JobId, answer: Result<wire::Job, Error>) -> RetryOutcome {
    match answer {
        // The answer is the new job; anything else says nothing.
        Ok(new) if new.id != job.0 && !new.id.is_nil() => RetryOutcome::Made { by: JobId(new.id) },
        Ok(_) => RetryOutcome::Unknown,
        Err(error) => match error.remedy {
            Remedy::Never | Remedy::Gone | Remedy::Unauthorized | Remedy::Forbidden => {
                RetryOutcome::Refused { words: error.message.into() }
            }
            Remedy::Retry | Remedy::Unknown => RetryOutcome::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(state: &str, exit_status: Option<i32>, reason: Option<&str>, end: RecordedEnd) {
        let (state, signal_reason) = (state.to_owned(), reason.map(str::to_owned));
        let job = wire::Job { state, exit_status, signal_reason, ..wire::Job::default() };
        assert_eq!(record(&job).end, end, "{job:?}");
    }

    #[test]
    fn only_a_lost_or_stopped_agent_is_a_loss() {
        check("failed", Some(-1), None, RecordedEnd::Lost);
        check("failed", Some(255), Some("agent_stop"), RecordedEnd::Lost);
        check("failed", Some(-1), Some("stack_error"), RecordedEnd::Other);
        check("failed", Some(-1), Some("process_run_error"), RecordedEnd::Other);
        check("failed", Some(1), None, RecordedEnd::Other);
        check("passed", Some(0), None, RecordedEnd::Other);
        check("canceled", Some(-1), Some("cancel"), RecordedEnd::Other);
        check("timed_out", Some(-1), None, RecordedEnd::Other);
        check("running", None, None, RecordedEnd::None);
        check("a new word", None, None, RecordedEnd::None);
    }

    #[test]
    fn the_build_is_in_its_address() {
        let api = "https://api.buildkite.com/v2/organizations/acme/pipelines/web/builds/12";
        assert_eq!(build(api), Some(BuildKey { pipeline: "web".into(), number: 12 }));
        for other in ["", "https://buildkite.com/acme/web/builds/12", "x/pipelines/w/builds/x"] {
            assert_eq!(build(other), None, "{other}");
        }
    }
}
