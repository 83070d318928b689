//! The checks that ask Buildkite: one call from which most can be told, and one for each queue. It
//! registers nothing.

use std::time::Duration;

use buildkite::rest::wire::{AccessToken, scope};
use buildkite::{Client, Error, Probe, Remedy};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::{Finding, Patient};
use crate::assembly;
use crate::clock::process_now;
use crate::config::Environment;
use crate::config::server::JobTokens;

/// Leases and tokens are counted in minutes; a clock that is off by more than this is not kept.
const SKEW_MOST: Duration = Duration::from_secs(5);
/// Beyond this every job waits noticeably for the network alone.
const SLOW: Duration = Duration::from_millis(500);

pub(super) async fn all(patient: Patient<'_>) -> Vec<Finding> {
    let endpoint = &patient.config.buildkite.endpoint;
    let var = |name: &str| patient.place.environment.get(name).cloned();
    let client = match assembly::client(patient.config, &var) {
        Ok(client) => client,
        Err(error) => {
            let remedy = "correct what it names, in the configuration or the environment";
            return vec![Finding::wrong("Buildkite", error.to_string(), remedy)];
        }
    };
    let (probe, api) = tokio::join!(client.probe(), api_token(patient, &var));
    let mut found = match probe {
        Ok(probe) => {
            // A fleet registers no stack, and makes no machine that needs a token.
            let stacks = !patient.config.queues.is_empty();
            let mut findings = vec![reached(endpoint, &probe), token(&probe, stacks)];
            findings.extend(probe.server_time.map(|server| clock(server, process_now())));
            findings.extend(queues(patient, &client).await);
            findings.extend(fleets(patient, &client).await);
            findings.extend(stacks.then(|| job_tokens(patient.config.buildkite.job_tokens)));
            findings
        }
        Err(error) => vec![refused(endpoint, &error)],
    };
    found.extend(api);
    found
}

/// The REST API's token, where something is wanted of it.
async fn api_token(patient: Patient<'_>, environment: Environment<'_>) -> Option<Finding> {
    const CHECK: &str = "API token";
    let client = match assembly::rest(patient.config, environment) {
        Ok(client) => client?,
        Err(error) => {
            let remedy = "correct what it names; `jitney run` ends without it";
            return Some(Finding::wrong(CHECK, error.to_string(), remedy));
        }
    };
    let endpoint = &patient.config.buildkite.api_endpoint;
    Some(match client.access_token().await {
        Ok(token) => scopes(CHECK, &token),
        Err(error) => match error.remedy {
            Remedy::Unauthorized | Remedy::Forbidden => Finding::wrong(
                CHECK,
                format!("{endpoint} refuses it: {}", error.message),
                "set buildkite.api_token to an API access token (Buildkite: Personal settings, API access tokens); lost jobs are not retried without",
            ),
            Remedy::Retry | Remedy::Unknown | Remedy::Never | Remedy::Gone => Finding::wrong(
                CHECK,
                format!("{endpoint} cannot be asked about it: {error}"),
                "check buildkite.api_endpoint and the way there; usually it is https://api.buildkite.com/v2",
            ),
        },
    })
}

fn scopes(check: &str, token: &AccessToken) -> Finding {
    let wanted = [scope::READ_BUILDS, scope::WRITE_BUILDS];
    let missing: Vec<&str> = wanted.into_iter().filter(|scope| !token.may(scope)).collect();
    if missing.is_empty() {
        return Finding::ok(check, "may read and retry builds");
    }
    Finding::wrong(
        check,
        format!("lacks the scope {}, so that lost jobs are not retried", missing.join(" and ")),
        "edit the token's scopes in Buildkite (Personal settings, API access tokens)",
    )
}

fn reached(endpoint: &str, probe: &Probe) -> Finding {
    let found = format!("{endpoint} answers in {} ms", probe.round_trip.as_millis());
    if probe.round_trip <= SLOW {
        return Finding::ok("Buildkite", found);
    }
    let remedy = "each job waits several such times before its machine is made; look at the network, the proxy and the resolver";
    Finding::warning("Buildkite", found, remedy)
}

fn token(probe: &Probe, stacks: bool) -> Finding {
    let identity = &probe.identity;
    let organization = &identity.organization_slug;
    if identity.cluster_uuid.is_empty() && !stacks {
        return Finding::ok(
            "token",
            format!("is of organisation {organization}, without clusters"),
        );
    }
    if identity.cluster_uuid.is_empty() {
        return Finding::wrong(
            "token",
            format!("belongs to no cluster of {organization}, and only clusters have stacks"),
            "make an agent token in a cluster (Buildkite: Agents, the cluster, Agent tokens) and use that one",
        );
    }
    let cluster = if identity.cluster_name.is_empty() {
        identity.cluster_uuid.clone()
    } else {
        format!("{} ({})", identity.cluster_name, identity.cluster_uuid)
    };
    Finding::ok("token", format!("is of organisation {organization}, cluster {cluster}"))
}

