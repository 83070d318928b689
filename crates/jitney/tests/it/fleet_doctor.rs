//! `doctor` before the first dispatch of a fleet, on a real control plane: the token, the rights, the
//! template and the quotas.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};

use crate::cli_support::jitney;
use crate::fleet_ground::{Ground, rules};
use crate::shell_fleet::{UNCLUSTERED, fleet_alone};
use crate::shell_process::agents;
use crate::shell_support::World;

const FLEET: &str = "agents: { max: 5 }";

/// What it finds, each as `level check: found`, and how it ends.
async fn findings(world: &World, code: i32) -> Vec<String> {
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).unwrap();
    let args = ["doctor", "--json", "--config", &file.display().to_string()];
    let json = jitney(&args, world.folder.path()).await.expect(code).json();
    assert!(!json.to_string().contains("planted"), "a token is shown: {json}");
    let findings = json["findings"].as_array().unwrap().iter();
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    findings
        .map(|of| {
            let well = of["level"] == "ok";
            assert!(well || !text(of, "remedy").is_empty(), "what to do? {of}");
            format!("{} {}: {}", text(of, "level"), text(of, "check"), text(of, "found"))
        })
        .collect()
}

#[track_caller]
fn check(findings: &[String], expected: &[&str]) {
    for words in expected {
        assert!(findings.iter().any(|of| of.starts_with(words)), "{words}: {findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_all_well_with_a_fleet_without_clusters() {
    let Some(agent) = agents().into_iter().next() else { return };
    let Some(ground) = Ground::new("well", &agent, rules(true)).await else { return };
    let mut world = fleet_alone(&ground.kubeconfig, &ground.namespace, FLEET).await;
    world.token = UNCLUSTERED.into();
    ground.template(&world.sandbox.endpoint(), |_| ()).await;
    let quota = json!({ "metadata": { "name": "team" }, "spec": { "hard": { "pods": "50" } } });
    ground.put::<ResourceQuota>(quota).await;
    let found = findings(&world, 0).await;
    check(
        &found,
        &[
            "ok token: is of organisation demo, without clusters",
            "ok fleet stateless: queue: default: 0 jobs scheduled and 0 running, 0 agents",
            "ok fleet stateless: cluster: namespace ",
            "ok fleet stateless: permissions: we may do all that we have to",
            "ok fleet stateless: template: Job agents: the agent is its container `agent`, of buildkite/agent:test",
            "ok fleet stateless: trial: the API server would take a dispatch",
        ],
    );
    assert!(found.iter().all(|of| of.starts_with("ok ")), "{found:#?}");
    // What a queue's machines would need is not asked for where there are none.
    assert!(
        !found.iter().any(|of| of.contains("job tokens") || of.contains("pods:")),
        "{found:#?}"
    );
    let jobs = ground.jobs().await;
    assert!(jobs.is_empty(), "a trial made {jobs:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_doubts_a_template_that_is_not_made_for_fleets() {
    let Some(agent) = agents().into_iter().next() else { return };
    let Some(ground) = Ground::new("doubts", &agent, rules(true)).await else { return };
    let world = fleet_alone(&ground.kubeconfig, &ground.namespace, FLEET).await;
    ground
        .template(&world.sandbox.endpoint(), |job| {
            job["spec"]["parallelism"] = json!(1);
            job["spec"]["suspend"] = json!(false);
            job["spec"]["activeDeadlineSeconds"] = json!(7200);
            let pod = &mut job["spec"]["template"]["spec"];
            pod["activeDeadlineSeconds"] = json!(600);
            let agent = &mut pod["containers"][0];
            agent["args"] = json!(["--tags", "os=linux", "--spawn=2"]);
            let tags = json!({ "name": "BUILDKITE_AGENT_TAGS", "value": "queue=x,gpu=true" });
            agent["env"].as_array_mut().unwrap().push(tags);
            let beside = json!({ "name": "metrics", "image": "exporter:1" });
            pod["containers"].as_array_mut().unwrap().push(beside);
        })
        .await;
    let hard = json!({ "pods": "3", "requests.cpu": "8" });
    let quota = json!({ "metadata": { "name": "team" }, "spec": { "hard": hard } });
    ground.put::<ResourceQuota>(quota).await;
    let found = findings(&world, 0).await;
    let template = "warning fleet stateless: template: ";
    let quota = "warning fleet stateless: quota: the quota `team` ";
    check(
        &found,
        &[
            &format!("{template}the template itself runs"),
            &format!("{template}beside the agent run metrics"),
            &format!("{template}the agent's command line has --tags,"),
            &format!("{template}the agent starts several of itself (--spawn=2)"),
            &format!("{template}its BUILDKITE_AGENT_TAGS are replaced, and gpu=true is not"),
            &format!(
                "{template}its activeDeadlineSeconds is 7200, and the fleet's active_deadline 1800 s"
            ),
            &format!("{template}its pods have an activeDeadlineSeconds of their own, 600,"),
            &format!("{quota}leaves room for 3 pods, and agents.max is 5"),
            &format!("{quota}wants requests.cpu of every container, and agent, metrics have none"),
            "ok fleet stateless: quota: team: pods ",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_what_is_missing_of_a_fleet() {
    let Some(agent) = agents().into_iter().next() else { return };
    let lacking = rules(false).into_iter().filter(|rule| rule.verbs != ["create", "list"]);
    let Some(ground) = Ground::new("lacks", &agent, lacking.collect()).await else { return };
    let world = fleet_alone(&ground.kubeconfig, &ground.namespace, FLEET).await;
    let found = findings(&world, 4).await;
    check(
        &found,
        &[
            "wrong fleet stateless: permissions: we may not create jobs.batch, list jobs.batch",
            "wrong fleet stateless: template: the template Job agents: jobs.batch \"agents\" not found",
        ],
    );
    assert!(!found.iter().any(|of| of.contains("trial")), "there is nothing to try: {found:#?}");
    ground.template(&world.sandbox.endpoint(), |_| ()).await;
    let found = findings(&world, 4).await;
    check(&found, &["ok fleet stateless: template: ", "wrong fleet stateless: trial: "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_a_queue_that_a_fleet_cannot_count_and_a_cluster_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = crate::shell_fleet::nowhere(folder.path());
    let mut world = fleet_alone(&kubeconfig, "ci", FLEET).await;
    world.more = world.more.replace("queue: default", "queue: nosuch");
    let found = findings(&world, 4).await;
    check(
        &found,
        &[
            "wrong fleet stateless: queue: nosuch cannot be counted: ",
            "wrong fleet stateless: cluster: namespace ci of http://127.0.0.1:9/: ",
        ],
    );
    assert!(!found.iter().any(|of| of.contains("permissions")), "{found:#?}");
}
