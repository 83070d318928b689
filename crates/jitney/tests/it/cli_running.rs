//! The command line beside a Jitney that runs: status, explain, drain, doctor; and where none does.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use jitney::api::JobPhase;
use sandbox::engine::{NewApiToken, State};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

use crate::cli_support::{command, configuration_of, jitney};
use crate::shell_support::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_jitney_that_runs_is_shown_explained_and_drained() {
    let mut world = World::new().await;
    world.with_access_token("s3cret");
    let program = world.start().await;
    let file = configuration_of(&world, &program);
    let folder = world.folder.path();
    let jobs = world.build(
        "steps:\n  - { command: long, env: { PLAY_SECONDS: \"600\" } }\n  - { command: x, agents: { memroy: 4G } }\n",
    );
    let running = |status: &jitney::api::Snapshot| {
        let acquired = status.jobs.iter().any(|job| job.phase == JobPhase::Acquired);
        (acquired && !status.waiting.is_empty()).then_some(())
    };
    program.until("one runs and one is foreign", running).await;

    let status = jitney(&["status", "--config", &file], folder).await.expect(0);
    for part in ["ready", "Buildkite answers", "default", "there", "acquired", "memroy", "foreign:"]
    {
        assert!(status.out.contains(part), "{part} is not in\n{}", status.out);
    }
    let json = jitney(&["status", "--json", "--config", &file], folder).await.expect(0).json();
    assert_eq!(json["jobs"][0]["id"], jobs[0].to_string());
    let (backend, job) = (&json["backends"][0], &json["jobs"][0]);
    assert_eq!(backend["cpu_millis"], job["cpu_millis"], "{backend}");
    assert_eq!(backend["memory_bytes"], job["memory_bytes"], "{backend}");
    assert!(backend["cpu_millis"].as_u64().unwrap() > 0, "{backend}");

    let (long, slip) = (jobs[0].to_string(), jobs[1].to_string());
    let told = jitney(&["explain", &long, "--config", &file], folder).await.expect(0);
    for part in ["Now: acquired", "on there", "seen and taken on", "an agent has the job"] {
        assert!(told.out.contains(part), "{part} is not in\n{}", told.out);
    }
    let told = jitney(&["explain", &slip, "--config", &file], folder).await.expect(0);
    assert!(told.out.contains("Did you mean memory"), "{}", told.out);
    assert!(told.out.contains(" #1, ") && told.out.contains("queue "), "{}", told.out);
    // The link to it, as Buildkite's pages have it.
    let link = format!("https://buildkite.com/acme/web/builds/1#{long}");
    jitney(&["explain", &link, "--config", &file], folder).await.expect(0);

    let drained = jitney(&["drain", "--config", &file], folder).await.expect(0);
    assert!(drained.out.contains("1 job is left"), "{}", drained.out);
    let status = jitney(&["status", "--config", &file], folder).await.expect(0);
    assert!(status.out.contains("draining"), "{}", status.out);
    world.sandbox.engine(|engine, now| engine.cancel_job(jobs[0], now)).unwrap();
    let drained = jitney(&["drain", "--wait", "--config", &file], folder).await.expect(0);
    assert!(drained.out.contains("nothing is left"), "{}", drained.out);
    jitney(&["drain", "--resume", "--config", &file], folder).await.expect(0);

    // Through history, and by the beginning of its id, which both jobs may share.
    let told = jitney(&["explain", &long, "--config", &file], folder).await.expect(0);
    assert!(told.out.contains("Ended: canceled"), "{}", told.out);
    let json =
        jitney(&["explain", "--json", &long, "--config", &file], folder).await.expect(0).json();
    assert_eq!(json["job"]["kind"], "closed", "{json}");
    let several = jitney(&["explain", &long[..8], "--config", &file], folder).await;
    assert!(several.out.contains(&long), "{}", several.out);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_job_and_what_is_no_job() {
    let world = World::new().await;
    let program = world.start().await;
    let file = configuration_of(&world, &program);
    let folder = world.folder.path();
    let nobody = "01999999-0000-7000-8000-000000000000";
    let told = jitney(&["explain", nobody, "--config", &file], folder).await.expect(4);
    assert!(told.out.contains("store.keep"), "{}", told.out);
    let json =
        jitney(&["explain", "--json", nobody, "--config", &file], folder).await.expect(4).json();
    assert_eq!(json["job"], serde_json::Value::Null);
    let told = jitney(&["explain", "what?", "--config", &file], folder).await.expect(2);
    assert!(told.err.contains("names no job"), "{}", told.err);
    program.stop().await;
}

#[tokio::test]
async fn where_nobody_runs_it_says_so_with_3() {
    let world = World::new().await;
    let file = world.folder.path().join("jitney.yaml");
    let port = free_port().await;
    std::fs::write(&file, world.yaml().replace("127.0.0.1:0", &format!("127.0.0.1:{port}")))
        .unwrap();
    let file = file.display().to_string();
    for args in [&["status"][..], &["status", "--json"], &["drain"], &["explain", "0199aaaa"]] {
        let args = [args, &["--config", &file]].concat();
        let ran = jitney(&args, world.folder.path()).await.expect(3);
        assert!(ran.err.contains("jitney run") && ran.out.is_empty(), "{args:?}: {}", ran.err);
    }
}

/// One that nobody listens on: it was ours a moment ago.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_ours_is_refused_with_2() {
    let mut world = World::new().await;
    world.more = "access: { token: right }".into();
    let program = world.start().await;
    let file = configuration_of(&world, &program);
    jitney(&["status", "--config", &file], world.folder.path()).await.expect(0);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("token: right", "token: wrong_one")).unwrap();
    let ran = jitney(&["status", "--config", &file], world.folder.path()).await.expect(2);
    assert!(ran.err.contains("access.token") && !ran.err.contains("wrong_one"), "{}", ran.err);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_all_well_while_it_runs_and_before() {
    let world = World::new().await;
    let program = world.start().await;
    let file = configuration_of(&world, &program);
    let ran = jitney(&["doctor", "--config", &file], world.folder.path()).await.expect(0);
    for part in [
        "of organisation demo",
        "agrees",
        "queue default",
        "is in the cluster",
        "lists 0 machines",
        "in use by a Jitney",
        "which runs",
    ] {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
    program.stop().await;
    let ran = jitney(&["doctor", "--config", &file], world.folder.path()).await.expect(0);
    assert!(ran.out.contains("is sound") && ran.out.contains("is free"), "{}", ran.out);
}

/// Changes the configuration, expects `wrong` in the findings, and that a remedy stands by.
async fn doctor_finds(change: impl FnOnce(&mut World), check: &str, words: &str) {
    let mut world = World::new().await;
    change(&mut world);
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).unwrap();
    let args = ["doctor", "--json", "--config", &file.display().to_string()];
    let json = jitney(&args, world.folder.path()).await.expect(4).json();
    assert_eq!(json["worst"], "wrong");
    let findings = json["findings"].as_array().unwrap();
    let found = findings.iter().find(|f| f["level"] == "wrong" && f["check"] == check);
    let found = found.unwrap_or_else(|| panic!("{check}: {json:#}"));
    assert!(found["found"].as_str().unwrap().contains(words), "{found}");
    assert!(!found["remedy"].as_str().unwrap().is_empty());
    assert!(!json.to_string().contains("planted"), "a token is shown: {json}");
}

