//! Jobs and builds by the REST API: the client's calls, and each refusal that is documented.

use buildkite::rest::wire::Job as Shown;
use buildkite::{Options, Remedy, RestClient, TokenSource};
use sandbox::engine::{AgentFinish, NewApiToken, NewStep, Outcome, State};
use sandbox::{Fault, Sandbox};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::golden::check;
use crate::support::{Answer, Caller, TOKEN, build, job, start_with};

pub(crate) const API: &str = "bkua_all";
pub(crate) const JOBS: &str = "/v2/organizations/demo/jobs";
const BUILDS: &str = "/v2/organizations/demo/pipelines/web/builds";

pub(crate) async fn start() -> Sandbox {
    start_with(|options| options.settings.api_tokens = vec![NewApiToken::with_all_scopes(API)])
        .await
}

fn client(sandbox: &Sandbox) -> RestClient {
    let token = TokenSource::Fixed(API.to_owned().into());
    RestClient::new(Options::new(sandbox.api_endpoint(), token), "demo").unwrap()
}

/// An agent takes the job, and the job ends so.
pub(crate) async fn finish(sandbox: &Sandbox, job: Uuid, exit_status: i32) -> Caller {
    let agents = Caller::new(sandbox, TOKEN);
    let new = json!({"name": "jit-1", "hostname": "host-1", "version": "3.137.0"});
    let agent = agents.post("/v3/register", new).await.body;
    let session = agents.with(agent["access_token"].as_str().unwrap());
    session.post("/v3/connect", Value::Null).await;
    let acquired = session.put(&format!("/v3/jobs/{job}/acquire"), Value::Null).await;
    assert_eq!(acquired.status, 200, "{}", acquired.body);
    session.put(&format!("/v3/jobs/{job}/start"), json!({})).await;
    let outcome = Outcome { exit_status: Some(exit_status), ..Outcome::default() };
    let end = AgentFinish { outcome, chunks_failed_count: 0 };
    sandbox.engine(|engine, now| engine.finish(job, end, now)).unwrap();
    session
}

#[track_caller]
fn refused(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
}

#[tokio::test]
async fn a_job_that_was_lost_is_retried_once_and_both_know_of_each_other() {
    let sandbox = start().await;
    let (lost, client) = (job(&sandbox, "make test"), client(&sandbox));
    assert_eq!(client.job(lost).await.unwrap().state, "scheduled");
    finish(&sandbox, lost, -1).await;
    let before = client.job(lost).await.unwrap();
    assert_eq!((before.state.as_str(), before.exit_status), ("failed", Some(-1)));
    assert_eq!((before.retried, before.retried_in_job_id), (false, None));

    let again = client.retry_job(lost).await.unwrap();
    assert_ne!(again.id, lost);
    let source = again.retry_source.clone().unwrap();
    assert_eq!((source.job_id, source.retry_type.as_str()), (lost, "manual"));
    assert_eq!((again.state.as_str(), again.retries_count), ("scheduled", Some(1)));
    let after = client.job(lost).await.unwrap();
    assert_eq!(after.retried_in_job_id, Some(again.id));
    assert_eq!((after.retried, after.retry_type.as_deref()), (true, Some("manual")));

    let refused = client.retry_job(lost).await.unwrap_err();
    assert_eq!((refused.remedy, refused.status), (Remedy::Never, Some(422)), "{refused}");
    let nobody = client.job(Uuid::nil()).await.unwrap_err();
    assert_eq!(nobody.remedy, Remedy::Gone, "{nobody}");
    let caller = Caller::rest(&sandbox, API);
    check("rest.job.retried.200", &caller.get(&format!("{JOBS}/{lost}")).await.body);
    check("rest.job.404", &caller.get(&format!("{JOBS}/{}", Uuid::nil())).await.body);
    check("rest.retry.200", &caller.get(&format!("{JOBS}/{}", again.id)).await.body);
    check("rest.access-token.200", &caller.get("/v2/access-token").await.body);
}

