//! Each fault that can be asked for befalls what it should, and then ends.

use std::time::{Duration, Instant};

use sandbox::OutageKind;
use serde_json::{Value, json};

use crate::support::{Caller, TOKEN, build, job, start, start_with};
use sandbox::engine::NewStep;

const LIST: &str = "/v3/stacks/a/scheduled-jobs?queue_key=default";

#[tokio::test]
async fn a_status_befalls_a_route_so_many_times() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("a").await;
    let fault = json!({"method": "GET", "route": "/v3/stacks/{key}/scheduled-jobs", "skip": 1,
                       "times": 2, "status": 503, "message": "back soon", "retry_after": 0.5});
    assert_eq!(caller.post("/_sandbox/faults", fault).await.status, 200);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = caller.get(LIST).await;
        if answer.status == 503 {
            assert_eq!(answer.headers["retry-after"], "0.5");
            assert_eq!(answer.body, json!({"message": "back soon"}));
        }
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses, [200, 503, 503, 200]);
    let listed = caller.get("/_sandbox/faults").await.body;
    assert_eq!(listed[0]["times"], json!(0));
    for bad in [json!({"route": ""}), json!({"route": "/x", "status": 42}), json!({"rout": "/"})] {
        assert_eq!(caller.post("/_sandbox/faults", bad).await.status, 422);
    }
}

#[tokio::test]
async fn an_acquire_is_put_off_and_then_granted() {
    let sandbox = start().await;
    let job = job(&sandbox, "true");
    let caller = Caller::new(&sandbox, TOKEN);
    let fault = json!({"route": "/v3/jobs/{id}/acquire", "times": 2, "status": 423,
                       "path_contains": job.to_string()});
    caller.post("/_sandbox/faults", fault).await;
    let session = caller.post("/v3/register", json!({"name": "agent"})).await.body;
    let agent = caller.with(session["access_token"].as_str().unwrap());
    let path = format!("/v3/jobs/{job}/acquire");
    for status in [423, 423, 200, 422] {
        let answer = agent.put(&path, Value::Null).await;
        assert_eq!(answer.status.as_u16(), status);
        if status == 423 {
            assert_eq!(answer.headers["retry-after"], "1");
        }
    }
}

#[tokio::test]
async fn delays_come_before_and_after() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    let fault = json!({"route": "/v3/*", "delay_before_ms": 40, "delay_after_ms": 40});
    caller.post("/_sandbox/faults", fault).await;
    let began = Instant::now();
    assert_eq!(caller.get("/v3/token").await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(80), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_dropped_call_is_not_carried_out() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    let fault = json!({"route": "/v3/stacks/register", "times": 1, "drop": true});
    caller.post("/_sandbox/faults", fault).await;
    let new = json!({"key": "a", "type": "custom", "queue_key": "default", "metadata": {}});
    let lost = caller.call(reqwest::Method::POST, "/v3/stacks/register", new.clone()).await;
    assert!(lost.is_err());
    assert_eq!(caller.post("/v3/stacks/register", new).await.status, 201, "it is a new stack");
}

#[tokio::test]
async fn an_outage_stops_everything_and_ends_by_itself() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    for kind in ["drop", "hang"] {
        let answer = caller.post("/_sandbox/outage", json!({"kind": kind, "seconds": 0.2})).await;
        assert_eq!(answer.status, 200);
        let lost = caller.call(reqwest::Method::GET, "/v3/token", Value::Null).await;
        assert!(lost.is_err(), "{kind}");
        assert_eq!(caller.get("/_sandbox/clock").await.status, 200, "the controls stay in reach");
        sandbox.advance(Duration::from_secs(1));
        assert_eq!(caller.get("/v3/token").await.status, 200, "{kind} is over");
    }
    sandbox.begin_outage(OutageKind::Refuse, Duration::from_secs(100));
    assert_eq!(caller.get("/v3/token").await.status, 503);
    caller.call(reqwest::Method::DELETE, "/_sandbox/faults", Value::Null).await.unwrap();
    assert_eq!(caller.get("/v3/token").await.status, 200);
}

async fn quirks(caller: &Caller, quirks: Value) {
    assert_eq!(caller.put("/_sandbox/quirks", quirks).await.status, 200);
}

fn listed(page: &Value) -> Vec<&Value> {
    page["jobs"].as_array().unwrap().iter().map(|job| &job["id"]).collect()
}

