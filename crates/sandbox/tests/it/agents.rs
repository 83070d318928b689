//! Real agents run jobs: what they report is what the sandbox tells.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox::Sandbox;
use sandbox::engine::{ArtifactState, EventKind, Job, NewStep, State};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use uuid::Uuid;

use crate::parts::{AGENTS, Part};
use crate::support::{Agent, Caller, TOKEN, build, ended, job, start_for, until};

/// Runs the check with each agent that there is, at the same time.
pub(crate) async fn with_both<F: Future<Output = ()>>(check: impl Fn(Part, PathBuf) -> F) {
    let checks = AGENTS.iter().filter_map(|part| Some(check(*part, part.find()?)));
    futures_util::future::join_all(checks).await;
}

/// Starts an agent for the job, with a token that is good for nothing else.
pub(crate) async fn start_agent(sandbox: &Sandbox, program: &Path, job: Uuid) -> Agent {
    let stacks = Caller::new(sandbox, TOKEN);
    stacks.stack("a").await;
    let token = stacks.token_for("a", job).await;
    Agent::start(sandbox, program, &token, job)
}

async fn running(sandbox: &Sandbox, id: Uuid) {
    until(sandbox, "the job runs", |engine| {
        engine.job(id).filter(|job| job.state == State::Running).map(|_| ())
    })
    .await;
}

