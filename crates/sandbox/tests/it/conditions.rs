//! Steps that a build leaves out, by their own word.

use sandbox::Sandbox;
use sandbox::engine::{Author, BuildState, NewBuild, PullRequest, StepState};
use sandbox::pipeline;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Caller, TOKEN, build_yaml, run, start, states};

/// The labels of the steps that are part of the build.
fn taken(sandbox: &Sandbox, build: Uuid) -> Vec<String> {
    sandbox.engine(|engine, _| {
        let steps = engine.build(build).unwrap().steps.iter();
        let taken = steps.filter(|step| step.state != StepState::Omitted);
        taken.map(|step| step.label.clone()).collect()
    })
}

#[tokio::test]
async fn what_is_left_out_holds_nobody_back() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- {command: a, key: a, if: build.branch != "main"}
- {command: b, key: b, skip: flaky}
- {command: c, branches: release/*}
- wait
- {command: d, depends_on: [a, b]}
- {command: e}
"#;
    let (id, jobs) = build_yaml(&sandbox, &[], yaml);
    let of = vec!["broken", "skipped", "broken", "scheduled", "scheduled"];
    assert_eq!(states(&sandbox, id), (BuildState::Scheduled, of));
    for job in &jobs[3..] {
        run(&sandbox, *job, 0);
    }
    assert_eq!(states(&sandbox, id).0, BuildState::Passed);
    let told = Caller::new(&sandbox, "").get(&format!("/_sandbox/builds/{id}")).await.body;
    let why: Vec<_> = (0..4).map(|step| told["steps"][step]["omitted"].clone()).collect();
    assert_eq!(
        why,
        [
            json!("not true of this build: build.branch != \"main\""),
            json!("skipped: flaky"),
            json!("only for the branches release/*"),
            json!(null)
        ]
    );
    assert_eq!(told["steps"][0]["state"], "omitted");
    assert_eq!(told["jobs"][0]["events"], json!([]), "it was never in a queue");
}

#[tokio::test]
async fn what_is_left_out_is_no_wait_and_no_block() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- {command: a}
- {wait: ~, if: build.source == "schedule"}
- {block: Sure?, if: build.source == "schedule"}
- {input: Who?, branches: other}
- {command: b}
"#;
    let (id, jobs) = build_yaml(&sandbox, &[], yaml);
    assert_eq!(states(&sandbox, id).1, ["scheduled", "scheduled"]);
    for job in jobs {
        run(&sandbox, job, 0);
    }
    assert_eq!(states(&sandbox, id).0, BuildState::Passed);

    let (id, _) = build_yaml(&sandbox, &[("BUILDKITE_SOURCE", "schedule")], yaml);
    assert_eq!(states(&sandbox, id).1, ["scheduled", "waiting"]);
}

#[tokio::test]
async fn a_build_of_which_nothing_is_left_has_passed() {
    let sandbox = start().await;
    let (id, _) = build_yaml(&sandbox, &[], "steps: [{command: a, if: 'false'}]");
    assert_eq!(states(&sandbox, id), (BuildState::Passed, vec!["broken"]));
    let refused = sandbox.engine(|engine, now| engine.cancel_build(id, now));
    assert!(refused.is_err(), "it has ended");
}

#[tokio::test]
async fn conditions_see_what_a_build_says_of_itself() {
    let sandbox = start().await;
    let yaml = r#"
env: {TIER: gold, REGION: eu}
steps:
- {label: pull, command: x, if: build.pull_request.id == "7" && !build.pull_request.draft}
- {label: fork, command: x, if: build.pull_request.repository.fork}
- {label: labels, command: x, if: build.pull_request.labels includes "big"}
- {label: base, command: x, if: build.pull_request.base_branch == pipeline.default_branch}
- {label: team, command: x, if: build.creator.teams includes "deploy"}
- {label: author, command: x, if: build.author.name =~ /^kim/i}
- {label: tag, command: x, if: build.tag =~ /^v/ && build.env("BUILDKITE_TAG") == build.tag}
- {label: slugs, command: x, if: pipeline.slug == "web" && organization.slug == "demo"}
- {label: number, command: x, if: build.number == 1 && build.state == "scheduled"}
- {label: pipeline, command: x, if: build.env("TIER") == "gold"}
- {label: build, command: x, if: build.env("REGION") == "us"}
"#;
    let env = [
        ("BUILDKITE_PULL_REQUEST_LABELS", "small, big"),
        ("BUILDKITE_PULL_REQUEST_BASE_BRANCH", "main"),
        ("BUILDKITE_PULL_REQUEST_DRAFT", "false"),
        ("BUILDKITE_BUILD_CREATOR_TEAMS", "everyone:deploy"),
        ("BUILDKITE_TAG", "v1"),
        ("REGION", "us"),
    ];
    let new = NewBuild {
        pipeline: "web".to_owned(),
        env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        pull_request: Some(PullRequest {
            id: 7,
            repository: "https://forge.example/other.git".to_owned(),
        }),
        author: Some(Author { name: "Kim".to_owned(), email: String::new() }),
        steps: pipeline::from_yaml(yaml).unwrap(),
        ..NewBuild::default()
    };
    let id = sandbox.engine(|engine, now| engine.create_build(new, now)).unwrap();
    let all = taken(&sandbox, id);
    assert_eq!(all.len(), 11, "{all:?}");

    // Of a build that is nobody's and no pull request's, none of it is known.
    let (id, _) = build_yaml(&sandbox, &[], yaml);
    assert_eq!(taken(&sandbox, id), ["slugs", "pipeline"]);
}

#[tokio::test]
async fn what_a_build_plays_its_jobs_are_told() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    let yaml = "steps: [{command: x, env: {BUILDKITE_TAG: of-the-step}}]";
    let told = async |env: &[(&str, &str)]| {
        let (_, jobs) = build_yaml(&sandbox, env, yaml);
        let session = caller.post("/v3/register", json!({"name": "a"})).await.body;
        let agent = caller.with(session["access_token"].as_str().unwrap());
        agent.post("/v3/connect", json!(null)).await;
        let path = format!("/v3/jobs/{}/acquire", jobs[0]);
        let env = agent.put(&path, json!(null)).await.body["env"].clone();
        ["TAG", "SOURCE", "PULL_REQUEST"].map(|name| env[format!("BUILDKITE_{name}")].clone())
    };
    assert_eq!(told(&[]).await, [json!(""), json!("api"), json!("false")]);
    let env =
        [("BUILDKITE_TAG", "v1"), ("BUILDKITE_SOURCE", "webhook"), ("BUILDKITE_PULL_REQUEST", "7")];
    let expected = [json!("v1"), json!("webhook"), json!("false")];
    assert_eq!(told(&env).await, expected, "it is no pull request by its own word");
}

#[tokio::test]
async fn an_upload_is_asked_about_its_build() {
    let sandbox = start().await;
    let env = [("DEPLOY", "yes")];
    let (id, jobs) = build_yaml(&sandbox, &env, "steps: [{command: up}]");
    let uploaded = json!({"steps": [
        {"command": "yes", "label": "yes", "if": "build.env(\"DEPLOY\") == 'yes'"},
        {"command": "no", "label": "no", "if": "build.env('DEPLOY') == null"},
        {"group": "G", "if": "build.message =~ /nothing/", "key": "g",
         "steps": [{"command": "x", "label": "in"}]},
        {"command": "after", "label": "after", "depends_on": "g"},
    ]});
    let steps = pipeline::from_json(&uploaded).unwrap();
    sandbox
        .engine(|engine, now| engine.upload_steps(jobs[0], Uuid::from_u128(1), steps, now))
        .unwrap();
    assert_eq!(taken(&sandbox, id), ["", "yes", "after"]);
    let of = ["scheduled", "scheduled", "broken", "broken", "scheduled"];
    assert_eq!(states(&sandbox, id).1, of);
}

#[tokio::test]
async fn a_condition_that_is_none_refuses_the_build() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, "");
    let yaml = "steps:\n- command: x\n  label: X\n  if: build.branch = 'main'";
    let refused = caller.post("/_sandbox/builds", json!({"yaml": yaml})).await;
    assert_eq!(refused.status, 422);
    let why = "line 4, column 7: step 1 (\"X\"): its `if`, column 14: `=` means nothing; did you mean `==`?";
    assert_eq!(refused.body["message"], why);
}
