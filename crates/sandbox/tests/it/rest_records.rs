//! Annotations and agents by the REST API.

use buildkite::rest::wire::NewAnnotation;
use buildkite::{Options, RestClient, TokenSource};
use reqwest::Method;
use sandbox::Fault;
use sandbox::engine::{Board, State};
use serde_json::{Value, json};

use crate::golden::{check, golden};
use crate::rest::{API, JOBS, start};
use crate::support::{Caller, TOKEN, job};

const AGENTS: &str = "/v2/organizations/demo/agents";

#[tokio::test]
async fn a_page_has_one_annotation_of_each_context() {
    let sandbox = start().await;
    let job = job(&sandbox, "true");
    let caller = Caller::rest(&sandbox, API);
    let on_job = format!("{JOBS}/{job}/annotations");
    let on_build = "/v2/organizations/demo/pipelines/web/builds/1/annotations";
    let first = caller.post(&on_job, golden("rest.annotate.request")).await;
    assert_eq!(first.status, 201, "{}", first.body);
    check("rest.annotate.job.201", &first.body);
    let build = caller.post(on_build, golden("rest.annotate.request")).await;
    assert_eq!(build.status, 201, "{}", build.body);
    check("rest.annotate.build.201", &build.body);
    assert_eq!(build.body["body_html"], "<p>The machine was <b>lost</b>.</p>");

    let other = json!({"context": "jitney", "body": "<script>", "style": "error"});
    let replaced = caller.post(&on_job, other).await.body;
    assert_eq!((&replaced["id"], &replaced["style"]), (&first.body["id"], &json!("error")));
    assert_eq!(replaced["body_html"], "<p>&lt;script&gt;</p>", "no markup of the author's");
    let more = json!({"context": "jitney", "body": "!", "append": true});
    assert_eq!(caller.post(&on_job, more).await.body["body_html"], "<p>&lt;script&gt;!</p>");
    caller.post(&on_job, json!({"body": "no context"})).await;

    let list = async |path: &str| caller.get(path).await.body.as_array().unwrap().len();
    assert_eq!(list(&on_job).await, 2);
    assert_eq!(list(on_build).await, 1);
    assert_eq!(list(&format!("{on_build}?scope=job")).await, 2);
    assert_eq!(list(&format!("{on_build}?scope=all")).await, 3);
    assert_eq!(caller.get(&format!("{on_build}?scope=x")).await.status, 400);
    let one = format!("{on_job}/{}", first.body["id"].as_str().unwrap());
    let remove = async || caller.call(Method::DELETE, &one, Value::Null).await.unwrap();
    assert_eq!(remove().await.status, 204);
    assert_eq!(remove().await.status, 404);
    assert_eq!(list(&on_job).await, 1);
}

#[tokio::test]
async fn an_annotation_that_makes_no_sense_is_refused() {
    let sandbox = start().await;
    let job = job(&sandbox, "true");
    let caller = Caller::rest(&sandbox, API);
    let path = format!("{JOBS}/{job}/annotations");
    for (new, status, words) in [
        (json!({"body": ""}), 422, "Body can't be blank"),
        (json!({"style": "info"}), 422, "missing field `body`"),
        (json!({"body": "x", "style": "loud"}), 422, "Style must be"),
        (json!({"body": "x", "priority": 11}), 422, "Priority must be 1 to 10"),
        (json!({"body": "x".repeat((1 << 20) + 1)}), 422, "at most 1048576 bytes"),
    ] {
        let answer = caller.post(&path, new).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
    let nowhere = format!("{JOBS}/{}/annotations", uuid::Uuid::nil());
    assert_eq!(caller.post(&nowhere, json!({"body": "x"})).await.status, 404);
    let nowhere = "/v2/organizations/demo/pipelines/web/builds/9/annotations";
    assert_eq!(caller.post(nowhere, json!({"body": "x"})).await.status, 404);
}

#[tokio::test]
async fn an_annotation_whose_reply_was_lost_can_be_sent_again() {
    let sandbox = start().await;
    let job = job(&sandbox, "true");
    let token = TokenSource::Fixed(API.to_owned().into());
    let client = RestClient::new(Options::new(sandbox.api_endpoint(), token), "demo").unwrap();
    sandbox.add_fault(Fault {
        route: "/v2/organizations/{organization}/jobs/{job}/annotations".to_owned(),
        times: Some(1),
        lose_reply: true,
        ..Fault::default()
    });
    let new = NewAnnotation {
        body: "The machine was lost.".to_owned(),
        context: Some("jitney".to_owned()),
        ..NewAnnotation::default()
    };
    client.annotate_job(job, &new).await.unwrap_err();
    client.annotate_job(job, &new).await.unwrap();
    let stored = sandbox.engine(|engine, _| engine.annotations(Board::Job(job)).len());
    assert_eq!(stored, 1);
    let made = client.annotate_build("web", 1, &new).await.unwrap();
    assert_eq!(made.scope, "build");
}

#[tokio::test]
async fn an_agent_is_found_and_told_to_leave() {
    let sandbox = start().await;
    let (rest, agents) = (Caller::rest(&sandbox, API), Caller::new(&sandbox, TOKEN));
    let register = async |name: &str| {
        let new = json!({"name": name, "hostname": "host-1", "version": "3.137.0"});
        let agent = agents.post("/v3/register", new).await.body;
        let session = agents.with(agent["access_token"].as_str().unwrap());
        (agent["id"].as_str().unwrap().to_owned(), session)
    };
    let (id, session) = register("jit-1").await;
    let stop = async |body: Value| rest.put(&format!("{AGENTS}/{id}/stop"), body).await;
    assert_eq!(stop(json!({})).await.status, 400, "it is not connected");
    session.post("/v3/connect", Value::Null).await;
    let (_, other) = register("jit-2").await;
    other.post("/v3/connect", Value::Null).await;
    assert_eq!(rest.get(AGENTS).await.body.as_array().unwrap().len(), 2);
    let found = rest.get(&format!("{AGENTS}?name=jit-1")).await.body;
    assert_eq!(found[0]["id"], id.as_str());
    assert_eq!(rest.get(&format!("{AGENTS}/{id}")).await.body["connection_state"], "connected");
    assert_eq!(rest.get(&format!("{AGENTS}/{}", uuid::Uuid::nil())).await.status, 404);

    let runs = job(&sandbox, "true");
    session.put(&format!("/v3/jobs/{runs}/acquire"), Value::Null).await;
    session.put(&format!("/v3/jobs/{runs}/start"), json!({})).await;
    let state = || sandbox.engine(|engine, _| engine.job(runs).unwrap().state);
    assert_eq!(session.get("/v3/ping").await.body["action"], "");
    assert_eq!(stop(json!({"force": false})).await.status, 204);
    assert_eq!(session.get("/v3/ping").await.body["action"], "disconnect");
    assert_eq!(state(), State::Running, "it may finish its job");
    assert_eq!(rest.get(&format!("{AGENTS}/{id}")).await.body["connection_state"], "stopping");
    assert_eq!(stop(Value::Null).await.status, 204);
    assert_eq!(state(), State::Canceling, "by default it may not");
    assert_eq!(other.get("/v3/ping").await.body["action"], "");
    let nobody = rest.put(&format!("{AGENTS}/{}/stop", uuid::Uuid::nil()), Value::Null).await;
    assert_eq!(nobody.status, 404);
}