#[tokio::test]
async fn a_retry_whose_reply_was_lost_is_found_by_looking() {
    let sandbox = start().await;
    let (lost, client) = (job(&sandbox, "make test"), client(&sandbox));
    finish(&sandbox, lost, -1).await;
    sandbox.add_fault(Fault {
        method: Some("PUT".to_owned()),
        route: "/v2/organizations/{organization}/jobs/{job}/retry".to_owned(),
        times: Some(1),
        lose_reply: true,
        ..Fault::default()
    });
    let error = client.retry_job(lost).await.unwrap_err();
    assert_eq!(error.remedy, Remedy::Unknown, "{error}");
    let again = client.job(lost).await.unwrap().retried_in_job_id.expect("it was done");
    assert_eq!(sandbox.engine(|engine, _| engine.job(again).unwrap().retry_of), Some(lost));
    let refused = client.retry_job(lost).await.unwrap_err();
    assert!(refused.message.contains(&again.to_string()), "{refused}");
    sandbox.add_fault(Fault { route: "/v2/*".to_owned(), status: Some(500), ..Fault::default() });
    assert_eq!(client.retry_job(again).await.unwrap_err().remedy, Remedy::Unknown);
    let kinds: Vec<&str> = sandbox.requests().iter().map(|request| request.token).collect();
    assert!(kinds.ends_with(&["api", "api", "api", "api"]), "{kinds:?}");
}

#[tokio::test]
async fn a_rule_of_the_step_makes_an_automatic_retry() {
    let sandbox = start().await;
    let yaml = "steps: [{command: x, retry: {automatic: {exit_status: 7, limit: 1}}}]";
    let made = Caller::new(&sandbox, TOKEN).post("/_sandbox/builds", json!({"yaml": yaml})).await;
    let first: Uuid = serde_json::from_value(made.body["jobs"][0].clone()).unwrap();
    finish(&sandbox, first, 7).await;
    let shown = client(&sandbox).job(first).await.unwrap();
    assert_eq!(shown.retry_type.as_deref(), Some("automatic"));
    let again = client(&sandbox).job(shown.retried_in_job_id.unwrap()).await.unwrap();
    assert_eq!(again.retry_source.unwrap().retry_type, "automatic");
}

#[tokio::test]
async fn what_cannot_be_retried_is_refused_in_buildkites_words() {
    let sandbox = start().await;
    let caller = Caller::rest(&sandbox, API);
    let retry = async |job: Uuid| caller.put(&format!("{JOBS}/{job}/retry"), Value::Null).await;
    let only = "Only failed, timed out or canceled jobs can be retried";
    let waits = job(&sandbox, "true");
    check("rest.retry.400", &retry(waits).await.body);
    refused(&retry(waits).await, 400, only);
    finish(&sandbox, waits, 0).await;
    refused(&retry(waits).await, 400, only);
    refused(&retry(Uuid::nil()).await, 404, "No job found");

    let (id, jobs) = build(&sandbox, vec![NewStep::command("a"), NewStep::command("b")]);
    sandbox.engine(|engine, now| engine.cancel_build(id, now)).unwrap();
    let answer = retry(jobs[0]).await;
    check("rest.retry.422", &answer.body);
    refused(&answer, 422, "Jobs from canceled builds cannot be retried");

    let alone = job(&sandbox, "true");
    sandbox.engine(|engine, now| engine.cancel_job(alone, now)).unwrap();
    assert_eq!(retry(alone).await.status, 200, "a cancelled job of a build that goes on");
}