/// Without a queue that the configuration names, `jitney run` ends.
async fn queues(patient: Patient<'_>, client: &Client) -> Vec<Finding> {
    let asked = patient.config.queues.keys().map(async |key| {
        let check = format!("queue {key}");
        match client.queue_metrics(key.as_str()).await {
            Ok(counts) => {
                let jobs = counts.metrics.jobs;
                let found = format!(
                    "is in the cluster; {} scheduled and {} running",
                    jobs.scheduled, jobs.running
                );
                Finding::ok(check, found)
            }
            Err(error) => no_queue(check, &error),
        }
    });
    join_all(asked).await
}

/// Without the counts of its queue a fleet dispatches nothing.
async fn fleets(patient: Patient<'_>, client: &Client) -> Vec<Finding> {
    let asked = patient.config.fleets.iter().map(async |(name, fleet)| {
        let (check, queue) = (format!("fleet {name}: queue"), &fleet.queue);
        match client.queue_metrics(queue).await {
            Ok(counts) => {
                let (jobs, agents) = (counts.metrics.jobs, counts.metrics.agents);
                let found = format!(
                    "{queue}: {} jobs scheduled and {} running, {} agents",
                    jobs.scheduled, jobs.running, agents.total
                );
                Finding::ok(check, found)
            }
            Err(error) => Finding::wrong(
                check,
                format!("{queue} cannot be counted: {}", error.message),
                format!(
                    "check fleets.{name}.queue, and that buildkite.token is an agent token that may see it; nothing is dispatched without its counts"
                ),
            ),
        }
    });
    join_all(asked).await
}

fn no_queue(check: String, error: &Error) -> Finding {
    match error.remedy {
        Remedy::Gone => Finding::wrong(
            check,
            format!("is not in the token's cluster: {}", error.message),
            "create the queue (Buildkite: Agents, the cluster, Queues), or take it out of `queues`; `jitney run` ends without it",
        ),
        Remedy::Retry
        | Remedy::Unknown
        | Remedy::Never
        | Remedy::Unauthorized
        | Remedy::Forbidden => Finding::warning(
            check,
            format!("cannot be told to be there: {error}"),
            "look in Buildkite whether the cluster has it, and ask again; `jitney run` ends without it",
        ),
    }
}

fn clock(server: Timestamp, now: Timestamp) -> Finding {
    let (off, word) = if now >= server {
        (now.duration_since(server), "ahead of")
    } else {
        (server.duration_since(now), "behind")
    };
    let off = Duration::try_from(off).unwrap_or_default();
    if off <= SKEW_MOST {
        return Finding::ok("clock", "agrees with Buildkite's");
    }
    let found = format!("this host's is {} s {word} Buildkite's", off.as_secs());
    let remedy = "let the host keep the time (chrony, systemd-timesyncd); Jitney works meanwhile, and shows times that are off by as much";
    Finding::warning("clock", found, remedy)
}

/// Only a registered stack can ask, and registering one would change something.
fn job_tokens(wanted: JobTokens) -> Finding {
    match wanted {
        JobTokens::Required => Finding::ok(
            "job tokens",
            "are required; only a registered stack can ask for one, so `jitney run` does, and refuses to start without",
        ),
        JobTokens::Optional => Finding::warning(
            "job tokens",
            "are optional: where Buildkite issues none, every machine gets the cluster's own token",
            "set buildkite.job_tokens: required, if your organisation has them",
        ),
    }
}

fn refused(endpoint: &str, error: &Error) -> Finding {
    match error.remedy {
        Remedy::Unauthorized => Finding::wrong(
            "token",
            format!("{endpoint} does not know it: {}", error.message),
            "set buildkite.token (or token_file) to an agent token of the cluster; a revoked one and a mistyped one look the same",
        ),
        Remedy::Forbidden => Finding::wrong(
            "token",
            format!("{endpoint} refuses it: {}", error.message),
            "ask an administrator of the organisation what the token may do",
        ),
        Remedy::Retry | Remedy::Unknown => Finding::wrong(
            "Buildkite",
            format!("{endpoint} cannot be reached: {}", error.message),
            "check the address, the resolver, the firewall and HTTPS_PROXY; `jitney run` keeps trying",
        ),
        Remedy::Never | Remedy::Gone => Finding::wrong(
            "Buildkite",
            format!("what answers at {endpoint} is not the agent API: {}", error.message),
            "check buildkite.endpoint; usually it is https://agent.buildkite.com/v3",
        ),
    }
}
