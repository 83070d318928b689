//! Groups of steps, and steps that come in more than one job.

use sandbox::engine::BuildState;
use sandbox::pipeline;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Caller, TOKEN, build_yaml, run, start, states};

#[tokio::test]
async fn a_wait_in_a_group_is_the_groups_own() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- group: first
  steps: [{command: one}, wait, {command: two}]
- group: second
  steps: [{command: three}, wait, {command: four}]
- command: five
- wait
- command: six
"#;
    let (id, jobs) = build_yaml(&sandbox, &[], yaml);
    let of = ["scheduled", "waiting", "scheduled", "waiting", "scheduled", "waiting"];
    assert_eq!(states(&sandbox, id).1, of);
    run(&sandbox, jobs[2], 0);
    let of = ["scheduled", "waiting", "finished", "scheduled", "scheduled", "waiting"];
    assert_eq!(states(&sandbox, id).1, of);
    for job in [jobs[0], jobs[1], jobs[3]] {
        run(&sandbox, job, 0);
    }
    assert_eq!(states(&sandbox, id).1[5], "waiting", "the wait below is for all of them");
    run(&sandbox, jobs[4], 0);
    run(&sandbox, jobs[5], 0);
    assert_eq!(states(&sandbox, id).0, BuildState::Passed);
}

#[tokio::test]
async fn a_groups_key_stands_for_all_of_it() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- group: G
  key: g
  steps: [{command: a}, {command: b}]
- {command: c, depends_on: g}
- {command: d, depends_on: g, allow_dependency_failure: true}
"#;
    let (id, jobs) = build_yaml(&sandbox, &[], yaml);
    run(&sandbox, jobs[0], 0);
    assert_eq!(states(&sandbox, id).1, ["finished", "scheduled", "waiting", "waiting"]);
    run(&sandbox, jobs[1], 1);
    let of = ["finished", "finished", "waiting_failed", "scheduled"];
    assert_eq!(states(&sandbox, id).1, of);
}

#[tokio::test]
async fn what_a_group_depends_on_all_of_its_steps_do() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- {command: a, key: a}
- {command: b, key: b}
- group: strict
  depends_on: a
  steps: [{command: c}, {command: d, depends_on: b}]
- group: lenient
  depends_on: a
  allow_dependency_failure: true
  steps: [{command: e}]
- wait
- group: late
  steps: [{command: f}, {command: g, depends_on: b}]
"#;
    let (id, jobs) = build_yaml(&sandbox, &[], yaml);
    run(&sandbox, jobs[1], 0);
    let of = ["scheduled", "finished", "waiting", "waiting", "waiting", "waiting", "scheduled"];
    assert_eq!(states(&sandbox, id).1, of, "the last has passed the wait by");
    run(&sandbox, jobs[0], 1);
    let of = [
        "finished",
        "finished",
        "waiting_failed",
        "waiting_failed",
        "scheduled",
        "waiting",
        "scheduled",
    ];
    assert_eq!(states(&sandbox, id).1, of);
}

#[tokio::test]
async fn a_block_in_a_group_holds_the_group() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- group: G
  steps: [block, {command: a}]
- command: b
- wait
- command: c
"#;
    let (id, jobs) = build_yaml(&sandbox, &[], yaml);
    assert_eq!(states(&sandbox, id).1, ["waiting", "scheduled", "waiting"]);
    run(&sandbox, jobs[1], 0);
    assert_eq!(states(&sandbox, id), (BuildState::Blocked, vec!["waiting", "finished", "waiting"]));
    let caller = Caller::new(&sandbox, TOKEN);
    let path = format!("/_sandbox/builds/{id}/unblock");
    assert_eq!(caller.post(&path, json!({})).await.status, 200);
    assert_eq!(states(&sandbox, id).1, ["scheduled", "finished", "waiting"]);
}

#[tokio::test]
async fn an_upload_from_a_group_joins_its_name_or_follows_it() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- group: G
  steps: [{command: up}, {command: rest}]