#[tokio::test]
async fn doctor_finds_a_wrong_token() {
    doctor_finds(|world| world.token = "bkct_planted_wrong".into(), "token", "does not know it")
        .await;
}

#[tokio::test]
async fn doctor_finds_a_queue_that_the_cluster_does_not_have() {
    let queues = "{ default: { backends: [there] }, nosuch: { backends: [there] } }";
    doctor_finds(|world| world.queues = queues.into(), "queue nosuch", "is not in").await;
}

/// With a token that may do so much.
fn with_api_token(world: &mut World, scopes: &[&str]) {
    let token = "bkua_planted";
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let new = NewApiToken { scopes, ..NewApiToken::with_all_scopes(token) };
    world.sandbox.engine(|engine, now| engine.issue_api_token(new, now).unwrap());
    world.buildkite = format!(
        "  api_endpoint: {}\n  api_token: {token}\n  organization: demo",
        world.sandbox.api_endpoint()
    );
}

#[tokio::test]
async fn doctor_looks_at_the_api_token_where_there_is_one() {
    let mut world = World::new().await;
    with_api_token(&mut world, &["read_builds", "write_builds"]);
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).unwrap();
    let args = ["doctor", "--config", &file.display().to_string()];
    let ran = jitney(&args, world.folder.path()).await.expect(0);
    assert!(ran.out.contains("may read and retry builds"), "{}", ran.out);
}

