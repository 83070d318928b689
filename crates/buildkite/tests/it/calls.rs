//! Each call sends what the contract says and reads what it answers.

use std::time::Duration;

use axum::response::Response;
use buildkite::wire::{JobState, Notification};
use buildkite::{Remedy, StackClient};
use futures_util::future::join_all;
use secrecy::ExposeSecret;

use crate::golden::{id, registration};
use crate::server::{Seen, Server, TOKEN, golden, golden_json, reply};

/// A server that answers everything with one golden file (or with nothing, for `""`).
async fn answering(status: u16, file: &'static str) -> Server {
    Server::start(move |_: &Seen| golden_reply(status, file)).await
}

fn golden_reply(status: u16, file: &str) -> Response {
    let body = if file.is_empty() { String::new() } else { golden(file) };
    reply(status, &[("content-type", "application/json")], body)
}

/// The request as method and path, its headers checked on the way.
fn line(server: &Server) -> String {
    let seen = server.only();
    assert_eq!(seen.header("authorization"), format!("Token {TOKEN}"));
    assert_eq!(seen.header("user-agent"), "jitney/0.1.0");
    assert_eq!(seen.header("accept"), "application/json");
    assert_eq!(seen.header("content-type"), "application/json");
    format!("{} {}", seen.method, seen.uri)
}

const IDS: [u64; 3] = [1, 2, 3];

async fn stack_answering(status: u16, file: &'static str) -> (Server, StackClient) {
    let server = answering(status, file).await;
    let stack = server.stack();
    (server, stack)
}

#[tokio::test]
async fn the_token_and_its_identity() {
    let server = answering(200, "token.200.json").await;
    let probe = server.client().probe().await.unwrap();
    assert_eq!(probe.identity.organization_slug, "demo");
    assert_eq!(probe.identity.cluster_name, "Default cluster");
    assert!(probe.server_time.is_some(), "the server sends a date");
    assert_eq!(line(&server), "GET /v3/token");
}

#[tokio::test]
async fn registering_and_deregistering() {
    for (status, file) in [(201, "register.201.json"), (200, "register.200.json")] {
        let server = answering(status, file).await;
        let stack = server.client().register(&registration()).await.unwrap();
        assert_eq!(stack.cluster_queue_key, "linux-small");
        assert_eq!(line(&server), "POST /v3/stacks/register");
        assert_eq!(server.only().json(), golden_json("register.request.json"));
    }
    let server = answering(204, "").await;
    server.client().deregister("a.b/c").await.unwrap();
    assert_eq!(line(&server), "POST /v3/stacks/a%2Eb%2Fc/deregister");
    assert_eq!(server.only().header("content-length"), "0");
    let server = answering(404, "error.404.json").await;
    server.client().deregister("gone").await.expect("what is gone needs no deregistering");
}

#[tokio::test]
async fn a_registration_without_a_queue_is_not_believed() {
    let mut answer = golden_json("register.201.json");
    answer["cluster_queue_key"] = "".into();
    let server = Server::start(move |_: &Seen| crate::server::json(201, &answer)).await;
    let error = server.client().register(&registration()).await.unwrap_err();
    assert_eq!(error.remedy, Remedy::Unknown);
    assert!(error.to_string().contains("cluster_queue_key"), "{error}");
}

#[tokio::test]
async fn listing() {
    let (server, stack) = stack_answering(200, "list.200.json").await;
    let listing = stack.list_all("linux small", buildkite::Paging::default()).await.unwrap();
    assert_eq!((listing.jobs.len(), listing.pages, listing.complete), (1, 1, true));
    assert!(!listing.paused);
    assert_eq!(listing.queue_id, id(0x4444, 1));
    let path = "/v3/stacks/jit-linux-3f9c/scheduled-jobs?queue_key=linux+small&limit=1000";
    assert_eq!(line(&server), format!("GET {path}"));
}

#[tokio::test]
async fn reserving() {
    let (server, stack) = stack_answering(200, "reserve.200.json").await;
    // A name that stands twice is sent once.
    let twice = [id(0x1111, 1), id(0x1111, 1)];
    let batch = stack.reserve(&twice, Duration::from_millis(300_900)).await;
    assert_eq!(batch.into_result().unwrap().reserved, [id(0x1111, 1)]);
    assert_eq!(line(&server), "PUT /v3/stacks/jit-linux-3f9c/scheduled-jobs/batch-reserve");
    assert_eq!(server.only().json(), golden_json("reserve.request.json"));

    let (server, stack) = stack_answering(200, "reserve.taken.200.json").await;
    let batch = stack.reserve(&[id(0x1111, 1)], Duration::from_secs(99_999)).await;
    assert_eq!(batch.value.not_reserved, [id(0x1111, 1)]);
    assert_eq!(server.only().json()["reservation_expiry_seconds"], 3_600);
}

#[tokio::test]
async fn looking_at_one_job_and_at_the_states_of_many() {
    let (server, stack) = stack_answering(200, "job.200.json").await;
    let job = stack.job(id(0x1111, 1)).await.unwrap();
    assert_eq!(job.command, "echo hello");
    let path = format!("/v3/stacks/jit-linux-3f9c/jobs/{}", id(0x1111, 1));
    assert_eq!(line(&server), format!("GET {path}"));

    let (server, stack) = stack_answering(200, "states.200.json").await;
    let states = stack.states(&IDS.map(|n| id(0x1111, n))).await.into_result().unwrap();
    assert_eq!(states.get(&id(0x1111, 2)), Some(&JobState::TimingOut));
    assert_eq!(states.get(&id(0x1111, 3)), None, "left out is unknown");
    assert_eq!(line(&server), "POST /v3/stacks/jit-linux-3f9c/jobs/get-states");
    assert_eq!(server.only().json(), golden_json("states.request.json"));
}

