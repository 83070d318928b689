//! The Stacks API as a dispatcher uses it.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use sandbox::engine::{EventKind, ExitMatch, NewStep, RetryRule, State};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Caller, TOKEN, build, job, start, start_with, step};

fn ids(list: &Value) -> Vec<Uuid> {
    list.as_array().unwrap().iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect()
}

/// Lists pages and reserves all of each until nothing is left.
async fn take_all(stacks: &Caller, key: &str, limit: usize) -> BTreeSet<Uuid> {
    let mut mine = BTreeSet::new();
    loop {
        let path = format!("/v3/stacks/{key}/scheduled-jobs?queue_key=default&limit={limit}");
        let page = stacks.get(&path).await.body;
        let seen: Vec<Value> =
            page["jobs"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect();
        if seen.is_empty() {
            return mine;
        }
        let path = format!("/v3/stacks/{key}/scheduled-jobs/batch-reserve");
        let reply = stacks.put(&path, json!({"job_uuids": seen})).await.body;
        mine.extend(ids(&reply["reserved"]));
        assert_eq!(
            ids(&reply["reserved"]).len() + ids(&reply["not_reserved"]).len(),
            seen.len(),
            "each id is in exactly one list"
        );
    }
}

#[tokio::test]
async fn two_stacks_that_race_for_a_thousand_jobs_share_none() {
    let sandbox = start_with(|options| options.rate_limits = false).await;
    let all = vec![NewStep::command("true"); 1000];
    let (_, jobs) = build(&sandbox, all);
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    stacks.stack("b").await;
    let (a, b) = tokio::join!(take_all(&stacks, "a", 70), take_all(&stacks, "b", 110));
    assert!(!a.is_empty() && !b.is_empty(), "{} and {}", a.len(), b.len());
    assert!(a.is_disjoint(&b));
    assert_eq!(a.union(&b).count(), jobs.len());
}

#[tokio::test]
async fn a_lapsed_reservation_frees_the_job_and_kills_its_token() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let job = job(&sandbox, "true");
    let token = stacks.token_for("a", job).await;
    let early = stacks.with(&token).post("/v3/register", json!({"name": "early"})).await.body;
    let list = "/v3/stacks/a/scheduled-jobs?queue_key=default";
    assert_eq!(stacks.get(list).await.body["jobs"], json!([]), "a reserved job is hidden");

    sandbox.advance(Duration::from_secs(61));
    let listed = stacks.get(list).await.body;
    assert_eq!(listed["jobs"][0]["id"], json!(job));
    let late = stacks.with(&token).post("/v3/register", json!({"name": "late"})).await;
    assert_eq!(late.status, 401);
    let early = stacks.with(early["access_token"].as_str().unwrap());
    let refused = early.put(&format!("/v3/jobs/{job}/acquire"), Value::Null).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    let of = sandbox.engine(|engine, _| engine.job(job).cloned()).unwrap();
    assert!(of.events.iter().any(|event| event.kind == EventKind::ReservedExpired));
    assert_eq!(of.state, State::Scheduled);
}

#[tokio::test]
async fn a_renewed_reservation_does_not_lapse() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let job = job(&sandbox, "true");
    for _ in 0..3 {
        stacks.token_for("a", job).await;
        sandbox.advance(Duration::from_secs(50));
    }
    let of = sandbox.engine(|engine, _| engine.job(job).cloned()).unwrap();
    assert_eq!(of.state, State::Reserved);
    stacks.stack("b").await;
    let path = "/v3/stacks/b/scheduled-jobs/batch-reserve";
    let reply = stacks.put(path, json!({"job_uuids": [job]})).await.body;
    assert_eq!(reply, json!({"reserved": [], "not_reserved": [job]}));
    let path = "/v3/stacks/b/job-acquisition-tokens";
    let reply = stacks.post(path, json!({"job_uuids": [job]})).await.body;
    assert_eq!(reply, json!({"job_acquisition_tokens": [], "not_issued": [job]}));
}

