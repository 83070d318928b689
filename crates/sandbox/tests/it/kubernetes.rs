//! The calls of Buildkite's Kubernetes controller, in its order and with its headers, from start to
//! stop: each reply can be decoded and holds what it reads.

use buildkite::wire;
use sandbox::engine::State;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{Answer, Caller, TOKEN, job, start};

fn decoded<T: DeserializeOwned>(answer: Answer, status: u16) -> T {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/json");
    serde_json::from_value(answer.body).unwrap()
}

#[tokio::test]
async fn the_controllers_calls_from_start_to_stop() {
    let sandbox = start().await;
    let job = job(&sandbox, "make");
    let caller = Caller::new(&sandbox, TOKEN);
    let whose: wire::TokenIdentity = decoded(caller.get("/v3/token").await, 200);
    assert!(!whose.cluster_uuid.is_empty() && !whose.organization_slug.is_empty());
    let new = json!({"key": "k8s", "type": "kubernetes", "queue_key": "-",
                     "metadata": {"controller": "agent-stack-k8s", "version": "0.47.0"}});
    let stack: wire::Stack = decoded(caller.post("/v3/stacks/register", new).await, 201);
    let queue = stack.cluster_queue_key;
    let path = format!("/v3/stacks/k8s/scheduled-jobs?queue_key={queue}&limit=1000");
    let page: wire::ScheduledJobs = decoded(caller.get(&path).await, 200);
    assert_eq!((page.jobs[0].id, page.cluster_queue.is_paused()), (job, false));
    let path = "/v3/stacks/k8s/scheduled-jobs/batch-reserve";
    let ask = json!({"job_uuids": [job], "reservation_expiry_seconds": 900});
    let reserved: wire::BatchReserved = decoded(caller.put(path, ask).await, 200);
    assert_eq!(reserved.reserved, [job]);
    let path = "/v3/stacks/k8s/job-acquisition-tokens";
    let ask = json!({"job_uuids": [job], "token_lifetime_seconds": 900});
    let issued: wire::IssuedTokens = decoded(caller.post(path, ask).await, 201);
    assert!(issued.job_acquisition_tokens[0].expires_at > sandbox.now());
    let shown = caller.get(&format!("/v3/stacks/k8s/jobs/{job}")).await;
    let detail: wire::JobDetail = decoded(shown, 200);
    for key in ["BUILD_URL", "BRANCH", "REPO", "PIPELINE_SLUG"] {
        assert!(!detail.env[&format!("BUILDKITE_{key}")].is_empty(), "{key}");
    }
    let note = json!({"notifications": [{"job_uuid": job, "detail": "Pod is pending"}]});
    let told: wire::NotificationErrors =
        decoded(caller.post("/v3/stacks/k8s/notifications", note).await, 200);
    assert_eq!(told.errors, []);
    let ask = json!({"job_uuids": [job]});
    let states: wire::JobStates =
        decoded(caller.post("/v3/stacks/k8s/jobs/get-states", ask).await, 200);
    assert_eq!(states.states[&job], wire::JobState::Reserved);
    let finish = json!({"exit_status": -1, "detail": "The image cannot be pulled"});
    let ended = caller.post(&format!("/v3/stacks/k8s/jobs/{job}/finish"), finish).await;
    assert_eq!(ended.status, 200);
    let gone = caller.post("/v3/stacks/k8s/deregister", Value::Null).await;
    assert_eq!(gone.status, 204);
    let state = sandbox.engine(|engine, _| engine.job(job).unwrap().state);
    assert_eq!(state, State::Finished);
}
