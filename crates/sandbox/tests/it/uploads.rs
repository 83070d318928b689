//! Real agents upload pipelines with everything that makes steps more than a list, and run what
//! comes of them.

use std::path::Path;

use sandbox::Sandbox;
use sandbox::engine::{BuildState, Job, NewStep, State, StepState};
use serde_json::json;
use uuid::Uuid;

use crate::agents::{start_agent, with_both};
use crate::parts::Part;
use crate::support::{Caller, TOKEN, build, ended, start_for, until};

/// As people write it: `$$` is what the upload turns into `$`.
const UPLOAD: &str = r#"cat > pipeline.yml <<'YAML'
env: { REGION: eu }
steps:
  - group: Builds
    key: builds
    steps:
      - label: "on {{matrix.os}}"
        command: "echo built=$$OS-{{matrix.cpu}}-$$BUILDKITE_GROUP_KEY; test {{matrix.os}} != mac"
        env: { OS: "{{matrix.os}}" }
        matrix:
          setup: { os: [linux, mac], cpu: [arm] }
          adjustments:
            - { with: { os: mac, cpu: arm }, soft_fail: true }
            - { with: { os: plan9, cpu: arm }, skip: "not yet" }
  - command: "echo never"
    key: never
    if: build.env("REGION") == "us"
  - input: Who is it?
    key: who
    fields:
      - { text: Name, key: name, format: "[a-z]+" }
  - command: "echo hello=$$(buildkite-agent meta-data get name)"
    key: last
    depends_on: [who, builds, never]
    if: build.branch =~ /^main$$/
YAML
buildkite-agent pipeline upload pipeline.yml
"#;

/// Runs the job with the agent, and gives it as it ended.
async fn run(sandbox: &Sandbox, program: &Path, job: Uuid) -> Job {
    let mut agent = start_agent(sandbox, program, job).await;
    let done = ended(sandbox, job).await;
    assert_eq!(agent.exit_code().await, 0, "{}", agent.log());
    done
}

/// The jobs of the step with this key or label.
fn jobs_of(sandbox: &Sandbox, build: Uuid, name: &str) -> Vec<Uuid> {
    sandbox.engine(|engine, _| {
        let steps = engine.build(build).unwrap().steps.iter();
        let named = steps.filter(|step| step.key.as_deref() == Some(name) || step.label == name);
        named.flat_map(|step| step.jobs.clone()).collect()
    })
}

#[tokio::test]
async fn a_matrix_a_group_a_condition_and_an_input() {
    with_both(async |part, program| {
        let (sandbox, _repository) = start_for(part).await;
        let (build, jobs) = build(&sandbox, vec![NewStep::command(UPLOAD)]);
        let uploaded = run(&sandbox, &program, jobs[0]).await;
        assert_eq!(uploaded.outcome.exit_status, Some(0), "{}", uploaded.log.text());

        let state = |job: Uuid| sandbox.engine(|engine, _| engine.job(job).unwrap().state);
        assert_eq!(state(jobs_of(&sandbox, build, "never")[0]), State::Broken);
        assert_eq!(state(jobs_of(&sandbox, build, "on plan9")[0]), State::Skipped);
        for (os, exit_status) in [("linux", 0), ("mac", 1)] {
            let [job] = jobs_of(&sandbox, build, &format!("on {os}"))[..] else { panic!("{os}") };
            let done = run(&sandbox, &program, job).await;
            assert_eq!(done.outcome.exit_status, Some(exit_status), "{}", done.log.text());
            assert_eq!(done.soft_failed, exit_status != 0);
            let line = format!("\nbuilt={os}-arm-builds\r");
            assert!(done.log.text().contains(&line), "{}", done.log.text());
        }

        let last = jobs_of(&sandbox, build, "last")[0];
        assert_eq!(state(last), State::Waiting, "nobody has answered");
        let path = format!("/_sandbox/builds/{build}/unblock");
        let answer = async |name: &str| {
            let body = json!({"step": "who", "fields": {"name": name}});
            Caller::new(&sandbox, TOKEN).post(&path, body).await.status.as_u16()
        };
        assert_eq!((answer("K1M").await, answer("kim").await), (422, 200));
        let done = run(&sandbox, &program, last).await;
        assert!(done.log.text().contains("\nhello=kim\r"), "{}", done.log.text());
        until(&sandbox, "the build passes", |engine| {
            let build = engine.build(build)?;
            (build.state == BuildState::Passed).then_some(())
        })
        .await;
        let left_out = sandbox.engine(|engine, _| {
            let steps = engine.build(build).unwrap().steps.iter();
            steps.filter(|step| step.state == StepState::Omitted).count()
        });
        assert_eq!(left_out, 2);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_honoured_fails_the_upload_with_its_reason() {
    let Some(program) = Part::NewAgent.find() else { return };
    let (sandbox, _repository) = start_for(Part::NewAgent).await;
    let upload = |yaml: &str| {
        NewStep::command(&format!("printf '{yaml}' | buildkite-agent pipeline upload"))
    };
    let cases = [
        (
            upload("steps: [{command: x, label: L, if: build.brunch == 1}]"),
            "step 1 (\"L\"): its `if`, column 1: `build.brunch` is not a variable; did you mean `build.branch`?",
        ),
        (
            upload("steps: [{trigger: other}]"),
            "step 1: it uses `trigger`, which the sandbox does not support yet; leave it out to run here",
        ),
        (
            upload("steps: [{command: x, secrets: [TOKEN]}]"),
            "step 1: it uses `secrets`, and the sandbox has none; set a variable by `env` to run here",
        ),
        (
            NewStep::command("buildkite-agent secret get DEPLOY_KEY"),
            "no secret \"DEPLOY_KEY\": the sandbox has none",
        ),
    ];
    let (steps, reasons): (Vec<NewStep>, Vec<&str>) = cases.into_iter().unzip();
    let (_, jobs) = build(&sandbox, steps);
    let checks = jobs.iter().zip(reasons).map(async |(job, reason)| {
        let done = run(&sandbox, &program, *job).await;
        let text = done.log.text();
        assert_eq!(done.outcome.exit_status, Some(1), "{text}");
        assert!(text.contains(reason), "{reason:?} is not in {text}");
    });
    futures_util::future::join_all(checks).await;
}