#[tokio::test]
async fn a_paused_queue_says_so_in_both_spellings() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let job = job(&sandbox, "true");
    let list = "/v3/stacks/a/scheduled-jobs?queue_key=_default";
    for (call, paused) in [("pause", true), ("resume", false)] {
        let answer = stacks.post(&format!("/_sandbox/queues/default/{call}"), Value::Null).await;
        assert_eq!(answer.status, 200);
        let body = stacks.get(list).await.body;
        assert_eq!(body["jobs"][0]["id"], json!(job), "it is listed all the same");
        assert_eq!(body["cluster_queue"]["dispatch_paused"], json!(paused));
        assert_eq!(body["cluster_queue"]["paused"], json!(paused));
    }
    let unknown = stacks.post("/_sandbox/queues/nowhere/pause", Value::Null).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn a_stack_ends_a_job_and_the_rules_say_what_follows() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let rule = |limit| RetryRule {
        exit_status: ExitMatch::These(vec![-1]),
        signal: None,
        signal_reason: Some("stack_error".to_owned()),
        limit,
    };
    for limit in [0, 1] {
        let (build, jobs) =
            build(&sandbox, vec![step("true", |new| new.retry = vec![rule(limit)])]);
        let detail = "No machine has memory=900T; the largest has 12T.";
        let path = format!("/v3/stacks/a/jobs/{}/finish", jobs[0]);
        let finish = json!({"exit_status": -1, "detail": detail});
        assert_eq!(stacks.post(&path, finish.clone()).await.status, 200);
        assert_eq!(stacks.post(&path, finish.clone()).await.status, 422, "only once");
        let told = stacks.get(&format!("/_sandbox/jobs/{}", jobs[0])).await.body;
        assert_eq!(told["exit_status"], json!(-1));
        assert_eq!(told["signal_reason"], json!("stack_error"));
        assert_eq!(told["detail"], json!(detail));
        let kinds: Vec<&Value> =
            told["events"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
        assert!(kinds.contains(&&json!("STACK_ERRORED")), "{kinds:?}");
        let after = sandbox.engine(|engine, _| engine.build(build).unwrap().jobs().count());
        assert_eq!(after, 1 + usize::try_from(limit).unwrap());
        if limit == 1 {
            let again = told["retried_in"].as_str().unwrap();
            let path = format!("/v3/stacks/a/jobs/{again}/finish");
            assert_eq!(stacks.post(&path, finish).await.status, 200);
            let after = sandbox.engine(|engine, _| engine.build(build).unwrap().jobs().count());
            assert_eq!(after, 2, "one retry is all that the rule allows");
        }
    }
}

#[tokio::test]
async fn a_stack_ends_a_job_well() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let job = job(&sandbox, "true");
    let path = format!("/v3/stacks/a/jobs/{job}/finish");
    for detail in [String::new(), "x".repeat(4097)] {
        let refused = stacks.post(&path, json!({"exit_status": 0, "detail": detail})).await;
        assert_eq!(refused.status, 422);
    }
    let done = stacks.post(&path, json!({"exit_status": 0, "detail": "nothing to do"})).await;
    assert_eq!(done.status, 200);
    let of = sandbox.engine(|engine, _| engine.job(job).cloned()).unwrap();
    assert!(of.outcome.is_success() && of.outcome.signal_reason.is_none());
}

#[tokio::test]
async fn the_limit_of_a_scope_is_told_and_kept() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    stacks.stack("b").await;
    let list = "/v3/stacks/a/scheduled-jobs?queue_key=default";
    let calls = futures_util::future::join_all((0..15).map(|_| stacks.get(list))).await;
    let (good, refused): (Vec<_>, Vec<_>) = calls.iter().partition(|answer| answer.status == 200);
    assert_eq!((good.len(), refused.len()), (10, 5));
    let header = |name: &str| refused[0].headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("ratelimit-scope"), "list-scheduled-jobs");
    assert_eq!(header("ratelimit-limit"), "10");
    assert_eq!(header("ratelimit-remaining"), "0");
    assert_eq!(header("ratelimit-reset"), "1");
    assert_eq!(header("retry-after"), "1");
    let body = &refused[4].body;
    assert_eq!(body["message"], "Rate limit exceeded, retry in 1 second.");
    assert_eq!((&body["scope"], &body["limit"]), (&json!("list-scheduled-jobs"), &json!(10)));
    assert!(body["current"].as_u64().unwrap() > 10);
    // Another stack and another call have windows of their own.
    let other = "/v3/stacks/b/scheduled-jobs?queue_key=default";
    assert_eq!(stacks.get(other).await.status, 200);
    let states = stacks.post("/v3/stacks/a/jobs/get-states", json!({"job_uuids": []})).await;
    assert_eq!(states.headers["ratelimit-limit"], "20");
    sandbox.advance(Duration::from_secs(1));
    assert_eq!(stacks.get(list).await.status, 200);
    let counts = stacks.get("/_sandbox/requests/counts").await.body;
    assert_eq!(counts["by_scope"]["list-scheduled-jobs"], json!(17));
    assert_eq!(counts["requests"]["GET /v3/stacks/{key}/scheduled-jobs 429"], json!(5));
}

