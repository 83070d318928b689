//! What block and input steps ask, and how a person answers.

use sandbox::engine::BuildState;
use serde_json::json;

use crate::support::{Caller, TOKEN, build_yaml, run, start, states};

const RELEASE: &str = r#"
steps:
- block: Release
  key: release
  prompt: Which one?
  blocked_state: running
  fields:
  - {text: Name, key: name, format: "[a-z]+"}
  - {text: Notes, key: notes, required: false}
  - select: Regions
    key: regions
    multiple: true
    default: eu
    options: [{label: Europe, value: eu}, {label: America, value: us}]
- command: ship
"#;

#[tokio::test]
async fn answers_become_meta_data() {
    let sandbox = start().await;
    let (id, _) = build_yaml(&sandbox, &[], RELEASE);
    let caller = Caller::new(&sandbox, TOKEN);
    let told = caller.get(&format!("/_sandbox/builds/{id}")).await.body;
    assert_eq!((&told["state"], &told["blocked_state"]), (&json!("blocked"), &json!("running")));
    let path = format!("/_sandbox/builds/{id}/unblock");
    for (fields, why) in [
        (json!({}), "the field \"name\" must be filled in"),
        (json!({"name": "X1"}), "the field \"name\" must match [a-z]+, and is \"X1\""),
        (
            json!({"name": "x", "regions": ["mars"]}),
            "the field \"regions\" must be of eu, us, and is \"mars\"",
        ),
        (
            json!({"name": "x", "colour": "red"}),
            "there is no field \"colour\"; the step has name, notes, regions",
        ),
    ] {
        let refused = caller.post(&path, json!({"step": "release", "fields": fields})).await;
        assert_eq!((refused.status.as_u16(), &refused.body["message"]), (422, &json!(why)));
    }
    let malformed = caller.post(&path, json!({"fields": {"name": 1}})).await;
    assert_eq!(malformed.status, 422);
    assert_eq!(states(&sandbox, id).1, ["waiting"], "what was refused let nothing go");

    let fields = json!({"name": "dolphin", "regions": ["eu", "us"]});
    let answer = caller.post(&path, json!({"step": "release", "fields": fields})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(states(&sandbox, id).1, ["scheduled"]);
    let told = caller.get(&format!("/_sandbox/builds/{id}")).await.body;
    assert_eq!(told["meta_data"], json!({"name": "dolphin", "regions": "eu\nus"}));
    assert_eq!(told["blocked_state"], json!(null));
}

#[tokio::test]
async fn an_input_holds_back_only_who_depends_on_it() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- {command: before}
- {input: Who?, key: who, fields: [{text: Name, key: name}]}
- {command: beside}
- {command: after, depends_on: who}
"#;
    let (id, jobs) = build_yaml(&sandbox, &[], yaml);
    assert_eq!(states(&sandbox, id).1, ["scheduled", "scheduled", "waiting"]);
    run(&sandbox, jobs[0], 0);
    run(&sandbox, jobs[1], 0);
    let of = vec!["finished", "finished", "waiting"];
    assert_eq!(states(&sandbox, id), (BuildState::Blocked, of), "it keeps the build from its end");
    let caller = Caller::new(&sandbox, TOKEN);
    let path = format!("/_sandbox/builds/{id}/unblock");
    let answer = caller.post(&path, json!({"fields": {"name": "Kim"}})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    run(&sandbox, jobs[2], 0);
    assert_eq!(states(&sandbox, id).0, BuildState::Passed);
}

#[tokio::test]
async fn an_input_stands_behind_waits_and_its_own_dependencies() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- {command: a, key: a}
- wait
- {input: Later?, key: later}
- {input: Now?, key: now, depends_on: []}
- wait
- {command: b}
"#;
    let (id, jobs) = build_yaml(&sandbox, &[], yaml);
    let caller = Caller::new(&sandbox, TOKEN);
    let path = format!("/_sandbox/builds/{id}/unblock");
    assert_eq!(caller.post(&path, json!({"step": "later"})).await.status, 422);
    assert_eq!(caller.post(&path, json!({"step": "now"})).await.status, 200);
    run(&sandbox, jobs[0], 0);
    assert_eq!(states(&sandbox, id).0, BuildState::Blocked);
    assert_eq!(states(&sandbox, id).1, ["finished", "waiting"], "the wait below waits for it");
    assert_eq!(caller.post(&path, json!({"step": "later"})).await.status, 200);
    assert_eq!(states(&sandbox, id).1, ["finished", "scheduled"]);
}

#[tokio::test]
async fn secrets_are_not_there() {
    let sandbox = start().await;
    let (_, jobs) = build_yaml(&sandbox, &[], "steps: [{command: x}]");
    let caller = Caller::new(&sandbox, TOKEN);
    let session = caller.post("/v3/register", json!({"name": "a"})).await.body;
    let agent = caller.with(session["access_token"].as_str().unwrap());
    agent.post("/v3/connect", json!(null)).await;
    let path = format!("/v3/jobs/{}/secrets?key=DEPLOY_KEY", jobs[0]);
    assert_eq!(agent.get(&path).await.status, 403, "it is not the job's agent");
    agent.put(&format!("/v3/jobs/{}/acquire", jobs[0]), json!(null)).await;
    let answer = agent.get(&path).await;
    let why = "no secret \"DEPLOY_KEY\": the sandbox has none";
    assert_eq!((answer.status.as_u16(), &answer.body["message"]), (404, &json!(why)));
    assert_eq!(caller.get(&path).await.status, 401);
}
