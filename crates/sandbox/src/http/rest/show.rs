//! How the REST API shows builds, jobs, agents and annotations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkite::rest::wire;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::engine::{
    Agent, Annotation, Board, Build, Connection, Engine, Job, State, Step, StepKind, StepState,
};
use crate::pages::annotation_html;

/// A node id of GraphQL.
fn node(kind: &str, id: Uuid) -> String {
    STANDARD.encode(format!("{kind}---{id}"))
}

/// `http://…/v2/organizations/SLUG`.
pub(super) fn organization_url(engine: &Engine) -> String {
    let settings = engine.settings();
    format!("{}/v2/organizations/{}", settings.base_url, settings.organization)
}

pub(super) fn build_url(engine: &Engine, build: &Build) -> String {
    let organization = organization_url(engine);
    format!("{organization}/pipelines/{}/builds/{}", build.pipeline, build.number)
}

fn web_url(engine: &Engine, build: &Build) -> String {
    let settings = engine.settings();
    let (url, organization) = (&settings.base_url, &settings.organization);
    format!("{url}/{organization}/{}/builds/{}", build.pipeline, build.number)
}

/// A state by REST's name: what has finished has passed or failed, and what is reserved is still
/// scheduled to everybody but its stack.
fn state(job: &Job) -> &'static str {
    if job.state == State::Finished {
        return if job.outcome.is_success() { "passed" } else { "failed" };
    }
    let shown = if job.state == State::Reserved { State::Scheduled } else { job.state };
    shown.name()
}

pub(super) fn job(engine: &Engine, job: &Job) -> wire::Job {
    let build = &engine.builds()[job.build];
    let (build_url, page) = (build_url(engine, build), web_url(engine, build));
    let url = format!("{build_url}/jobs/{}", job.id);
    let queue = &engine.queues()[job.queue];
    let cluster = &engine.clusters()[queue.cluster];
    let cluster_url = format!("{}/clusters/{}", organization_url(engine), cluster.id);
    let queue_url = format!("{cluster_url}/queues/{}", queue.id);
    let retry = job.retried_in.and_then(|id| engine.job(id));
    let source = job.retry_of.and_then(|id| engine.job(id));
    let paths = job.command.artifact_paths.join(";");
    let total = job.command.parallel;
    wire::Job {
        id: job.id,
        graphql_id: Some(node("Job", job.id)),
        kind: "script".to_owned(),
        name: Some(job.label.clone()),
        step_key: job.step_key.clone(),
        step: Some(wire::Step { id: Some(build.steps[job.step].id), signature: None }),
        priority: Some(wire::Priority { number: job.command.priority }),
        agent_query_rules: job.rules.clone(),
        state: state(job).to_owned(),
        web_url: Some(format!("{page}#{}", job.id)),
        log_url: Some(format!("{url}/log")),
        raw_log_url: Some(format!("{url}/log.txt")),
        artifacts_url: Some(format!("{url}/artifacts")),
        build_url: Some(build_url),
        command: Some(job.command.command.clone()),
        soft_failed: job.soft_failed,
        exit_status: job.outcome.exit_status,
        signal: job.outcome.signal.clone(),
        signal_reason: job.outcome.signal_reason.clone(),
        broken_reason: None,
        artifact_paths: Some(paths).filter(|paths| !paths.is_empty()),
        agent: job.agent.and_then(|agent| engine.agent(agent)).map(agent),
        created_at: Some(job.created_at),
        scheduled_at: Some(job.scheduled_at),
        runnable_at: job.runnable_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
        expired_at: job.finished_at.filter(|_| job.state == State::Expired),
        concurrency_wait_time_ms: None,
        retried: job.retried_in.is_some(),
        retried_in_job_id: job.retried_in,
        retries_count: Some(job.retry_count),
        retry_source: source.map(|source| wire::RetrySource {
            job_id: source.id,
            retry_type: job.retry_type(source).to_owned(),
        }),
        retry_type: retry.map(|retry| retry.retry_type(job).to_owned()),
        parallel_group_index: total.map(|parallel| parallel.index),
        parallel_group_total: total.map(|parallel| parallel.total),
        matrix: job.command.matrix.as_ref().map(|values| json!(values)),
        cluster_id: cluster.clustered.then_some(cluster.id),
        cluster_url: cluster.clustered.then_some(cluster_url),
        cluster_queue_id: cluster.clustered.then_some(queue.id),
        cluster_queue_url: cluster.clustered.then_some(queue_url),
    }
}