#[tokio::test]
async fn pages_of_ten_thousand_jobs_hold_each_once_in_order() {
    let sandbox = start_with(|options| options.rate_limits = false).await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let made = stacks.post("/_sandbox/jobs", json!({"count": 10_000})).await;
    assert_eq!(made.status, 201);
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let path =
            format!("/v3/stacks/a/scheduled-jobs?queue_key=default&limit=1000&after={after}");
        let page = stacks.get(&path).await.body;
        seen.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["id"].clone()));
        if page["page_info"]["has_next_page"] == json!(false) {
            assert_eq!(page["page_info"]["end_cursor"], Value::Null);
            break;
        }
        page["page_info"]["end_cursor"].as_str().unwrap().clone_into(&mut after);
    }
    assert_eq!(json!(seen), made.body["jobs"]);
}

#[tokio::test]
async fn notifications_are_stored_or_refused_one_by_one() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let job = job(&sandbox, "true");
    let item = |detail: &str| json!({"job_uuid": job, "detail": detail});
    let mut unknown = item("unknown");
    unknown["job_uuid"] = json!(Uuid::nil());
    let mut future = item("future");
    future["timestamp"] = json!(sandbox.now() + Duration::from_secs(60));
    let items = [item("Booting"), item(""), unknown, future, item(&"x".repeat(257))];
    let path = "/v3/stacks/a/notifications";
    let body = stacks.post(path, json!({"notifications": items})).await.body;
    let mut refused: Vec<u64> = Vec::new();
    for error in body["errors"].as_array().unwrap() {
        refused.extend(error["indexes"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap()));
    }
    refused.sort_unstable();
    assert_eq!(refused, [1, 2, 3, 4]);
    let many: Vec<Value> = (0..120).map(|at| item(&format!("step {at}"))).collect();
    let body = stacks.post(path, json!({"notifications": many})).await.body;
    assert_eq!(body["errors"][0]["indexes"].as_array().unwrap().len(), 21);
    let of = sandbox.engine(|engine, _| engine.job(job).cloned()).unwrap();
    assert_eq!(of.notifications.len(), 100);
    assert_eq!(of.notifications[0].detail, "Booting");
    sandbox.engine(|engine, now| engine.cancel_job(job, now)).unwrap();
    sandbox.advance(Duration::from_secs(301));
    let body = stacks.post(path, json!({"notifications": [item("late")]})).await.body;
    assert_eq!(body["errors"][0]["indexes"], json!([0]));
}

