//! The REST client: what it sends, what each failure leaves to do, and its two limits.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::Response;
use buildkite::rest::wire::NewAnnotation;
use buildkite::{Options, Remedy, RestClient};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::golden::id;
use crate::server::{Seen, Server, fixed, golden, golden_json, options, raw, reply};

const TOKEN: &str = "bkua_PLANTED-0123456789";

fn rest(endpoint: &str) -> RestClient {
    let options = Options { token: fixed(TOKEN), ..options(endpoint) };
    RestClient::new(options, "de.mo").expect("plain options")
}

async fn answering(status: u16, file: &'static str) -> (Server, RestClient) {
    let server = Server::start(move |_: &Seen| reply(status, &[], golden(file))).await;
    let client = rest(&server.endpoint);
    (server, client)
}

fn line(server: &Server) -> String {
    let seen = server.only();
    assert_eq!(seen.header("authorization"), format!("Bearer {TOKEN}"));
    assert_eq!(seen.header("accept"), "application/json");
    format!("{} {}", seen.method, seen.uri)
}

#[tokio::test]
async fn whose_token_it_is() {
    let (server, client) = answering(200, "rest.access-token.200.json").await;
    let token = client.access_token().await.unwrap();
    assert!(token.may("read_builds"));
    assert_eq!(line(&server), "GET /v3/access-token");
}

#[tokio::test]
async fn looking_up_a_job_shows_what_became_of_it() {
    let (server, client) = answering(200, "rest.job.retried.200.json").await;
    let job = client.job(id(0x1111, 1)).await.unwrap();
    assert_eq!((job.state.as_str(), job.exit_status), ("failed", Some(-1)));
    assert_eq!(job.retried_in_job_id, Some(id(0x1111, 2)));
    let path = format!("/v3/organizations/de%2Emo/jobs/{}", id(0x1111, 1));
    assert_eq!(line(&server), format!("GET {path}"));
    assert!(!format!("{job:?}").contains("make test"), "a command is not printed");
    let (_server, client) = answering(404, "rest.job.404.json").await;
    let error = client.job(id(0x1111, 1)).await.unwrap_err();
    assert_eq!(error.remedy, Remedy::Gone);
    assert_eq!(error.to_string(), "look the job up: No job found (HTTP 404)");
}

#[tokio::test]
async fn a_retry_is_a_new_job() {
    let (server, client) = answering(200, "rest.retry.200.json").await;
    let new = client.retry_job(id(0x1111, 1)).await.unwrap();
    assert_eq!(new.id, id(0x1111, 2));
    assert_eq!(new.retry_source.map(|of| of.job_id), Some(id(0x1111, 1)));
    let path = format!("/v3/organizations/de%2Emo/jobs/{}/retry", id(0x1111, 1));
    assert_eq!(line(&server), format!("PUT {path}"));
    assert_eq!(server.only().header("content-length"), "0");
}

#[tokio::test]
async fn a_retry_that_is_refused_says_why_and_whether_to_ask_again() {
    for (status, file, remedy) in [
        (400, "rest.retry.400.json", Remedy::Never),
        (422, "rest.retry.422.json", Remedy::Never),
        (404, "rest.job.404.json", Remedy::Gone),
        (401, "error.401.json", Remedy::Unauthorized),
        (403, "error.403.json", Remedy::Forbidden),
        (503, "error.503.json", Remedy::Retry),
    ] {
        let (server, client) = answering(status, file).await;
        let error = client.retry_job(id(0x1111, 1)).await.unwrap_err();
        assert_eq!((error.remedy, error.status), (remedy, Some(status)), "{error}");
        assert_eq!(error.message, golden_json(file)["message"], "{file}");
        assert_eq!(server.seen().len(), 1, "it is asked once");
    }
}

#[tokio::test]
async fn a_retry_whose_reply_was_lost_may_have_been_done() {
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"id\":"] {
        let (endpoint, requests, task) = raw(bytes).await;
        let client = rest(&endpoint);
        let error = client.retry_job(id(0x1111, 1)).await.unwrap_err();
        assert_eq!(error.remedy, Remedy::Unknown, "{error}");
        let error = client.job(id(0x1111, 1)).await.unwrap_err();
        assert_eq!(error.remedy, Remedy::Retry, "a look changes nothing: {error}");
        assert_eq!(requests.lock().unwrap().len(), 2);
        task.abort();
    }
    let server = Server::start(|_: &Seen| reply(502, &[], "<html>Bad Gateway</html>")).await;
    let error = rest(&server.endpoint).retry_job(id(0x1111, 1)).await.unwrap_err();
    assert_eq!(error.remedy, Remedy::Unknown, "{error}");
}

#[tokio::test]
async fn annotating() {
    let request = golden_json("rest.annotate.request.json");
    let new: NewAnnotation = serde_json::from_value(request.clone()).unwrap();
    let (server, client) = answering(201, "rest.annotate.job.201.json").await;
    let made = client.annotate_job(id(0x1111, 1), &new).await.unwrap();
    assert_eq!((made.scope.as_str(), made.job_id), ("job", Some(id(0x1111, 1))));
    let path = format!("/v3/organizations/de%2Emo/jobs/{}/annotations", id(0x1111, 1));
    assert_eq!(line(&server), format!("POST {path}"));
    assert_eq!(server.only().json(), request);

    let (server, client) = answering(201, "rest.annotate.build.201.json").await;
    let long = NewAnnotation { body: "ü".repeat(1 << 20), ..new };
    let made = client.annotate_build("we b", 4711, &long).await.unwrap();
    assert_eq!((made.scope.as_str(), made.job_id), ("build", None));
    let path = "/v3/organizations/de%2Emo/pipelines/we%20b/builds/4711/annotations";
    assert_eq!(line(&server), format!("POST {path}"));
    let sent = server.only().json()["body"].as_str().unwrap().to_owned();
    assert!(sent.len() <= 1 << 20 && sent.ends_with("ü…"), "{} bytes", sent.len());
}