#[tokio::test]
async fn doctor_finds_what_is_wrong_with_the_api_token() {
    let lacks = "lacks the scope write_builds";
    doctor_finds(|world| with_api_token(world, &["read_builds"]), "API token", lacks).await;
    let unknown = |world: &mut World| {
        with_api_token(world, &["read_builds"]);
        world.buildkite = world.buildkite.replace("bkua_planted", "bkua_planted_wrong");
    };
    doctor_finds(unknown, "API token", "refuses it").await;
    let none = |world: &mut World| world.buildkite = "  retry_lost: { jobs: true }".into();
    doctor_finds(none, "API token", "needs buildkite.api_token").await;
    let elsewhere = |world: &mut World| {
        with_api_token(world, &["read_builds"]);
        world.buildkite = world.buildkite.replace("/v2", "/elsewhere");
    };
    doctor_finds(elsewhere, "API token", "cannot be asked about it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_warns_of_a_queue_that_cannot_be_asked_for() {
    let world = World::new().await;
    let route = "/v3/metrics/queue".into();
    let refused = sandbox::Fault { route, status: Some(403), ..sandbox::Fault::default() };
    world.sandbox.add_fault(refused);
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).unwrap();
    let args = ["doctor", "--json", "--config", &file.display().to_string()];
    let json = jitney(&args, world.folder.path()).await.expect(0).json();
    let findings = json["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["check"] == "queue default").unwrap();
    assert_eq!(found["level"], "warning", "{found}");
    assert!(found["remedy"].as_str().unwrap().contains("Buildkite"), "{found}");
}

#[tokio::test]
async fn doctor_finds_a_missing_agent() {
    let none = "there: { process: { agent: ./nowhere/buildkite-agent, directory: b } }";
    doctor_finds(|world| world.backends = none.into(), "there: agent", "nowhere/buildkite-agent")
        .await;
}

#[tokio::test]
async fn doctor_finds_a_service_that_is_away() {
    let none = "there: { http: { url: \"http://127.0.0.1:9\" } }";
    doctor_finds(|world| world.backends = none.into(), "backend there", "127.0.0.1:9").await;
}

#[tokio::test]
async fn doctor_finds_a_dead_endpoint() {
    let world = World::new().await;
    let file = world.folder.path().join("jitney.yaml");
    let text = world.yaml().replace(&world.sandbox.endpoint(), "http://127.0.0.1:9/v3");
    std::fs::write(&file, text).unwrap();
    let args = ["doctor", "--config", &file.display().to_string()];
    let ran = jitney(&args, world.folder.path()).await.expect(4);
    assert!(
        ran.out.contains("cannot be reached") && ran.out.contains("HTTPS_PROXY"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn doctor_finds_a_taken_port_and_a_corrupt_journal() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // Whatever it is, it answers no calls.
    let closing = tokio::spawn(async move {
        while let Ok((stream, _)) = taken.accept().await {
            drop(stream);
        }
    });
    doctor_finds(|world| world.listen = address, "listen", "is taken").await;
    closing.abort();
    let corrupt =
        |world: &mut World| std::fs::write(world.journal(), "no journal ".repeat(999)).unwrap();
    doctor_finds(corrupt, "journal", "cannot be read as a journal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_serves_at_once_and_ends_when_told() {
    buildkite::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let steps = folder.path().join("p.yml");
    std::fs::write(&steps, "steps: [{ command: x, agents: { queue: jit } }]").unwrap();
    let args = ["sandbox", "--listen", "127.0.0.1:0", "--token", "bkct_t", "--run", "p.yml"];
    let args = [&args[..], &["--cloud=127.0.0.1:0"]].concat();
    let scratch = tempfile::tempdir().unwrap();
    let env = [("TMPDIR", scratch.path().to_str().unwrap())];
    let mut child = command(&args, &env, folder.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        text.push_str(&line);
        text.push('\n');
        if line.contains("Ctrl-C") {
            break;
        }
    }
    for part in ["/v3", "bkct_t", "default, jit", "#1 of p.yml"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let url = text.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let compute = text.lines().find_map(|line| line.trim().strip_prefix("Compute")).unwrap();
    let (compute, project) = compute.trim().split_once(", project ").unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for url in [url, format!("{compute}projects/{project}/zones")] {
        let answer = http.get(&url).send().await.unwrap();
        assert!(answer.status().is_success(), "{url}");
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "a folder for machines");
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "it is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_serves_a_job_and_is_gone_at_once_when_told() {
    let world = World::new().await;
    let port = free_port().await;
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml().replace("127.0.0.1:0", &format!("127.0.0.1:{port}")))
        .unwrap();
    let file = file.display().to_string();
    let child = command(&["run", "--config", &file], &[], world.folder.path()).spawn().unwrap();
    let jobs = world.jobs(3);
    let ended = world.ended(&jobs).await;
    assert!(ended.iter().all(|job| job.state == State::Finished && job.outcome.is_success()));
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    let log = String::from_utf8(ended.stderr).unwrap();
    let mut told = std::collections::BTreeSet::new();
    for line in log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        if let Some(job) = line["job"].as_str() {
            let story = (job.to_owned(), line["message"].to_string());
            assert!(told.insert(story), "it is told twice: {line}");
        }
    }
    assert!(told.iter().any(|(_, words)| words.contains("machine made")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_says_at_once_which_backends_have_no_agent() {
    let mut world = World::new().await;
    let old = world.folder.path().join("old-agent");
    std::fs::write(&old, "#!/bin/sh\necho buildkite-agent version 3.51.0, build 1\n").unwrap();
    std::fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let builds = world.folder.path().display();
    world.backends = format!(
        "there: {{ process: {{ agent: /nowhere/agent, directory: {builds}/a }} }}\n  \
         old: {{ process: {{ agent: {}, directory: {builds}/b }} }}",
        old.display()
    );
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).unwrap();
    let args = ["run", "--config", &file.display().to_string()];
    let mut child = command(&args, &[], world.folder.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut waiting = vec![
        ("backends.there.process.agent", "there is no program `/nowhere/agent`"),
        ("backends.old.process.agent", "is version 3.51, and 3.52 or newer is needed"),
    ];
    let read = async {
        while !waiting.is_empty() {
            let line = lines.next_line().await.unwrap().expect("it goes on");
            let line: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if line["level"] == "ERROR" {
                let words = line["message"].as_str().unwrap();
                assert!(words.contains("install buildkite-agent"), "{words}");
                waiting.retain(|(key, why)| line["key"] != *key || !words.contains(why));
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("each is named");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn run_says_what_only_a_change_can_heal_with_2() {
    let mut world = World::new().await;
    world.token = "bkct_planted_wrong".into();
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).unwrap();
    let args = ["run", "--config", &file.display().to_string()];
    let ran = jitney(&args, world.folder.path()).await.expect(2);
    assert!(ran.err.contains("buildkite.token"), "{}", ran.err);
    assert!(!ran.err.contains("planted"), "the token is shown: {}", ran.err);
}
