//! A request whose reply was lost is sent again, and nothing has changed by that.

use reqwest::Method;
use sandbox::engine::{Job, State};
use sandbox::{Fault, Sandbox};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Caller, TOKEN, job, start};

/// Loses the next reply of a route.
fn lose(sandbox: &Sandbox, route: &str) {
    sandbox.add_fault(Fault {
        route: route.to_owned(),
        times: Some(1),
        lose_reply: true,
        ..Fault::default()
    });
}

fn now(sandbox: &Sandbox, job: Uuid) -> Job {
    sandbox.engine(|engine, _| engine.job(job).cloned()).unwrap()
}

/// What must be the same before and after.
fn sum(job: &Job) -> (State, usize, usize, Vec<u8>, Option<i32>) {
    let notes = job.notifications.len();
    (job.state, job.events.len(), notes, job.log.raw(), job.outcome.exit_status)
}

/// Sends the call, loses its reply, sends it again; gives the second status.
async fn twice(
    sandbox: &Sandbox,
    caller: &Caller,
    (method, route, path): (Method, &str, &str),
    body: Value,
    job: Uuid,
) -> u16 {
    lose(sandbox, route);
    let lost = caller.call(method.clone(), path, body.clone()).await;
    assert!(lost.is_err(), "{path}: the reply came though it should be lost");
    let before = now(sandbox, job);
    let again = caller.call(method, path, body).await.unwrap();
    assert_eq!(sum(&now(sandbox, job)), sum(&before), "{path}");
    again.status.as_u16()
}

#[tokio::test]
async fn stacks_may_repeat_themselves() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let job = job(&sandbox, "true");

    let route = "/v3/stacks/{key}/scheduled-jobs/batch-reserve";
    let call = (Method::PUT, route, "/v3/stacks/a/scheduled-jobs/batch-reserve");
    let status = twice(&sandbox, &stacks, call, json!({"job_uuids": [job]}), job).await;
    assert_eq!((status, now(&sandbox, job).state), (200, State::Reserved));

    let route = "/v3/stacks/{key}/notifications";
    let call = (Method::POST, route, "/v3/stacks/a/notifications");
    let note = json!({"notifications": [
        {"job_uuid": job, "detail": "Booting", "timestamp": sandbox.now()}]});
    let status = twice(&sandbox, &stacks, call, note, job).await;
    let of = now(&sandbox, job);
    assert_eq!((status, of.notifications.len(), of.repeated_notifications), (200, 1, 1));

    let path = format!("/v3/stacks/a/jobs/{job}/finish");
    let call = (Method::POST, "/v3/stacks/{key}/jobs/{id}/finish", path.as_str());
    let finish = json!({"exit_status": -1, "detail": "no machine"});
    let status = twice(&sandbox, &stacks, call, finish, job).await;
    assert_eq!((status, now(&sandbox, job).state), (422, State::Finished));
    let requests = sandbox.requests();
    assert_eq!(requests.iter().filter(|request| request.status.is_none()).count(), 3);
}

#[tokio::test]
async fn agents_may_repeat_themselves() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    let job = job(&sandbox, "true");
    let session = stacks.post("/v3/register", json!({"name": "agent"})).await.body;
    let agent = stacks.with(session["access_token"].as_str().unwrap());
    agent.post("/v3/connect", Value::Null).await;
    let given = agent.put(&format!("/v3/jobs/{job}/acquire"), Value::Null).await.body;
    let worker = agent.with(given["token"].as_str().unwrap());
    let started = worker.put(&format!("/v3/jobs/{job}/start"), json!({})).await;
    assert_eq!(started.status, 200);

    let path = format!("/v3/jobs/{job}/chunks?sequence=1&offset=0&size=5");
    let call = (Method::POST, "/v3/jobs/{id}/chunks", path.as_str());
    let status = twice(&sandbox, &worker, call, json!("abc"), job).await;
    assert_eq!((status, now(&sandbox, job).log.raw()), (200, b"\"abc\"".to_vec()));

    let path = format!("/v3/jobs/{job}/finish");
    let call = (Method::PUT, "/v3/jobs/{id}/finish", path.as_str());
    let status = twice(&sandbox, &worker, call, json!({"exit_status": "0"}), job).await;
    assert_eq!((status, now(&sandbox, job).state), (422, State::Finished));
}
