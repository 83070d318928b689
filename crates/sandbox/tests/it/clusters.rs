//! Clusters, and the pool without one, see nothing of each other.

use sandbox::engine::ClusterSettings;
use serde_json::{Value, json};

use crate::support::{Caller, TOKEN, start_with};

#[tokio::test]
async fn a_token_of_one_cluster_is_a_stranger_in_another() {
    let sandbox = start_with(|options| {
        options.rate_limits = false;
        options.settings.clusters.push(ClusterSettings {
            name: "Other".to_owned(),
            token: "bkct_other".to_owned(),
            queues: vec!["default".to_owned()],
        });
    })
    .await;
    let here = Caller::new(&sandbox, TOKEN);
    let there = here.with("bkct_other");
    assert_eq!(there.get("/v3/token").await.body["cluster_name"], json!("Other"));
    here.stack("here").await;
    there.stack("there").await;
    let taken = json!({"key": "here", "type": "custom", "queue_key": "default", "metadata": {}});
    assert_eq!(there.post("/v3/stacks/register", taken).await.status, 422);
    let new = json!({"cluster": "Other", "steps": [{"command": "true"}]});
    let job = here.post("/_sandbox/builds", new).await.body["jobs"][0].clone();
    let id = job.as_str().unwrap();

    let list = |key: &str| format!("/v3/stacks/{key}/scheduled-jobs?queue_key=default");
    assert_eq!(here.get(&list("here")).await.body["jobs"], json!([]));
    assert_eq!(there.get(&list("there")).await.body["jobs"][0]["id"], job);
    assert_eq!(here.get(&list("there")).await.status, 404);
    let reserve = json!({"job_uuids": [job]});
    let path = "/v3/stacks/here/scheduled-jobs/batch-reserve";
    assert_eq!(here.put(path, reserve.clone()).await.body["not_reserved"], json!([job]));
    let states = here.post("/v3/stacks/here/jobs/get-states", reserve).await.body;
    assert_eq!(states["states"], json!({}));
    assert_eq!(here.get(&format!("/v3/stacks/here/jobs/{id}")).await.status, 404);
    let note = json!({"notifications": [{"job_uuid": job, "detail": "x"}]});
    let told = here.post("/v3/stacks/here/notifications", note).await.body;
    assert_eq!(told["errors"][0]["indexes"], json!([0]));
    let finish = json!({"exit_status": -1, "detail": "x"});
    let path = format!("/v3/stacks/here/jobs/{id}/finish");
    assert_eq!(here.post(&path, finish).await.status, 404);
    let session = here.post("/v3/register", json!({"name": "agent"})).await.body;
    let agent = here.with(session["access_token"].as_str().unwrap());
    assert_eq!(agent.put(&format!("/v3/jobs/{id}/acquire"), Value::Null).await.status, 404);
}

#[tokio::test]
async fn the_pool_without_a_cluster_has_jobs_of_its_own() {
    let sandbox =
        start_with(|options| options.settings.unclustered_token = Some("bkar_old".into())).await;
    let caller = Caller::new(&sandbox, TOKEN);
    let new = json!({"cluster": "", "steps": [{"command": "true"}]});
    let job = caller.post("/_sandbox/builds", new).await.body["jobs"][0].clone();
    let scheduled = async |token: &str| {
        let metrics = caller.with(token).get("/v3/metrics/queue?name=default").await.body;
        metrics["jobs"]["scheduled"].clone()
    };
    assert_eq!((scheduled(TOKEN).await, scheduled("bkar_old").await), (json!(0), json!(1)));
    let old = caller.with("bkar_old");
    let session = old.post("/v3/register", json!({"name": "agent"})).await.body;
    let agent = old.with(session["access_token"].as_str().unwrap());
    let path = format!("/v3/jobs/{}/acquire", job.as_str().unwrap());
    assert_eq!(agent.put(&path, Value::Null).await.status, 200);
}
