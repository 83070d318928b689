//! The rules of the agent API that no agent breaks: whose token, which state, how large.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use sandbox::Sandbox;
use sandbox::engine::{EventKind, State};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Caller, TOKEN, build, job, start, start_with, step};

/// An agent that has the job, with its session's token and the job's.
async fn agent_with(sandbox: &Sandbox, job: Uuid) -> (Caller, Caller) {
    let caller = Caller::new(sandbox, TOKEN);
    let session = caller.post("/v3/register", json!({"name": "agent"})).await.body;
    let agent = caller.with(session["access_token"].as_str().unwrap());
    agent.post("/v3/connect", Value::Null).await;
    let given = agent.put(&format!("/v3/jobs/{job}/acquire"), Value::Null).await.body;
    let worker = agent.with(given["token"].as_str().unwrap());
    (agent, worker)
}

#[tokio::test]
async fn each_token_is_good_for_its_own_calls() {
    let sandbox = start().await;
    let cluster = Caller::new(&sandbox, TOKEN);
    cluster.stack("a").await;
    let (mine, other) = (job(&sandbox, "true"), job(&sandbox, "true"));
    let token = cluster.token_for("a", mine).await;
    let bound = cluster.with(&token);
    assert_eq!(bound.get("/v3/token").await.status, 401);
    assert_eq!(bound.get("/v3/stacks/a/scheduled-jobs?queue_key=default").await.status, 401);
    let session = bound.post("/v3/register", json!({"name": ""})).await.body;
    assert_ne!(session["name"], json!(""), "an empty name would fail the job");
    let agent = bound.with(session["access_token"].as_str().unwrap());
    let acquire = |job: Uuid| format!("/v3/jobs/{job}/acquire");
    assert_eq!(bound.put(&acquire(mine), Value::Null).await.status, 401);
    assert_eq!(agent.put(&acquire(other), Value::Null).await.status, 403);
    assert_eq!(agent.put(&acquire(mine), Value::Null).await.status, 200);
    assert_eq!(agent.get(&format!("/v3/jobs/{other}")).await.status, 403);
    assert_eq!(agent.post("/v3/register", json!({"name": "x"})).await.status, 401);
    assert_eq!(cluster.post("/v3/connect", Value::Null).await.status, 401);
    assert_eq!(cluster.get(&format!("/v3/jobs/{mine}")).await.status, 401);
    assert_eq!(cluster.with("").get("/v3/token").await.status, 401);
    assert_eq!(cluster.with("bkaa_unknown").post("/v3/connect", Value::Null).await.status, 401);
    let kinds: Vec<&str> = sandbox.requests().iter().map(|request| request.token).collect();
    assert!(kinds.contains(&"unknown") && kinds.contains(&"acquisition"), "{kinds:?}");
}

#[tokio::test]
async fn an_acquired_job_has_what_agents_need() {
    let sandbox = start().await;
    let with_env = step("make test", |new| {
        new.env.insert("COLOUR".into(), "blue".into());
        new.env.insert("BUILDKITE_JOB_ID".into(), "forged".into());
        new.timeout = Some(Duration::from_secs(90));
        new.artifact_paths = vec!["a".into(), "b".into()];
    });
    let (_, jobs) = build(&sandbox, vec![with_env]);
    let caller = Caller::new(&sandbox, TOKEN);
    let register = json!({"name": "agent", "meta_data": ["queue=default", "local-ssd=2"]});
    let session = caller.post("/v3/register", register).await.body;
    for interval in ["ping_interval", "job_status_interval", "heartbeat_interval"] {
        assert!(session[interval].as_u64().unwrap() >= 1, "{interval}");
    }
    let agent = caller.with(session["access_token"].as_str().unwrap());
    let given = agent.put(&format!("/v3/jobs/{}/acquire", jobs[0]), Value::Null).await.body;
    assert_eq!(given["chunks_max_size_bytes"], json!(102_400));
    let env = given["env"].as_object().unwrap();
    for (key, value) in [
        ("BUILDKITE_JOB_ID", jobs[0].to_string()),
        ("BUILDKITE_COMMAND", "make test".to_owned()),
        ("BUILDKITE_AGENT_NAME", "agent".to_owned()),
        ("BUILDKITE_AGENT_META_DATA_LOCAL_SSD", "2".to_owned()),
        ("BUILDKITE_SKIP_CHECKOUT", "true".to_owned()),
        ("BUILDKITE_TIMEOUT", "2".to_owned()),
        ("BUILDKITE_ARTIFACT_PATHS", "a;b".to_owned()),
        ("COLOUR", "blue".to_owned()),
    ] {
        assert_eq!(env[key], json!(value), "{key}");
    }
    for key in
        ["REPO", "COMMIT", "BRANCH", "ORGANIZATION_SLUG", "PIPELINE_SLUG", "PIPELINE_PROVIDER"]
    {
        assert_ne!(env[&format!("BUILDKITE_{key}")], json!(""), "{key}");
    }
    assert!(env.values().all(Value::is_string));
}