#[tokio::test]
async fn who_may_call_and_where() {
    let sandbox = start().await;
    let waits = job(&sandbox, "true");
    let (rest, tokens) = (Caller::rest(&sandbox, API), Caller::new(&sandbox, TOKEN));
    let path = format!("{JOBS}/{waits}");
    refused(&rest.with("bkua_other").get(&path).await, 401, "is not known");
    refused(&rest.with(TOKEN).get(&path).await, 401, "is not known");
    refused(&tokens.with(API).get(&path).await, 401, "Authorization: Bearer");
    refused(&rest.get("/v3/token").await, 401, "Authorization: Token");
    refused(&rest.get(&path.replace("demo", "other")).await, 404, "No organization found");
    refused(&rest.get("/v2/organizations/demo/nothing").await, 404, "nothing is at");
    refused(&rest.post(&path, Value::Null).await, 405, "does not take POST");

    let one = async |scope: &str| {
        let new = json!({"scopes": [scope], "user": scope});
        let issued = tokens.post("/_sandbox/access-tokens", new).await;
        assert_eq!(issued.status, 201, "{}", issued.body);
        rest.with(issued.body["token"].as_str().unwrap())
    };
    let reader = one("read_builds").await;
    assert_eq!(reader.get(&path).await.status, 200);
    for (method, rest_of_path, scope) in [
        ("PUT", "/retry", "write_builds"),
        ("GET", "/env", "read_job_env"),
        ("GET", "/log", "read_build_logs"),
        ("GET", "/log.txt", "read_build_logs"),
        ("POST", "/annotations", "write_builds"),
    ] {
        let method: reqwest::Method = method.parse().unwrap();
        let answer = reader.call(method, &format!("{path}{rest_of_path}"), json!({})).await;
        refused(&answer.unwrap(), 403, scope);
    }
    let agents = "/v2/organizations/demo/agents";
    refused(&reader.get(agents).await, 403, "read_agents");
    let stop = format!("{agents}/{}/stop", Uuid::nil());
    refused(&reader.put(&stop, Value::Null).await, 403, "write_agents");
    refused(&one("write_builds").await.get(&path).await, 403, "read_builds");
    assert_eq!(one("read_job_env").await.get(&format!("{path}/env")).await.status, 200);
}

#[tokio::test]
async fn tokens_are_issued_shown_and_revoked() {
    let sandbox = start().await;
    let controls = Caller::new(&sandbox, TOKEN);
    let issue = async |new: Value| controls.post("/_sandbox/access-tokens", new).await;
    refused(&issue(json!({"scopes": ["read_minds"]})).await, 422, "take some of read_agents");
    let named = json!({"token": "bkua_kim", "user": "Kim", "description": "mine"});
    assert_eq!(issue(named.clone()).await.body["token"], "bkua_kim");
    refused(&issue(named).await, 422, "was issued before");
    let kim = Caller::rest(&sandbox, "bkua_kim");
    let shown = kim.get("/v2/access-token").await.body;
    assert_eq!((&shown["user"]["name"], &shown["description"]), (&json!("Kim"), &json!("mine")));
    let call = kim.call(reqwest::Method::DELETE, "/v2/access-token", Value::Null).await.unwrap();
    assert_eq!(call.status, 204);
    refused(&kim.get("/v2/access-token").await, 401, "is not known");
    assert_eq!(Caller::rest(&sandbox, API).get("/v2/access-token").await.status, 200);
    let all = NewApiToken::with_all_scopes;
    for (bad, words) in [
        (NewApiToken { scopes: vec!["x".to_owned()], ..all("t") }, "there is no scope \"x\""),
        (all(""), "an API token cannot be issued: it is empty"),
    ] {
        let mut options = sandbox::Options::with_token(TOKEN);
        options.settings.api_tokens = vec![bad];
        let error = Sandbox::start(options).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn the_jobs_of_a_build_are_listed_page_by_page() {
    let sandbox = start().await;
    let (_, jobs) = build(&sandbox, vec![NewStep::command("true"); 5]);
    finish(&sandbox, jobs[1], 1).await;
    finish(&sandbox, jobs[3], 0).await;
    let caller = Caller::rest(&sandbox, API);
    let retried = caller.put(&format!("{BUILDS}/1/jobs/{}/retry", jobs[1]), Value::Null).await;
    let again: Shown = serde_json::from_value(retried.body).unwrap();
    let ids = |page: &Value| -> Vec<Uuid> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|job| job["id"].as_str().unwrap().parse().unwrap()).collect()
    };
    let mut found = Vec::new();
    let mut next = Some(format!("{BUILDS}/1/jobs?per_page=4"));
    while let Some(path) = next {
        let page = caller.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.body);
        found.extend(ids(&page.body));
        let link = page.body["links"]["next"].as_str();
        next = link.map(|link| link.strip_prefix(sandbox.url()).unwrap().to_owned());
    }
    assert_eq!(found, [jobs[0], jobs[1], again.id, jobs[2], jobs[3], jobs[4]]);
    let list = async |query: &str| caller.get(&format!("{BUILDS}/1/jobs?{query}")).await;
    assert_eq!(ids(&list("state[]=failed&state[]=passed").await.body), [jobs[1], jobs[3]]);
    let latest = list("include_retried_jobs=false").await.body;
    assert_eq!(ids(&latest), [jobs[0], again.id, jobs[2], jobs[3], jobs[4]]);
    refused(&list("state[]=finished").await, 400, "\"finished\" is none of");
    refused(&list("per_page=101").await, 400, "per_page must be at most 100");
    refused(&list("per_page=0").await, 400, "per_page must be a positive integer");
    refused(&list("after=nobody").await, 400, "after is no cursor");
    refused(&list("before=x").await, 400, "before is not played");
    let other = job(&sandbox, "true");
    refused(&caller.get(&format!("{BUILDS}/1/jobs/{other}")).await, 404, "No job found");
    refused(&caller.get(&format!("{BUILDS}/9/jobs")).await, 404, "No build found");
    assert_eq!(caller.get(&format!("{BUILDS}/2/jobs/{other}")).await.status, 200);
}