#[tokio::test]
async fn a_listing_can_be_late() {
    let sandbox = start_with(|options| options.rate_limits = false).await;
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("a").await;
    quirks(&caller, json!({"listing_late_ms": 60_000})).await;
    let job = job(&sandbox, "true");
    assert_eq!(caller.get(LIST).await.body["jobs"], json!([]));
    sandbox.advance(Duration::from_secs(60));
    assert_eq!(listed(&caller.get(LIST).await.body), [&json!(job)]);
}

#[tokio::test]
async fn a_listing_can_keep_what_is_reserved() {
    let sandbox = start_with(|options| options.rate_limits = false).await;
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("a").await;
    quirks(&caller, json!({"listing_keeps_reserved_ms": 30_000})).await;
    let job = job(&sandbox, "true");
    caller.token_for("a", job).await;
    assert_eq!(listed(&caller.get(LIST).await.body), [&json!(job)]);
    sandbox.advance(Duration::from_secs(31));
    assert_eq!(caller.get(LIST).await.body["jobs"], json!([]));
}

#[tokio::test]
async fn pages_can_repeat_a_job() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("a").await;
    let (_, jobs) = build(&sandbox, vec![NewStep::command("true"); 3]);
    quirks(&caller, json!({"listing_repeats_over_pages": true})).await;
    let first = caller.get(&format!("{LIST}&limit=2")).await.body;
    let after = first["page_info"]["end_cursor"].as_str().unwrap();
    let second = caller.get(&format!("{LIST}&limit=2&after={after}")).await.body;
    assert_eq!(listed(&first), [&json!(jobs[0]), &json!(jobs[1])]);
    assert_eq!(listed(&second), [&json!(jobs[1]), &json!(jobs[2])]);
}

#[tokio::test]
async fn notifications_and_tokens_can_be_refused() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("a").await;
    let job = job(&sandbox, "true");
    quirks(&caller, json!({"refuse_notifications": 1, "withhold_tokens": 1})).await;
    let note = json!({"job_uuid": job, "detail": "Booting"});
    let notes = json!({"notifications": [note, note]});
    let body = caller.post("/v3/stacks/a/notifications", notes).await.body;
    assert_eq!(body["errors"][0]["indexes"], json!([0]));
    let reserve = json!({"job_uuids": [job]});
    caller.put("/v3/stacks/a/scheduled-jobs/batch-reserve", reserve.clone()).await;
    let path = "/v3/stacks/a/job-acquisition-tokens";
    assert_eq!(caller.post(path, reserve.clone()).await.body["not_issued"], json!([job]));
    assert_eq!(caller.post(path, reserve).await.body["not_issued"], json!([]));
}

#[tokio::test]
async fn a_reset_forgets_everything() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("a").await;
    job(&sandbox, "true");
    sandbox.begin_outage(OutageKind::Drop, Duration::from_secs(100));
    assert_eq!(caller.post("/_sandbox/reset", Value::Null).await.status, 200);
    assert_eq!(caller.get("/_sandbox/builds").await.body, json!([]));
    assert_eq!(caller.get("/_sandbox/requests").await.body, json!([]));
    assert_eq!(caller.get(LIST).await.status, 404, "the stack is gone");
    assert_eq!(caller.get("/v3/token").await.status, 200, "the token is not");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let sandbox = start().await;
    let address: std::net::SocketAddr =
        sandbox.url().strip_prefix("http://").unwrap().parse().unwrap();
    let mut options = sandbox::Options::with_token(TOKEN);
    options.listen = address;
    let error = sandbox::Sandbox::start(options).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_stopped_sandbox_is_gone() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    assert_eq!(caller.get("/v3/token").await.status, 200);
    sandbox.stop().await;
    let after = caller.call(reqwest::Method::GET, "/v3/token", Value::Null).await;
    assert!(after.is_err());
}

#[tokio::test]
async fn a_good_answer_can_ask_for_patience() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("a").await;
    let fault = json!({"route": "/v3/stacks/{key}/scheduled-jobs", "retry_after": 2});
    caller.post("/_sandbox/faults", fault).await;
    let answer = caller.get(LIST).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["retry-after"]),
        (200, &"2".parse().unwrap())
    );
}

#[tokio::test]
async fn a_server_without_a_token_or_a_cluster_does_not_start() {
    let empty = sandbox::Options::with_token("");
    let mut none = sandbox::Options::with_token(TOKEN);
    none.settings.clusters.clear();
    for options in [empty, none] {
        let error = sandbox::Sandbox::start(options).await.unwrap_err();
        assert!(matches!(error, sandbox::StartError::Settings), "{error}");
    }
}
