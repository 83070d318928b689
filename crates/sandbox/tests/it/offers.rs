//! Agents that wait for any job of their queue: what they are offered, and real ones at work.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use sandbox::Sandbox;
use sandbox::engine::State;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::agents::with_both;
use crate::support::{Agent, Caller, TOKEN, build_yaml, ended, job, start, start_for, until};

/// An agent with these tags that has connected.
async fn agent(sandbox: &Sandbox, more: Value) -> Caller {
    let mut said = json!({ "name": "a", "meta_data": ["queue=default", "os=linux"] });
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let caller = Caller::new(sandbox, TOKEN);
    let session = caller.post("/v3/register", said).await.body;
    let caller = caller.with(session["access_token"].as_str().unwrap());
    caller.post("/v3/connect", Value::Null).await;
    caller
}

async fn offered(agent: &Caller) -> Option<Uuid> {
    let answer = agent.get("/v3/ping").await;
    assert_eq!(answer.status, 200);
    answer.body["job"]["id"].as_str().map(|id| id.parse().unwrap())
}

#[tokio::test]
async fn each_job_is_offered_to_one_agent_and_again_where_it_is_not_accepted() {
    let sandbox = start().await;
    let (first, second) = (job(&sandbox, "one"), job(&sandbox, "two"));
    let (one, two) = (agent(&sandbox, json!({})).await, agent(&sandbox, json!({})).await);
    assert_eq!((offered(&one).await, offered(&two).await), (Some(first), Some(second)));
    assert_eq!(offered(&one).await, Some(first), "the same until it is accepted");
    let answer = one.put(&format!("/v3/jobs/{first}/accept"), Value::Null).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["state"], "accepted");
    assert_eq!(offered(&one).await, None, "it has one");
    let late = two.put(&format!("/v3/jobs/{first}/accept"), Value::Null).await;
    assert_eq!(late.status, 422, "it is another's");
    sandbox.advance(Duration::from_secs(11));
    let three = agent(&sandbox, json!({})).await;
    assert_eq!(offered(&three).await, Some(second), "who does not accept does not keep it");
    assert_eq!(offered(&two).await, None);
    three.post("/v3/disconnect", Value::Null).await;
    assert_eq!(offered(&two).await, Some(second), "nor does who leaves");
}

#[tokio::test]
async fn tags_and_priorities_tell_which_job_is_offered() {
    let sandbox = start().await;
    let yaml = "steps:\n- { command: a, agents: { os: mac } }\n- { command: b, agents: { os: '*' } }\n- { command: c, priority: 5 }\n- { command: d, agents: { gpu: '1' } }";
    let (_, jobs) = build_yaml(&sandbox, &[], yaml);
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(offered(&agent(&sandbox, json!({})).await).await);
    }
    assert_eq!(got, [Some(jobs[2]), Some(jobs[1]), None]);
    let mac = agent(&sandbox, json!({ "meta_data": ["queue=default", "os=mac"] })).await;
    assert_eq!(offered(&mac).await, Some(jobs[0]));
}

#[tokio::test]
async fn who_came_for_one_job_is_offered_none_and_what_a_stack_holds_is_not_offered() {
    let sandbox = start().await;
    let held = job(&sandbox, "one");
    let only = agent(&sandbox, json!({ "ignore_in_dispatches": true })).await;
    assert_eq!(offered(&only).await, None);
    let stack = Caller::new(&sandbox, TOKEN);
    stack.stack("s").await;
    stack.token_for("s", held).await;
    assert_eq!(offered(&agent(&sandbox, json!({})).await).await, None);
}

#[tokio::test]
async fn real_agents_take_a_job_each_and_leave() {
    with_both(async |part, program| {
        let (sandbox, _repository) = start_for(part).await;
        let mut agents = Vec::new();
        for _ in 0..2 {
            let waits = ["--disconnect-after-job", "--disconnect-after-idle-timeout", "60"];
            agents.push(Agent::start_with(&sandbox, &program, TOKEN, &waits));
        }
        until(&sandbox, "both have connected", |engine| {
            (engine.queue_metrics(0).0.idle == 2).then_some(())
        })
        .await;
        let jobs = [job(&sandbox, "echo one"), job(&sandbox, "exit 3")];
        let mut by = Vec::new();
        for (job, exit) in jobs.into_iter().zip([0, 3]) {
            let done = ended(&sandbox, job).await;
            assert_eq!((done.state, done.outcome.exit_status), (State::Finished, Some(exit)));
            by.push(done.agent);
        }
        assert_ne!(by[0], by[1]);
        for agent in &mut agents {
            assert_eq!(agent.exit_code().await, 0, "{}", agent.log());
        }
        assert_eq!(sandbox.engine(|engine, _| engine.queue_metrics(0).0.total), 0);
    })
    .await;
}