fn kinds(job: &Job) -> Vec<EventKind> {
    job.events.iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn hello_from_register_to_disconnect() {
    with_both(async |part, program| {
        let (sandbox, _repository) = start_for(part).await;
        let job = job(&sandbox, "echo hello; env | sort");
        let mut agent = start_agent(&sandbox, &program, job).await;
        let done = ended(&sandbox, job).await;
        assert_eq!(done.state, State::Finished, "{}", agent.log());
        assert_eq!(done.outcome.exit_status, Some(0), "{}", done.log.text());
        assert!(done.log.text().contains("\nhello\r"), "{:?}", done.log.text());
        assert_eq!(agent.exit_code().await, 0, "{}", agent.log());
        let events = [
            EventKind::Scheduled,
            EventKind::Reserved,
            EventKind::Accepted,
            EventKind::Started,
            EventKind::Finished,
        ];
        assert_eq!(kinds(&done), events);

        // What was stored by sequence is what can be read back, and is one text by offset.
        let read = Caller::new(&sandbox, "");
        let raw = read.get(&format!("/_sandbox/jobs/{job}/log/raw")).await.body;
        let sent = String::from_utf8(done.log.raw()).unwrap();
        assert_eq!(raw.as_str(), Some(sent.as_str()));
        let sequences: Vec<u64> = done.log.sequences().collect();
        let count = u64::try_from(sequences.len()).unwrap();
        assert_eq!(sequences, (1..=count).collect::<Vec<_>>());
        // The organisation's token is nowhere near the job.
        assert!(!sent.contains(TOKEN), "{sent}");
    })
    .await;
}

#[tokio::test]
async fn an_exit_status_is_told_as_a_number() {
    with_both(async |part, program| {
        let (sandbox, _repository) = start_for(part).await;
        let job = job(&sandbox, "exit 3");
        let mut agent = start_agent(&sandbox, &program, job).await;
        let done = ended(&sandbox, job).await;
        assert_eq!((done.state, done.outcome.exit_status), (State::Finished, Some(3)));
        assert_eq!(done.outcome.signal_reason, None);
        let told = Caller::new(&sandbox, "").get(&format!("/_sandbox/jobs/{job}")).await.body;
        assert_eq!(told["exit_status"], json!(3));
        assert_eq!(agent.exit_code().await, 0, "{}", agent.log());
    })
    .await;
}

const ALL_COMMANDS: &str = r#"set -eu
buildkite-agent meta-data set colour blue
echo "colour=$(buildkite-agent meta-data get colour)"
echo "absent=$(buildkite-agent meta-data get nothing --default none)"
buildkite-agent meta-data exists nothing || echo "exists=$?"
buildkite-agent annotate 'All *well*' --style success --context mood
buildkite-agent annotate ', really' --context mood --append
mkdir -p out got
printf 'some bytes' > out/a.txt
buildkite-agent artifact upload 'out/*.txt'
buildkite-agent artifact download 'out/*.txt' got
cmp out/a.txt got/out/a.txt && echo same=yes
printf 'steps:\n  - command: echo later\n    key: later\n' | buildkite-agent pipeline upload
"#;

#[tokio::test]
async fn the_commands_of_a_job_and_whose_tokens_they_use() {
    with_both(async |part, program| {
        let (sandbox, _repository) = start_for(part).await;
        let (build, jobs) = build(&sandbox, vec![NewStep::command(ALL_COMMANDS)]);
        let mut agent = start_agent(&sandbox, &program, jobs[0]).await;
        let done = ended(&sandbox, jobs[0]).await;
        let text = done.log.text();
        assert_eq!(done.outcome.exit_status, Some(0), "{text}");
        for line in ["colour=blue", "absent=none", "exists=100", "same=yes"] {
            assert!(text.contains(&format!("\n{line}\r")), "{line} is not in {text}");
        }
        assert_eq!(agent.exit_code().await, 0, "{}", agent.log());

        sandbox.engine(|engine, _| {
            let of = engine.build(build).unwrap();
            assert_eq!(of.meta_data["colour"], "blue");
            let [note] = &of.annotations[..] else { panic!("{:?}", of.annotations) };
            assert_eq!((note.context.as_str(), note.body.as_str()), ("mood", "All *well*, really"));
            assert_eq!(note.style.as_deref(), Some("success"));
            let [artifact] = &of.artifacts[..] else { panic!("{:?}", of.artifacts) };
            let artifact = engine.artifact(*artifact).unwrap();
            let content = artifact.content.as_deref().unwrap();
            assert_eq!((artifact.path.as_str(), content), ("out/a.txt", &b"some bytes"[..]));
            assert_eq!(artifact.state, ArtifactState::Finished);
            let sum: String = Sha1::digest(content).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(artifact.sha1sum, sum);
            // The uploaded step stands after the job's own, and inherits its time.
            assert_eq!(of.steps[1].key.as_deref(), Some("later"));
            let later = engine.job(of.steps[1].jobs[0]).unwrap();
            assert_eq!((later.state, later.scheduled_at), (State::Scheduled, done.scheduled_at));
        });
        assert!(kinds(&done).contains(&EventKind::BuildStepUploadCreated));
        only_the_workers_own_tokens(&sandbox);
    })
    .await;
}

/// Files go without a token, everything else with one that is good for this one job.
fn only_the_workers_own_tokens(sandbox: &Sandbox) {
    let requests = sandbox.requests();
    let by_worker = requests.iter().filter(|request| !request.route.starts_with("/v3/stacks/"));
    let (files, calls): (Vec<_>, Vec<_>) = by_worker.partition(|request| {
        request.route.starts_with("/uploads/") || request.route.starts_with("/artifacts/")
    });
    let kinds: BTreeSet<&str> = calls.iter().map(|request| request.token).collect();
    assert_eq!(kinds, BTreeSet::from(["acquisition", "job", "session"]));
    let kinds: BTreeSet<&str> = files.iter().map(|request| request.token).collect();
    assert_eq!(kinds, BTreeSet::from(["none"]));
    let failed: Vec<_> = calls.iter().filter(|request| request.status != Some(200)).collect();
    // The one value that is asked for and is not there.
    assert!(failed.iter().all(|request| request.route.contains("/data/")), "{failed:?}");
    assert_eq!(failed.len(), 1, "{failed:?}");
}

#[tokio::test]
async fn a_cancel_stops_a_running_job() {
    with_both(async |part, program| {
        let (sandbox, _repository) = start_for(part).await;
        let job = job(&sandbox, "sleep 60");
        let mut agent = start_agent(&sandbox, &program, job).await;
        running(&sandbox, job).await;
        sandbox.engine(|engine, now| engine.cancel_job(job, now)).unwrap();
        let done = ended(&sandbox, job).await;
        assert_eq!(done.state, State::Canceled);
        assert_eq!(done.outcome.signal_reason.as_deref(), Some("cancel"));
        let at = |kind| done.events.iter().find(|event| event.kind == kind).unwrap().at;
        let took = at(EventKind::Canceled).duration_since(at(EventKind::Cancelation));
        assert!(took.as_secs() < 12, "two intervals and the grace are over: {took}");
        assert_eq!(agent.exit_code().await, 0, "{}", agent.log());
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_taken_is_nobody_elses() {
    with_both(async |part, program| {
        let (sandbox, _repository) = start_for(part).await;
        let job = job(&sandbox, "true");
        let first = Caller::new(&sandbox, TOKEN);
        let session = first.post("/v3/register", json!({"name": "first"})).await.body;
        let first = first.with(session["access_token"].as_str().unwrap());
        first.post("/v3/connect", Value::Null).await;
        let path = format!("/v3/jobs/{job}/acquire");
        assert_eq!(first.put(&path, Value::Null).await.status, 200);

        let mut late = Agent::start(&sandbox, &program, TOKEN, job);
        let code = if part == Part::NewAgent { 27 } else { 1 };
        assert_eq!(late.exit_code().await, code, "{}", late.log());
        let of = sandbox.engine(|engine, _| engine.job(job).cloned()).unwrap();
        assert_eq!((of.state, of.agent.map(|id| id.to_string())), {
            (State::Accepted, session["id"].as_str().map(str::to_owned))
        });
    })
    .await;
}

#[tokio::test]
async fn an_agent_without_heartbeats_is_lost_and_cannot_finish() {
    with_both(async |part, program| {
        let (sandbox, _repository) = start_for(part).await;
        let folder = tempfile::tempdir().unwrap();
        let go = folder.path().join("go");
        let wait = format!("until [ -e '{}' ]; do sleep 0.05; done", go.display());
        let job = job(&sandbox, &wait);
        let mut agent = start_agent(&sandbox, &program, job).await;
        running(&sandbox, job).await;
        sandbox.engine(|engine, _| engine.quirks.ignore_heartbeats = true);
        sandbox.advance(Duration::from_secs(170));
        let of = sandbox.engine(|engine, _| engine.job(job).unwrap().state);
        assert_eq!(of, State::Running, "three minutes are not over");
        sandbox.advance(Duration::from_secs(11));
        let done = ended(&sandbox, job).await;
        assert_eq!((done.state, done.outcome.exit_status), (State::Finished, Some(-1)));
        assert_eq!((&done.outcome.signal_reason, &done.outcome.signal), (&None, &None));
        let last = &kinds(&done)[kinds(&done).len() - 2..];
        assert_eq!(last, [EventKind::AgentLost, EventKind::Finished]);

        // It is alive all the same; what it says of the job's end is refused.
        std::fs::write(go, "").unwrap();
        agent.exit_code().await;
        let requests = sandbox.requests();
        let finish = requests.iter().find(|request| request.route.ends_with("/finish")).unwrap();
        assert_eq!(finish.status, Some(422));
        let after = sandbox.engine(|engine, _| engine.job(job).cloned()).unwrap();
        assert_eq!(after.outcome, done.outcome);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_an_agent_leaves_behind_is_ended() {
    with_both(async |part, program| {
        let (sandbox, _repository) = start_for(part).await;
        sandbox.add_fault(sandbox::Fault {
            route: "/v3/jobs/{id}/start".to_owned(),
            status: Some(422),
            ..sandbox::Fault::default()
        });
        let job = job(&sandbox, "true");
        let mut agent = start_agent(&sandbox, &program, job).await;
        agent.exit_code().await;
        until(&sandbox, "the agent has left", |engine| {
            let told = kinds(engine.job(job)?);
            told.contains(&EventKind::AgentDisconnected).then_some(())
        })
        .await;
        let state = sandbox.engine(|engine, _| engine.job(job).unwrap().state);
        assert_eq!(state, State::Accepted);
        sandbox.advance(Duration::from_secs(61));
        let done = ended(&sandbox, job).await;
        assert_eq!((done.state, done.outcome.exit_status), (State::Finished, Some(-1)));
    })
    .await;
}

#[tokio::test]
async fn a_waiting_job_is_acquired_when_it_may_run() {
    let Some(program) = Part::NewAgent.find() else { return };
    let (sandbox, _repository) = start_for(Part::NewAgent).await;
    let (_, jobs) = build(
        &sandbox,
        vec![NewStep::command("true"), NewStep::wait(), NewStep::command("echo after")],
    );
    let mut agent = Agent::start(&sandbox, &program, TOKEN, jobs[1]);
    let acquire = "/v3/jobs/{id}/acquire";
    until(&sandbox, "the agent was told to wait", |_| {
        let requests = sandbox.requests();
        requests.iter().any(|r| r.route == acquire && r.status == Some(423)).then_some(())
    })
    .await;
    let first = Agent::start(&sandbox, &program, TOKEN, jobs[0]);
    let done = ended(&sandbox, jobs[1]).await;
    assert_eq!(done.outcome.exit_status, Some(0), "{}{}", agent.log(), first.log());
    assert_eq!(agent.exit_code().await, 0);
}

#[tokio::test]
async fn an_agent_whose_replies_are_lost_ends_its_job_once() {
    with_both(async |part, program| {
        let (sandbox, _repository) = start_for(part).await;
        for call in ["chunks", "finish"] {
            sandbox.add_fault(sandbox::Fault {
                route: format!("/v3/jobs/{{id}}/{call}"),
                times: Some(1),
                lose_reply: true,
                ..sandbox::Fault::default()
            });
        }
        let job = job(&sandbox, "echo once");
        let mut agent = start_agent(&sandbox, &program, job).await;
        agent.exit_code().await;
        let done = ended(&sandbox, job).await;
        assert_eq!(done.outcome.exit_status, Some(0), "{}", agent.log());
        assert_eq!(done.log.text().matches("\nonce\r").count(), 1, "{}", done.log.text());
        let finished = done.events.iter().filter(|event| event.kind == EventKind::Finished);
        assert_eq!(finished.count(), 1);
        let requests = sandbox.requests();
        let of = |call: &str| {
            let all = requests.iter().filter(|request| request.route.ends_with(call));
            all.map(|request| request.status).collect::<Vec<_>>()
        };
        assert_eq!(of("/finish"), [None, Some(422)]);
        assert!(of("/chunks").starts_with(&[None, Some(200)]), "{:?}", of("/chunks"));
    })
    .await;
}