#[tokio::test]
async fn calls_in_the_wrong_state_are_refused() {
    let sandbox = start().await;
    let job = job(&sandbox, "true");
    let (agent, worker) = agent_with(&sandbox, job).await;
    let path = |call: &str| format!("/v3/jobs/{job}/{call}");
    assert_eq!(worker.get(&format!("/v3/jobs/{job}")).await.body["state"], json!("accepted"));
    assert_eq!(worker.put(&path("start"), json!({})).await.status, 200);
    assert_eq!(worker.put(&path("start"), json!({})).await.status, 422);
    let finish = json!({"exit_status": "x"});
    assert_eq!(worker.put(&path("finish"), finish).await.status, 422);
    let finish = json!({"exit_status": "-1", "signal": "SIGTERM", "signal_reason": "agent_stop"});
    assert_eq!(worker.put(&path("finish"), finish.clone()).await.status, 200);
    assert_eq!(worker.put(&path("finish"), finish.clone()).await.status, 422);
    let of = sandbox.engine(|engine, _| engine.job(job).cloned()).unwrap();
    assert_eq!(of.outcome.signal.as_deref(), Some("SIGTERM"));
    // The rest of the log is still taken for a minute, then the token is dead.
    let chunk = path("chunks?sequence=9&offset=0&size=1");
    assert_eq!(worker.post(&chunk, json!("late")).await.status, 200);
    sandbox.advance(Duration::from_secs(61));
    assert_eq!(worker.post(&chunk, json!("late")).await.status, 401);
    assert_eq!(worker.put(&path("finish"), finish).await.status, 401);
    let unknown = format!("/v3/jobs/{}/acquire", Uuid::nil());
    assert_eq!(agent.put(&unknown, Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_job_that_was_cancelled_before_its_start_is_not_started() {
    let sandbox = start().await;
    let job = job(&sandbox, "true");
    let (_, worker) = agent_with(&sandbox, job).await;
    let caller = Caller::new(&sandbox, TOKEN);
    let cancel = format!("/_sandbox/jobs/{job}/cancel");
    assert_eq!(caller.post(&cancel, Value::Null).await.status, 200);
    assert_eq!(caller.post(&cancel, Value::Null).await.status, 422);
    assert_eq!(worker.put(&format!("/v3/jobs/{job}/start"), json!({})).await.status, 422);
    let of = sandbox.engine(|engine, _| engine.job(job).cloned()).unwrap();
    assert_eq!(of.state, State::Canceled);
}

#[tokio::test]
async fn an_agent_that_ignores_a_cancel_or_a_time_limit_is_overruled() {
    let sandbox = start().await;
    let limited = |new: &mut sandbox::engine::Command| new.timeout = Some(Duration::from_secs(60));
    let (_, jobs) = build(&sandbox, vec![step("true", |_| ()), step("true", limited)]);
    for job in &jobs {
        let (_, worker) = agent_with(&sandbox, *job).await;
        worker.put(&format!("/v3/jobs/{job}/start"), json!({})).await;
    }
    sandbox.engine(|engine, now| engine.cancel_job(jobs[0], now)).unwrap();
    sandbox.advance(Duration::from_secs(60));
    let states =
        || sandbox.engine(|engine, _| [0, 1].map(|at| engine.job(jobs[at]).unwrap().state));
    assert_eq!(states(), [State::Canceled, State::TimingOut]);
    sandbox.advance(Duration::from_secs(60));
    assert_eq!(states(), [State::Canceled, State::TimedOut]);
    let of = sandbox.engine(|engine, _| engine.job(jobs[1]).cloned()).unwrap();
    assert!(of.events.iter().any(|event| event.kind == EventKind::TimedOut));
}

#[tokio::test]
async fn chunks_are_unpacked_within_their_limit() {
    let sandbox = start_with(|options| options.settings.log_limit_bytes = 150_000).await;
    let job = job(&sandbox, "true");
    let (_, worker) = agent_with(&sandbox, job).await;
    let send = async |sequence: u32, content: &[u8], packed: bool| {
        let body = if packed {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(content).unwrap();
            gzip.finish().unwrap()
        } else {
            content.to_vec()
        };
        let path = format!("/v3/jobs/{job}/chunks?sequence={sequence}&offset=0&size=1");
        worker.post_bytes(&path, body).await
    };
    assert_eq!(send(1, &vec![b'a'; 102_400], true).await, 200);
    assert_eq!(send(2, &vec![b'a'; 102_401], true).await, 413, "a bomb does not go off");
    assert_eq!(send(3, b"not gzip", false).await, 400);
    assert_eq!(send(4, &vec![b'b'; 50_000], true).await, 422, "the log is full");
    let of = sandbox.engine(|engine, _| engine.job(job).cloned()).unwrap();
    assert_eq!(of.log.raw().len(), 102_400);
    assert!(of.events.iter().any(|event| event.kind == EventKind::LogSizeLimitExceeded));
}

#[tokio::test]
async fn annotations_belong_to_the_build_or_the_job() {
    let sandbox = start().await;
    let (build, jobs) = build(&sandbox, vec![step("true", |_| ())]);
    let (_, worker) = agent_with(&sandbox, jobs[0]).await;
    let path = format!("/v3/jobs/{}/annotations", jobs[0]);
    for body in [
        json!({"body": "all", "priority": 3, "scope": "build"}),
        json!({"body": "mine", "context": "a b", "style": "error", "scope": "job"}),
    ] {
        assert_eq!(worker.post(&path, body).await.status, 200);
    }
    let wrong = json!({"body": "x", "scope": "world"});
    assert_eq!(worker.post(&path, wrong).await.status, 422);
    let huge = json!({"body": "x".repeat((1 << 20) + 1)});
    assert_eq!(worker.post(&path, huge).await.status, 422);
    let all = worker.get(&format!("/_sandbox/builds/{build}")).await.body;
    assert_eq!(all["annotations"][0]["context"], json!("default"));
    assert_eq!(all["jobs"][0]["annotations"][0]["body"], json!("mine"));
    let remove = async |context: &str| {
        let path = format!("{path}/{context}?scope=job");
        worker.call(reqwest::Method::DELETE, &path, Value::Null).await.unwrap().status.as_u16()
    };
    assert_eq!(remove("a%20b").await, 200);
    assert_eq!(remove("a%20b").await, 404);
}

#[tokio::test]
async fn artifacts_that_nobody_announced_or_that_are_too_large_are_refused() {
    let sandbox = start_with(|options| options.settings.artifacts_limit_bytes = 10).await;
    let job = job(&sandbox, "true");
    let (_, worker) = agent_with(&sandbox, job).await;
    let files = json!({"id": Uuid::nil(), "artifacts": [{"path": "a.txt", "file_size": 11}]});
    let path = format!("/v3/jobs/{job}/artifacts");
    let announced = worker.post(&path, files).await.body;
    let target = announced["upload_instructions"]["action"]["path"].as_str().unwrap().to_owned();
    let form = |name: &str, content: &str| {
        format!(
            "--x\r\ncontent-disposition: form-data; name=\"path\"\r\n\r\n{name}\r\n\
             --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n\
             {content}\r\n--x--\r\n"
        )
    };
    assert_eq!(worker.post_form(&target, form("a.txt", "12345678901")).await, 413);
    assert_eq!(worker.post_form(&target, form("b.txt", "1")).await, 404);
    assert_eq!(worker.post_form("/uploads/guessed", form("a.txt", "1")).await, 404);
    assert_eq!(worker.post_form(&target, "--x--\r\n".to_owned()).await, 422);
    assert_eq!(worker.post_form(&target, form("a.txt", "1")).await, 200);
    let id = &announced["artifact_ids"][0];
    let wrong = json!({"artifacts": [{"id": id, "state": "lost"}]});
    assert_eq!(worker.put(&path, wrong).await.status, 422);
    let absent = format!("/artifacts/{}", Uuid::nil());
    assert_eq!(worker.get(&absent).await.status, 404);
    let got = worker.get(&format!("/artifacts/{}", id.as_str().unwrap())).await;
    assert_eq!(got.body, json!(1));
    assert_eq!(got.headers["content-disposition"], "attachment; filename=\"a.txt\"");
}

#[tokio::test]
async fn what_is_not_there_is_404_in_json() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    let streaming = "/agentedge.v1.AgentEdgeService/StreamPings";
    for path in [streaming, "/v3/cache_registries/x", "/v3/jobs/x/promise_failure"] {
        let answer = caller.post(path, json!({})).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body["message"].is_string(), "{path}");
    }
}

#[tokio::test]
async fn dots_in_paths_may_be_escaped() {
    let sandbox = start().await;
    let job = job(&sandbox, "true");
    let (_, worker) = agent_with(&sandbox, job).await;
    let body = json!({"key": "a.b", "value": "1"});
    let path = format!("/v3/jobs/{job}/data/set");
    assert_eq!(worker.post(&path, body).await.status, 200);
    let note = json!({"body": "x", "context": "a.b"});
    worker.post(&format!("/v3/jobs/{job}/annotations"), note).await;
    let path = format!("/v3/jobs/{job}/annotations/a%2Eb");
    let gone = worker.call(reqwest::Method::DELETE, &path, Value::Null).await.unwrap();
    assert_eq!(gone.status, 200);
}

#[tokio::test]
async fn counts_of_a_queue_follow_its_jobs() {
    let sandbox = start().await;
    let (_, jobs) = build(
        &sandbox,
        vec![
            step("true", |_| ()),
            step("true", |_| ()),
            sandbox::engine::NewStep::wait(),
            step("true", |_| ()),
        ],
    );
    let caller = Caller::new(&sandbox, TOKEN);
    let counts = async || caller.get("/v3/metrics/queue?name=default").await.body["jobs"].clone();
    let expect = |scheduled, running, waiting, total: u32| json!({"scheduled": scheduled, "running": running, "waiting": waiting, "total": total});
    assert_eq!(counts().await, expect(2, 0, 1, 3));
    let (_, worker) = agent_with(&sandbox, jobs[0]).await;
    assert_eq!(counts().await, expect(1, 1, 1, 3));
    let agents = caller.get("/v3/metrics").await.body["agents"]["queues"]["default"].clone();
    assert_eq!(agents, json!({"idle": 0, "busy": 1, "total": 1}));
    worker.put(&format!("/v3/jobs/{}/start", jobs[0]), json!({})).await;
    worker.put(&format!("/v3/jobs/{}/finish", jobs[0]), json!({"exit_status": "1"})).await;
    assert_eq!(counts().await, expect(1, 0, 1, 2));
    sandbox.engine(|engine, now| engine.cancel_job(jobs[1], now)).unwrap();
    assert_eq!(counts().await, expect(0, 0, 0, 0), "what waited has failed with it");
}

#[tokio::test]
async fn another_sites_page_cannot_use_the_controls() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    let host = sandbox.url().strip_prefix("http://").unwrap();
    let own = format!("http://{host}");
    for (path, host, origin, status) in [
        ("/_sandbox/jobs", host, "https://elsewhere.example", 403),
        ("/_sandbox/jobs", host, "null", 403),
        ("/_sandbox/jobs", "elsewhere.example", "http://elsewhere.example", 403),
        ("/_sandbox/jobs", host, own.as_str(), 201),
        ("/v3/stacks/register", "sandbox.example", own.as_str(), 422),
    ] {
        let headers = [("host", host), ("origin", origin)];
        let answer = caller.post_with(path, &headers, json!({})).await;
        assert_eq!(answer, status, "{path} on {host} from {origin}");
    }
}

#[tokio::test]
async fn no_token_shows_in_debug_texts_or_read_outs() {
    let sandbox = start().await;
    let job = job(&sandbox, "true");
    agent_with(&sandbox, job).await;
    let caller = Caller::new(&sandbox, TOKEN);
    let (engine, of) =
        sandbox.engine(|engine, _| (format!("{engine:?}"), format!("{:?}", engine.job(job))));
    let mut texts = vec![format!("{sandbox:?}"), engine, of];
    for path in ["requests", "agents", "builds", "stacks", &format!("jobs/{job}")] {
        texts.push(caller.get(&format!("/_sandbox/{path}")).await.body.to_string());
    }
    for prefix in [TOKEN, "bkaa_", "bkaj_", "bkjat_"] {
        assert!(texts.iter().all(|text| !text.contains(prefix)), "{prefix} is in {texts:#?}");
    }
}