- command: after
"#;
    let (id, jobs) = build_yaml(&sandbox, &[], yaml);
    let uploaded = json!({"steps": [
        {"group": "G", "steps": [{"command": "joined"}]},
        {"group": "G", "steps": [{"command": "apart"}]},
        {"command": "single"},
    ]});
    let steps = pipeline::from_json(&uploaded).unwrap();
    let upload = Uuid::from_u128(1);
    sandbox.engine(|engine, now| engine.upload_steps(jobs[0], upload, steps, now)).unwrap();
    let found = sandbox.engine(|engine, _| {
        let build = engine.build(id).unwrap();
        let row = |step: &sandbox::engine::Step| {
            let job = engine.job(step.jobs[0]).unwrap();
            (job.command.command.clone(), step.group)
        };
        build.steps.iter().map(row).collect::<Vec<_>>()
    });
    let found: Vec<(&str, Option<usize>)> =
        found.iter().map(|(command, group)| (command.as_str(), *group)).collect();
    let expected = [
        ("up", Some(0)),
        ("joined", Some(0)),
        ("rest", Some(0)),
        ("apart", Some(1)),
        ("single", None),
        ("after", None),
    ];
    assert_eq!(found, expected);
    // The jobs below know their new places.
    run(&sandbox, jobs[2], 0);
    assert_eq!(states(&sandbox, id).1[5], "finished");
}

#[tokio::test]
async fn jobs_know_their_group_and_their_values() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- group: Builds
  key: builds
  steps:
  - label: "on {{matrix.os}}"
    command: "make {{matrix.os}}"
    key: make
    matrix:
      setup: {os: [linux, mac], cpu: [arm]}
      adjustments:
      - {with: {os: mac, cpu: arm}, soft_fail: true}
      - {with: {os: plan9, cpu: arm}, skip: not yet}
- {command: "only {{matrix}}", matrix: [this]}
- {command: ship, depends_on: make}
"#;
    let (id, jobs) = build_yaml(&sandbox, &[], yaml);
    let of = vec!["scheduled", "scheduled", "skipped", "scheduled", "waiting"];
    assert_eq!(states(&sandbox, id).1, of);
    let caller = Caller::new(&sandbox, TOKEN);
    let session = caller.post("/v3/register", json!({"name": "a"})).await.body;
    let agent = caller.with(session["access_token"].as_str().unwrap());
    agent.post("/v3/connect", json!(null)).await;
    let acquired = agent.put(&format!("/v3/jobs/{}/acquire", jobs[0]), json!(null)).await.body;
    assert_eq!(acquired["matrix_permutation"], json!({"os": "linux", "cpu": "arm"}));
    let env = &acquired["env"];
    assert_eq!(
        [&env["BUILDKITE_LABEL"], &env["BUILDKITE_COMMAND"], &env["BUILDKITE_GROUP_LABEL"]],
        ["on linux", "make linux", "Builds"]
    );
    assert_eq!(env["BUILDKITE_GROUP_KEY"], "builds");
    let session = caller.post("/v3/register", json!({"name": "b"})).await.body;
    let other = caller.with(session["access_token"].as_str().unwrap());
    other.post("/v3/connect", json!(null)).await;
    let single = other.put(&format!("/v3/jobs/{}/acquire", jobs[3]), json!(null)).await.body;
    assert_eq!(single["matrix_permutation"], json!({"": "this"}));
    assert_eq!(single["env"]["BUILDKITE_GROUP_ID"], json!(null));

    // Whoever depends on the step waits for all of its jobs that are run.
    let done = json!({"exit_status": "0"});
    agent.put(&format!("/v3/jobs/{}/start", jobs[0]), json!({})).await;
    agent.put(&format!("/v3/jobs/{}/finish", jobs[0]), done).await;
    assert_eq!(states(&sandbox, id).1[4], "waiting");
    run(&sandbox, jobs[1], 1);
    assert_eq!(states(&sandbox, id).1[4], "scheduled", "the adjustment forgives it");
}