/// A step that runs nothing, which counts as a job all the same.
pub(super) fn step(engine: &Engine, build: &Build, step: &Step) -> Value {
    if matches!(step.kind, StepKind::Wait { .. }) {
        return json!({"id": step.id, "graphql_id": node("Job", step.id), "type": "waiter"});
    }
    let blocked = step.state == StepState::Blocked;
    let state = match step.state {
        StepState::Waiting => "waiting",
        StepState::Blocked | StepState::Started => "blocked",
        StepState::Passed | StepState::SoftFailed => "unblocked",
        StepState::Failed => "blocked_failed",
        StepState::Canceled => "canceled",
        StepState::Broken | StepState::Omitted => "broken",
    };
    json!({
        "id": step.id,
        "graphql_id": node("Job", step.id),
        "type": "manual",
        "label": step.label,
        "step_key": step.key,
        "state": state,
        "web_url": null,
        "unblockable": blocked,
        "unblock_url": format!("{}/jobs/{}/unblock", build_url(engine, build), step.id),
    })
}

/// Everything of a build that counts as a job, in order.
pub(super) fn jobs(engine: &Engine, build: &Build) -> Vec<Value> {
    let of_step = |of: &Step| {
        if matches!(of.kind, StepKind::Command(_)) {
            let jobs = of.jobs.iter().filter_map(|id| engine.job(*id));
            return jobs.map(|of| json!(job(engine, of))).collect();
        }
        vec![step(engine, build, of)]
    };
    build.steps.iter().flat_map(of_step).collect()
}

pub(super) fn build(engine: &Engine, build: &Build) -> Value {
    let cluster = &engine.clusters()[build.cluster];
    let pipeline = format!("{}/pipelines/{}", organization_url(engine), build.pipeline);
    let pull_request = build
        .pull_request
        .as_ref()
        .map(|of| json!({"id": of.id.to_string(), "base": "main", "repository": of.repository}));
    json!({
        "id": build.id,
        "graphql_id": node("Build", build.id),
        "url": build_url(engine, build),
        "web_url": web_url(engine, build),
        "number": build.number,
        "state": build.state,
        "blocked": build.state == crate::engine::BuildState::Blocked,
        "blocked_state": build.blocked_state(),
        "message": build.message,
        "commit": build.commit,
        "branch": build.branch,
        "env": build.env,
        "source": "api",
        "author": build.author.as_ref().map(|who| json!({"name": who.name, "email": who.email})),
        "creator": null,
        "cluster_id": cluster.clustered.then_some(cluster.id),
        "created_at": build.created_at,
        "scheduled_at": build.created_at,
        "started_at": build.started_at,
        "finished_at": build.finished_at,
        "meta_data": build.meta_data,
        "pull_request": pull_request,
        "rebuilt_from": null,
        "pipeline": {
            "id": build.pipeline_id,
            "graphql_id": node("Pipeline", build.pipeline_id),
            "url": pipeline,
            "name": build.pipeline,
            "slug": build.pipeline,
        },
        "jobs": jobs(engine, build),
    })
}

pub(super) fn agent(agent: &Agent) -> wire::Agent {
    let connection = match agent.connection {
        Connection::NeverConnected => "never_connected",
        Connection::Connected if agent.stop_asked => "stopping",
        Connection::Connected => "connected",
        Connection::Disconnected => "disconnected",
        Connection::Lost => "lost",
    };
    wire::Agent {
        id: agent.id,
        name: agent.name.clone(),
        hostname: Some(agent.hostname.clone()),
        connection_state: connection.to_owned(),
        version: Some(agent.version.clone()),
        meta_data: agent.meta_data.clone(),
        created_at: Some(agent.registered_at),
    }
}

pub(super) fn annotation(board: Board, annotation: &Annotation) -> wire::Annotation {
    let (scope, job_id) = match board {
        Board::Build(_) => ("build", None),
        Board::Job(job) => ("job", Some(job)),
    };
    wire::Annotation {
        id: annotation.id,
        context: annotation.context.clone(),
        style: annotation.style.clone(),
        scope: scope.to_owned(),
        job_id,
        priority: Some(annotation.priority),
        body_html: annotation_html(&annotation.body),
        created_at: annotation.created_at,
        updated_at: annotation.updated_at,
    }
}