#[tokio::test]
async fn bad_calls_are_told_what_is_wrong() {
    let sandbox = start_with(|options| options.rate_limits = false).await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let register = "/v3/stacks/register";
    let new = |key: &str, kind: &str, queue: &str| json!({"key": key, "type": kind, "queue_key": queue, "metadata": {}});
    let many: serde_json::Map<String, Value> =
        (0..101).map(|at| (format!("k{at}"), json!("v"))).collect();
    let ids = vec![Uuid::nil(); 1001];
    let reserve = "/v3/stacks/a/scheduled-jobs/batch-reserve";
    let list = "/v3/stacks/a/scheduled-jobs";
    let cases: Vec<(Method, String, Value, u16, &str)> = vec![
        (Method::POST, register.into(), new("a b", "custom", "default"), 422, "key"),
        (Method::POST, register.into(), new("c", "other", "default"), 422, "type"),
        (Method::POST, register.into(), new("c", "custom", "nowhere"), 404, "nowhere"),
        (Method::POST, register.into(), json!({"key": "c"}), 422, "type"),
        (
            Method::POST,
            register.into(),
            json!({"key": "c", "type": "custom", "queue_key": "default", "metadata": many}),
            422,
            "metadata",
        ),
        (Method::GET, list.into(), Value::Null, 400, "queue_key"),
        (Method::GET, format!("{list}?queue_key=default&limit=0"), Value::Null, 400, "limit"),
        (Method::GET, format!("{list}?queue_key=default&limit=1001"), Value::Null, 400, "limit"),
        (Method::GET, format!("{list}?queue_key=default&limit=x"), Value::Null, 400, "limit"),
        (Method::GET, format!("{list}?queue_key=default&after=x"), Value::Null, 400, "cursor"),
        (Method::GET, format!("{list}?queue_key=nowhere"), Value::Null, 404, "nowhere"),
        (
            Method::GET,
            "/v3/stacks/b/scheduled-jobs?queue_key=default".into(),
            Value::Null,
            404,
            "b",
        ),
        (Method::PUT, reserve.into(), json!({"job_uuids": ids}), 422, "1001"),
        (
            Method::PUT,
            reserve.into(),
            json!({"job_uuids": [], "reservation_expiry_seconds": 3601}),
            422,
            "3601",
        ),
        (Method::PUT, reserve.into(), json!({"job_uuids": ["x"]}), 422, "body"),
        (Method::GET, format!("/v3/stacks/a/jobs/{}", Uuid::nil()), Value::Null, 404, "no job"),
        (Method::GET, "/v3/stacks/a/jobs/x".into(), Value::Null, 404, "UUID"),
        (Method::POST, "/v3/stacks/b/deregister".into(), Value::Null, 404, "b"),
        (Method::GET, "/v3/nowhere".into(), Value::Null, 404, "/v3/nowhere"),
        (Method::DELETE, register.into(), Value::Null, 405, "DELETE"),
    ];
    for (method, path, body, status, names) in cases {
        let answer = stacks.call(method.clone(), &path, body).await.unwrap();
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {message}");
        assert!(message.contains(names), "{method} {path}: {message}");
    }
}

#[tokio::test]
async fn stacks_have_a_quota_and_leave_room_behind_them() {
    let sandbox = start_with(|options| {
        options.rate_limits = false;
        options.settings.stack_quota = 2;
    })
    .await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    stacks.stack("b").await;
    let new = json!({"key": "c", "type": "custom", "queue_key": "~", "metadata": {}});
    assert_eq!(stacks.post("/v3/stacks/register", new.clone()).await.status, 403);
    let gone = stacks.post("/v3/stacks/b/deregister", Value::Null).await;
    assert_eq!((gone.status.as_u16(), gone.body), (204, Value::Null));
    let made = stacks.post("/v3/stacks/register", new.clone()).await;
    assert_eq!((made.status.as_u16(), &made.body["cluster_queue_key"]), (201, &json!("default")));
    assert_eq!(stacks.post("/v3/stacks/register", new).await.status, 200);
}

#[tokio::test]
async fn an_unclustered_token_sees_counts_and_has_no_stacks() {
    let sandbox =
        start_with(|options| options.settings.unclustered_token = Some("bkar_old".into())).await;
    let old = Caller::new(&sandbox, "bkar_old");
    let identity = old.get("/v3/token").await.body;
    assert_eq!(identity["cluster_uuid"], json!(""));
    let new = json!({"key": "a", "type": "custom", "queue_key": "default", "metadata": {}});
    let refused = old.post("/v3/stacks/register", new).await;
    assert_eq!(refused.status, 403);
    let message = refused.body["message"].as_str().unwrap();
    assert!(message.contains("unclustered"), "{message}");
    let metrics = old.get("/v3/metrics").await;
    assert_eq!(metrics.body["organization"]["slug"], json!("demo"));
    assert_eq!(metrics.headers["buildkite-agent-metrics-poll-duration"], "1");
}

#[tokio::test]
async fn an_organisation_without_job_tokens_says_so() {
    let sandbox = start_with(|options| options.settings.job_tokens = false).await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let path = "/v3/stacks/a/job-acquisition-tokens";
    assert_eq!(stacks.post(path, json!({"job_uuids": []})).await.status, 404);
}