#[tokio::test]
async fn builds_are_listed_and_cancelled() {
    let sandbox = start().await;
    for _ in 0..3 {
        job(&sandbox, "true");
    }
    let caller = Caller::rest(&sandbox, API);
    let all = "/v2/organizations/demo/builds";
    let page = caller.get(&format!("{all}?per_page=2&state[]=scheduled")).await;
    let numbers: Vec<u64> =
        page.body.as_array().unwrap().iter().map(|b| b["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 2], "the newest first");
    let link = page.headers["link"].to_str().unwrap();
    let next = link.split(['<', '>']).nth(1).unwrap().strip_prefix(sandbox.url()).unwrap();
    assert!(link.contains("rel=\"next\"") && next.contains("state[]=scheduled"), "{link}");
    assert_eq!(caller.get(next).await.body[0]["number"], 1);
    assert_eq!(caller.get(&format!("{BUILDS}?branch=other")).await.body, json!([]));
    let elsewhere = caller.get("/v2/organizations/demo/pipelines/other/builds").await;
    assert_eq!(elsewhere.body, json!([]));
    refused(&caller.get(&format!("{all}?state=x")).await, 400, "\"x\" is none of");
    refused(&caller.get(&format!("{all}?page=0")).await, 400, "page must be a positive integer");

    let cancel = async || caller.put(&format!("{BUILDS}/2/cancel"), Value::Null).await;
    assert_eq!(cancel().await.body["state"], "canceled");
    refused(&cancel().await, 422, "already finished");
    assert_eq!(caller.get(&format!("{BUILDS}/2")).await.body["jobs"][0]["state"], "canceled");
}

#[tokio::test]
async fn a_build_says_of_what_it_is_and_who_asked_for_it() {
    let sandbox = start().await;
    let new = json!({"pipeline": "web", "yaml": "steps: [{command: x}]",
        "author": {"name": "Kim", "email": "kim@example.com"},
        "pull_request_id": 7, "pull_request_repository": "https://example.com/fork.git"});
    let made = Caller::new(&sandbox, TOKEN).post("/_sandbox/builds", new).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let shown = Caller::rest(&sandbox, API).get(&format!("{BUILDS}/1")).await.body;
    assert_eq!(shown["author"]["email"], "kim@example.com");
    assert_eq!(shown["pull_request"]["id"], "7", "a text, as Buildkite has it");
    assert_eq!(shown["pull_request"]["repository"], "https://example.com/fork.git");
}

#[tokio::test]
async fn a_jobs_environment_log_and_priority() {
    let sandbox = start().await;
    let waits = job(&sandbox, "make test");
    let session = finish(&sandbox, waits, 0).await;
    let chunk = format!("/v3/jobs/{waits}/chunks?sequence=1&offset=0");
    assert_eq!(session.post_with(&chunk, &[], json!("hello")).await, 200);
    let caller = Caller::rest(&sandbox, API);
    let env = caller.get(&format!("{JOBS}/{waits}/env")).await.body;
    assert_eq!(env["env"]["BUILDKITE_COMMAND"], "make test");
    let log = caller.get(&format!("{JOBS}/{waits}/log")).await.body;
    assert_eq!((&log["content"], &log["size"]), (&json!("\"hello\""), &json!(7)));
    assert_eq!(caller.get(&format!("{JOBS}/{waits}/log.txt")).await.body, json!("hello"));

    let other = job(&sandbox, "true");
    let to = async |job: Uuid, priority: Value| {
        let path = format!("{JOBS}/{job}/reprioritize");
        caller.put(&path, json!({"priority": priority})).await
    };
    assert_eq!(to(other, json!(7)).await.body["priority"]["number"], 7);
    assert_eq!(sandbox.engine(|engine, _| engine.job(other).unwrap().command.priority), 7);
    refused(&to(other, json!("high")).await, 400, "Priority must be an integer");
    refused(&to(waits, json!(7)).await, 422, "it is finished");
}

#[tokio::test]
async fn a_block_step_is_a_job_that_can_be_unblocked() {
    let sandbox = start().await;
    let yaml = "steps: [{command: a, key: a}, {block: Deploy, depends_on: []}, {command: b}]";
    let new = json!({"yaml": yaml, "pipeline": "web"});
    Caller::new(&sandbox, TOKEN).post("/_sandbox/builds", new).await;
    let caller = Caller::rest(&sandbox, API);
    let jobs = caller.get(&format!("{BUILDS}/1")).await.body["jobs"].clone();
    let (command, held) = (jobs[0]["id"].as_str().unwrap(), jobs[1]["id"].as_str().unwrap());
    assert_eq!((&jobs[1]["type"], &jobs[1]["state"]), (&json!("manual"), &json!("blocked")));
    let unblock =
        async |id: &str, body: Value| caller.put(&format!("{JOBS}/{id}/unblock"), body).await;
    refused(&unblock(command, Value::Null).await, 400, "This job type cannot be unblocked");
    refused(&unblock(held, json!({"fields": {"a": "b"}})).await, 422, "there is no field \"a\"");
    let answer = unblock(held, json!({})).await;
    assert_eq!(
        (&answer.body["state"], &answer.body["unblockable"]),
        (&json!("unblocked"), &json!(false))
    );
    refused(&unblock(held, json!({})).await, 422, "not blocked");
    let retry = caller.put(&format!("{JOBS}/{held}/retry"), Value::Null).await;
    refused(&retry, 404, "No job found");
    let behind: Uuid = jobs[2]["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(sandbox.engine(|engine, _| engine.job(behind).unwrap().state), State::Scheduled);
    Caller::new(&sandbox, TOKEN)
        .post("/_sandbox/builds", json!({"yaml": yaml, "pipeline": "web"}))
        .await;
    let held = caller.get(&format!("{BUILDS}/2")).await.body["jobs"][1]["id"].clone();
    caller.put(&format!("{BUILDS}/2/cancel"), Value::Null).await;
    let answer = unblock(held.as_str().unwrap(), json!({})).await;
    refused(&answer, 422, "Jobs from canceled builds cannot be unblocked");
}

#[tokio::test]
async fn an_input_step_takes_answers() {
    let sandbox = start().await;
    let yaml = "steps: [{input: Who?, fields: [{text: Name, key: name}, {select: Where, key: where, multiple: true, options: [{label: A, value: a}, {label: B, value: b}]}]}, {command: 'x {{matrix}}', matrix: [one]}]";
    let new = json!({"yaml": yaml, "pipeline": "web"});
    Caller::new(&sandbox, TOKEN).post("/_sandbox/builds", new).await;
    let caller = Caller::rest(&sandbox, API);
    let jobs = caller.get(&format!("{BUILDS}/1")).await.body["jobs"].clone();
    assert_eq!(jobs[1]["matrix"], json!({"": "one"}));
    let path = format!("{JOBS}/{}/unblock", jobs[0]["id"].as_str().unwrap());
    let fields = json!({"fields": {"name": "Kim"}});
    refused(&caller.put(&path, fields).await, 422, "the field \"where\" must be filled in");
    let fields = json!({"fields": {"name": "Kim", "where": "a\nb"}});
    assert_eq!(caller.put(&path, fields).await.body["state"], "unblocked");
    let build = caller.get(&format!("{BUILDS}/1")).await.body;
    assert_eq!(build["meta_data"], json!({"name": "Kim", "where": "a\nb"}));
}