#[tokio::test]
async fn the_token_shows_nowhere() {
    let server = Server::start(|seen: &Seen| {
        let echo = seen.header("authorization");
        reply(422, &[], format!(r#"{{"message":"bad: {echo}"}}"#))
    })
    .await;
    let client = rest(&server.endpoint);
    let error = client.access_token().await.unwrap_err();
    assert_eq!(error.message, "bad: Bearer [redacted]");
    assert!(!format!("{client:?} {error:?}").contains("PLANTED"));
}

/// Counts as Buildkite does: minutes that are forgotten as a whole, for the user and for the
/// organisation, of which others have used `others` already.
fn two_limits(user: u32, organization: u32, others: u32) -> impl Fn(&Seen) -> Response {
    let begun = Mutex::new((Instant::now(), 0_u32, others));
    move |_: &Seen| {
        let mut window = begun.lock().unwrap();
        while window.0.elapsed() >= Duration::from_secs(60) {
            *window = (window.0 + Duration::from_secs(60), 0, others);
        }
        let reset = (60 - window.0.elapsed().as_secs()).to_string();
        let refused = window.1 >= user || window.2 >= organization;
        if !refused {
            window.1 += 1;
            window.2 += 1;
        }
        let left = [organization.saturating_sub(window.2), user.saturating_sub(window.1)];
        let [organization_left, user_left] = left.map(|left| left.to_string());
        let limits = [organization, user].map(|limit| limit.to_string());
        let headers = [
            ("RateLimit-Scope", "rest"),
            ("RateLimit-Limit", &limits[0]),
            ("RateLimit-Remaining", &organization_left),
            ("RateLimit-Reset", &reset),
            ("RateLimit-User-Scope", "rest_user"),
            ("RateLimit-User-Limit", &limits[1]),
            ("RateLimit-User-Remaining", &user_left),
            ("RateLimit-User-Reset", &reset),
        ];
        let file = if refused { "rest.429.json" } else { "rest.access-token.200.json" };
        reply(if refused { 429 } else { 200 }, &headers, golden(file))
    }
}

/// How long so many calls take one after the other, none of which may be refused.
async fn seconds_for(
    calls: usize,
    server: impl Fn(&Seen) -> Response + Send + Sync + 'static,
) -> u64 {
    let server = Server::start(server).await;
    let client = rest(&server.endpoint);
    let started = Instant::now();
    for _ in 0..calls {
        client.access_token().await.expect("the server has nothing to refuse");
    }
    started.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn whichever_limit_runs_out_first_is_kept() {
    assert_eq!(seconds_for(50, two_limits(50, 200, 0)).await, 0);
    let user = seconds_for(60, two_limits(50, 200, 0)).await;
    assert!((59..65).contains(&user), "the user's: {user} s");
    let organization = seconds_for(30, two_limits(50, 200, 180)).await;
    assert!((59..65).contains(&organization), "the organisation's: {organization} s");
    let raised = seconds_for(60, two_limits(500, 2_000, 0)).await;
    assert_eq!(raised, 0, "a raised quota is used");
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_never_refused() {
    let server = Server::start(two_limits(50, 200, 0)).await;
    let client = rest(&server.endpoint);
    let started = Instant::now();
    for token in join_all((0..120).map(|_| client.access_token())).await {
        token.expect("the server has nothing to refuse");
    }
    let took = started.elapsed().as_secs();
    assert!((120..130).contains(&took), "{took} s");
}

#[tokio::test]
async fn a_429_holds_all_calls_for_as_long_as_the_limit_that_refused_says() {
    let organization = [("RateLimit-Remaining", "3"), ("RateLimit-Reset", "9")];
    let user = [("RateLimit-User-Remaining", "0"), ("RateLimit-User-Reset", "30")];
    let both = [organization, user].concat();
    let with_retry_after = [&both[..], &[("Retry-After", "12")]].concat();
    let bare = r#"{"message":"slow down"}"#;
    let told = r#"{"message":"slow down","scope":"rest_user","reset":42}"#;
    for (headers, body, waits) in [
        (both.clone(), told, 42),
        (both, bare, 30),
        (with_retry_after, told, 12),
        (organization.to_vec(), bare, 9),
        (Vec::new(), bare, 1),
    ] {
        let server = Server::start(move |_: &Seen| reply(429, &headers, body)).await;
        let client = Arc::new(rest(&server.endpoint));
        let error = client.retry_job(id(0x1111, 1)).await.unwrap_err();
        assert_eq!(error.remedy, Remedy::Retry);
        assert_eq!(error.retry_after, Some(Duration::from_secs(waits)), "{error}");
        let left = client.clone().not_before();
        let expected = Duration::from_secs(waits);
        assert!(left <= expected && left + Duration::from_secs(1) > expected, "{left:?}");
    }
}
