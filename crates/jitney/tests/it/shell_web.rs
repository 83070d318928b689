//! What is served over HTTP: who may ask for what, the webhook, drain, metrics, and that no secret
//! is in any of it.

use std::time::Duration;

use buildkite::webhook::{EVENT_HEADER, SIGNATURE_HEADER, sign};
use jitney::api::Explained;
use jitney::assembly;
use jitney::clock::process_now;
use jitney::config::Config;
use reqwest::{Method, StatusCode};
use sandbox::engine::State;
use uuid::Uuid;

use crate::shell_support::{TOKEN, World, everything_in};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_api_only_reads() {
    for access in ["{}", "{ proxy_header: X-Forwarded-Email }"] {
        let mut world = World::new().await;
        world.more = format!("access: {access}");
        let program = world.start().await;
        // A job on this very host can send any header.
        let claims = [("x-jitney", "1"), ("x-forwarded-email", "boss@acme.example")];
        assert_eq!(program.call(Method::GET, "/api/status", &claims).await.0, StatusCode::OK);
        for method in [Method::POST, Method::DELETE] {
            let (status, words) = program.call(method, "/api/drain", &claims).await;
            assert_eq!(status, StatusCode::FORBIDDEN);
            assert!(words.contains("access.token"), "{words}");
        }
        let bare = if access == "{}" { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(program.get("/api/status").await.0, bare);
        let jobs = world.jobs(1);
        assert_eq!(world.ended(&jobs).await[0].state, State::Finished, "it was not drained");
        program.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_everything_but_the_probes_needs_it() {
    let mut world = World::new().await;
    world.more = "access: { token: s3cret }".into();
    let program = world.start().await;
    for path in ["/api/status", "/metrics", "/api/history"] {
        assert_eq!(program.get(path).await.0, StatusCode::UNAUTHORIZED, "{path}");
        let wrong = [("authorization", "Bearer s3cret2"), ("x-jitney", "1")];
        assert_eq!(program.call(Method::GET, path, &wrong).await.0, StatusCode::UNAUTHORIZED);
        let right = [("authorization", "Bearer s3cret")];
        assert_eq!(program.call(Method::GET, path, &right).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(program.get("/healthz").await.0, StatusCode::OK);
    let right = [("authorization", "Bearer s3cret")];
    assert_eq!(program.call(Method::POST, "/api/drain", &right).await.0, StatusCode::OK);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_draining_nothing_is_taken_and_resuming_takes_it() {
    let mut world = World::new().await;
    world.with_access_token("s3cret");
    let program = world.start().await;
    assert_eq!(program.call(Method::POST, "/api/drain", &[]).await.0, StatusCode::OK);
    let jobs = world.jobs(1);
    let waiting = program.until("it waits", |snapshot| snapshot.waiting.first().cloned()).await;
    assert_eq!(waiting.reason, planner::Reason::Draining);
    assert!(matches!(program.explain(jobs[0]).await, Some(Explained::Waiting(_))));
    assert_eq!(program.call(Method::DELETE, "/api/drain", &[]).await.0, StatusCode::OK);
    assert_eq!(world.ended(&jobs).await[0].state, State::Finished);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_wakes_the_queue_and_a_forged_one_does_not() {
    let mut world = World::new().await;
    world.buildkite = "  webhook_secret: hooksecret\n  poll: { idle: 1h, busy: 1h }".into();
    let program = world.start().await;
    program.until("it is listed", |snapshot| snapshot.missing.is_empty().then_some(())).await;
    let jobs = world.jobs(1);
    let body = r#"{"event":"job.scheduled","job":{"id":"00000000-0000-0000-0000-000000000001"}}"#;
    let now = process_now().as_second();
    let forged = sign(&"another".into(), now, body.as_bytes());
    let headers = [(EVENT_HEADER, "job.scheduled"), (SIGNATURE_HEADER, forged.as_str())];
    assert_eq!(program.send("/webhook", &headers, body).await, StatusCode::UNAUTHORIZED);
    let lists = program.status().await.counts.calls["list"];
    let signed = sign(&"hooksecret".into(), now, body.as_bytes());
    let headers = [(EVENT_HEADER, "job.scheduled"), (SIGNATURE_HEADER, signed.as_str())];
    assert_eq!(program.send("/webhook", &headers, body).await, StatusCode::OK);
    assert_eq!(world.ended(&jobs).await[0].state, State::Finished);
    assert_eq!(program.status().await.counts.calls["list"], lists + 1);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_webhooks_and_pages_stays_within_buildkites_limits() {
    let mut world = World::new().await;
    world.buildkite = "  webhook_secret: hooksecret\n  poll: { idle: 100ms, busy: 100ms }".into();
    world.build("steps: [{ command: x, parallelism: 2500, agents: { os: windows } }]");
    let program = world.start().await;
    program.until("it is listed", |snapshot| snapshot.missing.is_empty().then_some(())).await;
    let jobs = world.jobs(300);
    let body = r#"{"event":"job.scheduled","job":{"id":"00000000-0000-0000-0000-000000000001"}}"#;
    let signed = sign(&"hooksecret".into(), process_now().as_second(), body.as_bytes());
    let headers = [(EVENT_HEADER, "job.scheduled"), (SIGNATURE_HEADER, signed.as_str())];
    for _ in 0..300 {
        assert_eq!(program.send("/webhook", &headers, body).await, StatusCode::OK);
    }
    world.ended(&jobs).await;
    program.at_rest().await;
    let requests = world.sandbox.requests();
    let lists = requests.iter().filter(|request| request.route.ends_with("/scheduled-jobs"));
    assert!(lists.count() >= 3, "pages were read");
    let refused = requests.iter().find(|request| request.status == Some(429));
    assert_eq!(refused.map(|request| &request.route), None);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_there_is_no_webhook_and_unknown_paths_are_json() {
    let world = World::new().await;
    let program = world.start().await;
    assert_eq!(program.send("/webhook", &[], "{}").await, StatusCode::NOT_FOUND);
    let (status, body) = program.get("/nothing").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.contains("\"error\""), "{body}");
    assert_eq!(program.get("/api/jobs/seven").await.0, StatusCode::BAD_REQUEST);
    let nobody = format!("/api/jobs/{}", Uuid::new_v4());
    assert_eq!(program.get(&nobody).await.0, StatusCode::NOT_FOUND);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_phases_and_calls_without_naming_jobs() {
    let world = World::new().await;
    let program = world.start().await;
    let jobs = world.jobs(2);
    world.ended(&jobs).await;
    let (_, text) = program.get("/metrics").await;
    for line in ["jitney_jobs_taken_total 2", "jitney_ready 1", "jitney_buildkite_reachable 1"] {
        assert!(text.lines().any(|found| found == line), "no {line} in {text}");
    }
    assert!(text.contains("jitney_calls_total{call=\"create\"} 2"), "{text}");
    assert!(jobs.iter().all(|job| !text.contains(&job.to_string())));
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_no_reply_and_in_no_file() {
    let mut world = World::new().await;
    world.more = "access: { token: s3cret }".into();
    let program = world.start().await;
    let jobs = world.jobs(3);
    world.ended(&jobs).await;
    let right = [("authorization", "Bearer s3cret")];
    let mut seen = Vec::new();
    let explain = format!("/api/jobs/{}", jobs[0]);
    for path in ["/api/status", "/api/history", "/metrics", "/readyz", explain.as_str()] {
        seen.extend(program.call(Method::GET, path, &right).await.1.into_bytes());
    }
    program.stop().await;
    seen.extend(everything_in(world.folder.path()));
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.contains(&jobs[0].to_string()), "this does look where things would be");
    for secret in [TOKEN, "s3cret", "bkjat_", "bkaa_"] {
        assert!(!seen.contains(secret), "{secret} can be read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_settings_take_effect_without_a_restart() {
    let mut world = World::new().await;
    world.more = "limits: { machines: 0 }".into();
    let program = world.start().await;
    let jobs = world.jobs(1);
    let waiting = program.until("it waits", |snapshot| snapshot.waiting.first().cloned()).await;
    assert!(matches!(waiting.reason, planner::Reason::Limit { .. }), "{waiting:?}");
    world.more = "limits: { machines: 5 }".into();
    let config: Config = world.config();
    program.reload.send(assembly::settings(&config, &world.place().host)).await.unwrap();
    assert_eq!(world.ended(&jobs).await[0].state, State::Finished);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_wall_clock_loses_nothing() {
    for hours in [-1_i64, 1] {
        let mut world = World::new().await;
        let hour = Duration::from_secs(3600);
        let now = world.clock.now();
        let wrong = if hours < 0 { now.minus(hour) } else { now.plus(hour) };
        world.clock = jitney::clock::Clock::starting_at(wrong);
        let program = world.start().await;
        let jobs = world.jobs(3);
        let ended = world.ended(&jobs).await;
        assert!(ended.iter().all(|job| job.outcome.is_success()), "{hours} h");
        program.at_rest().await;
        assert_eq!(world.counters().await.alive, 0);
        program.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_of_metrics_is_documented() {
    let documentation = include_str!("../../../../docs/api.md");
    let world = World::new().await;
    let program = world.start().await;
    let (_, text) = program.get("/metrics").await;
    let families: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(families.len() > 10, "{text}");
    for family in families {
        assert!(documentation.contains(&format!("`{family}`")), "{family} is not in docs/api.md");
    }
    program.stop().await;
}