#[tokio::test]
async fn finishing() {
    let request = golden_json("finish.request.json");
    // The body of the reply is undocumented: whatever it is, it is a success.
    for body in ["", "{}", "OK", "<html>"] {
        let server = Server::start(move |_: &Seen| reply(200, &[], body)).await;
        let detail = request["detail"].as_str().unwrap();
        server.stack().finish(id(0x1111, 1), -1, detail).await.unwrap();
        let path = format!("/v3/stacks/jit-linux-3f9c/jobs/{}/finish", id(0x1111, 1));
        assert_eq!(line(&server), format!("POST {path}"));
        assert_eq!(server.only().json(), request);
    }
    let (server, stack) = stack_answering(200, "").await;
    stack.finish(id(0x1111, 1), 0, "Nothing to do.").await.unwrap();
    assert_eq!(server.only().json(), golden_json("finish.success.request.json"));

    let (server, stack) = stack_answering(200, "").await;
    stack.finish(id(0x1111, 1), 1, &"ü".repeat(4_000)).await.unwrap();
    let sent = server.only().json()["detail"].as_str().unwrap().to_owned();
    assert!(sent.len() <= 4_096 && sent.len() > 4_090, "{}", sent.len());
    assert!(sent.ends_with("ü…"));
}

#[tokio::test]
async fn notifying() {
    let request = golden_json("notify.request.json");
    let notes: Vec<Notification> =
        serde_json::from_value(request["notifications"].clone()).unwrap();
    let (server, stack) = stack_answering(200, "notify.200.json").await;
    assert_eq!(stack.notify(notes.clone()).await.into_result().unwrap(), []);
    assert_eq!(line(&server), "POST /v3/stacks/jit-linux-3f9c/notifications");
    assert_eq!(server.only().json(), request);

    // The server's indexes 0 and 2 are the second and the fourth of ours: the first is empty.
    let (server, stack) = stack_answering(200, "notify.partial.200.json").await;
    let mut four = vec![notes[0].clone(), notes[0].clone(), notes[1].clone(), notes[1].clone()];
    four[0].detail = String::new();
    four[3].detail = "ö".repeat(300);
    let errors = stack.notify(four).await.into_result().unwrap();
    let places: Vec<_> = errors.iter().map(|e| (e.error.as_str(), &e.indexes[..])).collect();
    assert_eq!(
        places,
        [("job has too many notifications", &[1, 3][..]), ("the detail is empty", &[0][..])]
    );
    let sent = server.only().json();
    assert_eq!(sent["notifications"].as_array().unwrap().len(), 3);
    let cut = sent["notifications"][2]["detail"].as_str().unwrap();
    assert_eq!((cut.chars().count(), cut.chars().last()), (256, Some('…')));
}

#[tokio::test]
async fn issuing_tokens() {
    let (server, stack) = stack_answering(201, "tokens.201.json").await;
    let batch = stack.issue_tokens(&[id(0x1111, 1)], Duration::from_secs(600)).await;
    let tokens = batch.into_result().unwrap();
    assert_eq!(tokens.issued[0].job, id(0x1111, 1));
    assert_eq!(tokens.issued[0].token.expose_secret(), "bkjat_eyJhbGciOiJub25lIn0");
    assert_eq!(tokens.issued[0].expires_at, "2026-10-02T08:25:00Z".parse().unwrap());
    assert_eq!(line(&server), "POST /v3/stacks/jit-linux-3f9c/job-acquisition-tokens");
    assert_eq!(server.only().json(), golden_json("tokens.request.json"));

    let (_server, stack) = stack_answering(201, "tokens.refused.201.json").await;
    let batch = stack.issue_tokens(&[id(0x1111, 1)], Duration::from_secs(600)).await;
    assert_eq!(batch.into_result().unwrap().not_issued, [id(0x1111, 1)]);
}

#[tokio::test]
async fn counting_a_queue() {
    let server = Server::start(|_: &Seen| {
        let headers = [("Buildkite-Agent-Metrics-Poll-Duration", "10")];
        reply(200, &headers, golden("metrics.200.json"))
    })
    .await;
    let counts = server.client().queue_metrics("a&b").await.unwrap();
    assert_eq!(counts.metrics.jobs.scheduled, 12);
    assert_eq!(counts.poll_after, Some(Duration::from_secs(10)));
    assert_eq!(line(&server), "GET /v3/metrics/queue?name=a%26b");
}

#[tokio::test]
async fn nothing_to_do_asks_nothing() {
    let (server, stack) = stack_answering(500, "").await;
    assert!(stack.reserve(&[], Duration::from_secs(1)).await.is_complete());
    assert!(stack.states(&[]).await.is_complete());
    assert!(stack.notify(Vec::new()).await.is_complete());
    assert!(stack.issue_tokens(&[], Duration::from_secs(1)).await.is_complete());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn many_calls_share_a_few_connections() {
    let (server, stack) = stack_answering(200, "job.200.json").await;
    for _ in 0..50 {
        stack.job(id(0x1111, 1)).await.unwrap();
    }
    assert_eq!(server.seen().len(), 50);
    assert_eq!(server.connections(), 1);

    let at_once = (0..600).map(|_| stack.job(id(0x1111, 1)));
    for job in join_all(at_once).await {
        job.unwrap();
    }
    assert!(server.connections() <= 100, "{} connections", server.connections());
}
