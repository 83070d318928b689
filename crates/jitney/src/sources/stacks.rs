//! Who we are to Buildkite: checks the token and registers a stack per queue, as often as it takes.
//! What cannot heal by itself ends the program at its start, with words that say what to do.

use std::collections::BTreeMap;
use std::time::Duration;

use buildkite::wire::RegisterStack;
use buildkite::{Client, Remedy};
use planner::QueueKey;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Pauses;
use crate::clock::{Clock, to_jiff};
use crate::input::{Input, Refused, Sender, Stack};
use crate::run::Error;
use crate::settings::JobTokens;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A clock that is further off than this is worth a word.
const SKEW_TOLD: Duration = Duration::from_secs(10);

/// Whose token it is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub cluster: String,
}

/// What a registration needs.
#[derive(Clone, Debug)]
pub(crate) struct Registrar {
    pub client: Client,
    pub name: String,
    pub instance: String,
    pub job_tokens: JobTokens,
    pub clock: Clock,
    pub loop_inbox: Sender,
}

impl Registrar {
    /// Asks until Buildkite says whose token it is.
    pub(crate) async fn identify(&self) -> Result<Identity, Error> {
        let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let started_at = self.clock.now();
            match self.client.probe().await {
                Ok(probe) => {
                    self.compare_clocks(&probe);
                    return self.check(probe.identity);
                }
                Err(error) if hopeless(error.remedy) => return Err(unwelcome(&error)),
                Err(error) => self.wait(started_at, &error, &mut pauses, "check the token").await,
            }
        }
    }

    fn check(&self, identity: buildkite::wire::TokenIdentity) -> Result<Identity, Error> {
        if identity.cluster_uuid.is_empty() {
            return Err(Error::Unclustered { organization: identity.organization_slug });
        }
        tracing::info!(
            organization = identity.organization_slug,
            cluster = identity.cluster_name,
            "Buildkite knows our token"
        );
        Ok(Identity { cluster: identity.cluster_uuid })
    }

    fn compare_clocks(&self, probe: &buildkite::Probe) {
        let Some(theirs) = probe.server_time else { return };
        let ours = to_jiff(self.clock.now());
        let apart = Duration::from_secs(ours.as_second().abs_diff(theirs.as_second()));
        if apart > SKEW_TOLD {
            tracing::warn!(
                seconds_apart = apart.as_secs(),
                "our clock and Buildkite's differ; times that we show may be off by that"
            );
        }
    }

    /// Registers the queue's stack, and learns whether tokens for single jobs are issued.
    pub(crate) async fn register(
        &self,
        identity: &Identity,
        queue: &QueueKey,
    ) -> Result<Stack, Error> {
        let key = stack_key(&self.name, &identity.cluster, queue);
        let request = RegisterStack {
            key: key.clone(),
            kind: "custom".into(),
            queue_key: queue.to_string(),
            metadata: BTreeMap::from([
                ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ("name".to_owned(), self.name.clone()),
                ("instance".to_owned(), self.instance.clone()),
            ]),
        };
        let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        let queue_key = loop {
            let started_at = self.clock.now();
            match self.client.register(&request).await {
                Ok(stack) => break stack.cluster_queue_key,
                Err(error) if hopeless(error.remedy) => {
                    return Err(no_stack(queue, &error));
                }
                Err(error) => {
                    self.wait(started_at, &error, &mut pauses, "register a stack").await;
                }
            }
        };
        let client = self.client.stack(&key);
        let issues_tokens = self.issues_tokens(&client).await?;
        tracing::info!(%queue, stack = key, "registered the queue's stack");
        Ok(Stack { client, queue_key: queue_key.into(), issues_tokens })
    }

    /// Asks for a token for a job that does not exist: a server that issues tokens says that it
    /// issued none, another does not know the question.
    async fn issues_tokens(&self, stack: &buildkite::StackClient) -> Result<bool, Error> {
        let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let started_at = self.clock.now();
            let nobody = Uuid::new_v4();
            let answer = stack.issue_tokens(&[nobody], Duration::from_secs(60)).await;
            match answer.into_result() {
                Ok(_) => return Ok(true),
                Err(error) if matches!(error.status, Some(403 | 404 | 405 | 501)) => {
                    return match self.job_tokens {
                        JobTokens::Required => Err(Error::NoJobTokens { words: error.to_string() }),
                        JobTokens::Optional => {
                            tracing::warn!(
                                "Buildkite issues no job acquisition tokens here; machines are \
                                 given the cluster's token, because job_tokens is optional"
                            );
                            Ok(false)
                        }
                    };
                }
                Err(error) if error.remedy == Remedy::Unauthorized => {
                    return Err(unwelcome(&error));
                }
                // It knows the question and does not like the job.
                Err(error) if error.status == Some(422) => return Ok(true),
                Err(error) => {
                    self.wait(started_at, &error, &mut pauses, "ask for a job token").await;
                }
            }
        }
    }

    async fn wait(
        &self,
        started_at: planner::Timestamp,
        error: &buildkite::Error,
        pauses: &mut Pauses,
        what: &str,
    ) {
        let pause = pauses.next(error.retry_after);
        tracing::warn!(
            %error,
            retry_in_seconds = pause.as_secs_f64(),
            "failed to {what}; trying again"
        );
        let error = Refused::from(error);
        // The loop has gone: so will this task.
        let _ = self.loop_inbox.send(Input::CallFailed { started_at, error });
        tokio::time::sleep(pause).await;
    }
}

/// The same for one installation always, another for every other queue, cluster or name. At most
/// 40 characters of those that Buildkite allows.
pub(crate) fn stack_key(name: &str, cluster: &str, queue: &QueueKey) -> String {
    let digest = Sha256::digest(format!("{cluster}/{queue}/{name}").as_bytes());
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{name}-{hex}")
}

const fn hopeless(remedy: Remedy) -> bool {
    match remedy {
        Remedy::Never | Remedy::Unauthorized | Remedy::Forbidden | Remedy::Gone => true,
        Remedy::Retry | Remedy::Unknown => false,
    }
}

fn unwelcome(error: &buildkite::Error) -> Error {
    match error.remedy {
        Remedy::Unauthorized => Error::Unauthorized { words: error.to_string() },
        Remedy::Retry | Remedy::Unknown | Remedy::Never | Remedy::Forbidden | Remedy::Gone => {
            Error::Endpoint { words: error.to_string() }
        }
    }
}

fn no_stack(queue: &QueueKey, error: &buildkite::Error) -> Error {
    match error.remedy {
        Remedy::Unauthorized => Error::Unauthorized { words: error.to_string() },
        Remedy::Gone => Error::NoQueue { queue: queue.to_string(), words: error.to_string() },
        Remedy::Retry | Remedy::Unknown | Remedy::Never | Remedy::Forbidden => {
            Error::NoStack { queue: queue.to_string(), words: error.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_keys_are_stable_and_differ_in_each_part() {
        let key = |name: &str, cluster: &str, queue: &str| {
            stack_key(name, cluster, &QueueKey::new(queue))
        };
        let ours = key("jitney", "c", "jit");
        assert_eq!(ours, key("jitney", "c", "jit"));
        assert!(ours.starts_with("jitney-") && ours.len() == "jitney-".len() + 16, "{ours}");
        for other in
            [key("jitney-2", "c", "jit"), key("jitney", "d", "jit"), key("jitney", "c", "j")]
        {
            assert_ne!(ours, other);
        }
    }
}
