//! The command line where no Jitney runs: usage, checks, plans, completions, exit codes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;

use crate::cli_support::{Ran, jitney, jitney_with};
use crate::rules::repository;

fn example() -> String {
    repository().join("docs/jitney.yaml").display().to_string()
}

/// In a folder of its own.
async fn alone(args: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    jitney(args, folder.path()).await
}

/// A configuration whose one backend has 8 vCPU and 32 GiB.
fn small() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jitney.yaml");
    let text = "buildkite: { token: t }\n\
                queues: { default: { backends: [here] }, jit: { backends: [here], tags: { os: linux } } }\n\
                backends: { here: { process: { capacity: { cpu: 8, memory: 32G } } } }\n";
    std::fs::write(&file, text).unwrap();
    (folder, file.display().to_string())
}

#[tokio::test]
async fn wrong_usage_is_refused_with_2() {
    for args in [
        &["frobnicate"][..],
        &["plan"],
        &["plan", "--pipeline", "a.yml", "cpu=1"],
        &["drain", "--resume", "--wait"],
        &["explain"],
        &["sandbox", "--listen", "nowhere"],
    ] {
        let ran = alone(args).await.expect(2);
        assert!(ran.out.is_empty() && ran.err.contains("--help"), "{args:?}: {}", ran.err);
    }
}

#[tokio::test]
async fn help_names_every_exit_code_and_no_inner_command() {
    let ran = alone(&["--help"]).await.expect(0);
    for code in ["  0  ", "  1  ", "  2  ", "  3  ", "  4  "] {
        assert!(ran.out.contains(code), "{}", ran.out);
    }
    assert!(!ran.out.contains("guest") && !ran.out.contains("minimal"), "{}", ran.out);
}

#[tokio::test]
async fn without_a_configuration_both_places_and_init_are_named() {
    let ran = alone(&["doctor"]).await.expect(2);
    for part in ["jitney.yaml", "/etc/jitney/jitney.yaml", "--config", "jitney init"] {
        assert!(ran.err.contains(part), "{}", ran.err);
    }
}

#[tokio::test]
async fn the_example_is_valid_and_says_what_is_not_built() {
    let ran = alone(&["check-config", &example()]).await.expect(0);
    assert!(ran.out.starts_with("ok "), "{}", ran.out);
    assert!(ran.out.contains("backends.quick.cloud-run: the cloud-run backend"), "{}", ran.out);
    let json = alone(&["check-config", "--json", &example()]).await.expect(0).json();
    assert_eq!(json["errors"], serde_json::json!([]));
    assert_eq!(json["unbuilt"].as_array().unwrap().len(), 5, "{json}");
}

#[tokio::test]
async fn a_broken_configuration_is_refused_with_its_place_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.yaml");
    std::fs::write(&file, "buildkite: { token: t }\nqueus: {}\n").unwrap();
    let file = file.display().to_string();
    let ran = jitney(&["check-config", &file], folder.path()).await.expect(2);
    assert!(
        ran.out.is_empty() && ran.err.contains("queus") && ran.err.contains("queues"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains('\u{1b}'), "no colours where nobody looks: {}", ran.err);
    let json = jitney(&["check-config", "--json", &file], folder.path()).await.expect(2).json();
    let errors = json["errors"].as_array().unwrap();
    assert!(errors.iter().any(|error| error["key"] == "queus" && error["line"] == 2), "{json}");
    // Every other command refuses it alike.
    jitney(&["run", "--config", &file], folder.path()).await.expect(2);
    jitney(&["status", "--config", &file], folder.path()).await.expect(2);
}

#[tokio::test]
async fn run_refuses_what_is_not_built_by_name() {
    let ran = alone(&["run", "--config", &example()]).await.expect(2);
    assert!(ran.err.contains("backends.quick.cloud-run"), "{}", ran.err);
}

async fn plan(args: &[&str], code: i32, expected: &str) {
    let (folder, file) = small();
    let mut all = vec!["plan", "--config", &file];
    all.extend(args);
    let ran = jitney(&all, folder.path()).await.expect(code);
    assert_eq!(ran.out, expected, "{args:?}");
}

#[tokio::test]
async fn a_plan_for_tags() {
    let expected = "\
Queue jit: 4 vCPU, 16 GiB; the job may run for 6h
The agent's tags: queue=jit, os=linux

   BACKEND  MACHINE
1  here     4 vCPU, 16 GiB
";
    plan(&["queue=jit", "cpu=4", "memory=16G"], 0, expected).await;
}

#[tokio::test]
async fn a_plan_without_a_queue_is_for_the_only_one() {
    let (folder, file) = small();
    let text = "buildkite: { token: t }\nqueues: { jit: { backends: [here] } }\n\
                backends: { here: { process: { capacity: { cpu: 8, memory: 32G } } } }\n";
    std::fs::write(&file, text).unwrap();
    let ran = jitney(&["plan", "--config", &file, "cpu=4"], folder.path()).await.expect(0);
    assert!(ran.out.starts_with("Queue jit: 4 vCPU"), "{}", ran.out);

    let several = text.replace("} }\nbackends", "}, big: { backends: [here] } }\nbackends");
    assert_ne!(several, text);
    std::fs::write(&file, several).unwrap();
    let ran = jitney(&["plan", "--config", &file, "cpu=4"], folder.path()).await.expect(4);
    let hint = "The tags name no queue. Add one of ours: queue=big, queue=jit\n";
    assert!(ran.out.ends_with(hint), "{}", ran.out);
    let ran = jitney(&["plan", "--config", &file, "queue=x"], folder.path()).await.expect(4);
    let hint = "The queues of the configuration are: queue=big, queue=jit\n";
    assert!(ran.out.ends_with(hint), "{}", ran.out);
}

#[tokio::test]
async fn a_fleets_queue_has_no_machines_of_its_jobs() {
    let (folder, file) = small();
    let text = "buildkite: { token: t }\nbackends: { pods: { kubernetes: {} } }\nfleets: { crowd: { \
                queue: many, backend: pods, template_from: { job: agents }, agents: { max: 5 }, \
                active_deadline: 7h } }\n";
    std::fs::write(&file, text).unwrap();
    let ran = jitney(&["check-config", &file], folder.path()).await.expect(0);
    let valid = "is valid: 1 fleet (crowd), 1 backend (pods)\n";
    assert!(ran.out.ends_with(valid), "{}", ran.out);
    let ran = jitney(&["plan", "--config", &file, "queue=many"], folder.path()).await.expect(4);
    let words = "Its jobs get no machines of their own: the fleet crowd serves it";
    assert!(ran.out.contains(words), "{}", ran.out);
    let ran = jitney(&["plan", "--config", &file, "cpu=2"], folder.path()).await.expect(4);
    assert!(ran.out.ends_with("The configuration has no queues, only fleets.\n"), "{}", ran.out);
    // Where Buildkite puts it.
    std::fs::write(&file, text.replace("queue: many", "queue: default")).unwrap();
    let ran = jitney(&["plan", "--config", &file, "cpu=2"], folder.path()).await.expect(4);
    assert!(ran.out.contains("the fleet crowd serves it"), "{}", ran.out);
}

#[tokio::test]
async fn what_is_not_yaml_is_shown_where_it_is() {
    let (folder, file) = small();
    std::fs::write(&file, "name: x\nqueues: { a: [}\n").unwrap();
    let ran = jitney(&["check-config", &file], folder.path()).await.expect(2);
    let shown = format!("{}{}", ran.out, ran.err);
    assert!(shown.contains("jitney.yaml:2:14]"), "{shown}");
}

#[tokio::test]
async fn a_plan_that_nothing_can_serve_says_what_would_fit() {
    let expected = "\
Queue default: 4 vCPU, 900 GiB; the job may run for 6h
The agent's tags: queue=default

No machine: no backend of the queue makes one.
  not on here: here has 8 vCPU and 32 GiB; you asked for 4 vCPU and 900 GiB. Ask for at most memory: 32G.
";
    plan(&["cpu=4", "memory=900G"], 4, expected).await;
}

#[tokio::test]
async fn a_plan_says_what_would_be_looked_up() {
    let (folder, file) = small();
    let forks = "\npolicies: [{ match: { fork: true }, largest: { cpu: 2 } }]\n";
    let text = std::fs::read_to_string(&file).unwrap() + forks;
    std::fs::write(&file, text).unwrap();
    let plan = async |more: &[&str], code| {
        let args = [&["plan", "--config", &file, "queue=jit", "cpu=4"], more].concat();
        jitney(&args, folder.path()).await.expect(code).out
    };
    let open = plan(&[], 4).await;
    assert!(open.contains("the policy on forks allows at most 2 vCPU"), "{open}");
    assert!(open.contains("what holds if it matches policy 1; say with"), "{open}");
    let json: serde_json::Value = serde_json::from_str(&plan(&["--json"], 4).await).unwrap();
    assert_eq!(json["steps"][0]["doubtful"], serde_json::json!(["policies[0]"]));
    for no_fork in ["--fork=false", "--pull-request=false"] {
        let known = plan(&[no_fork], 0).await;
        assert!(known.contains("4 vCPU") && !known.contains("look up"), "{known}");
    }
    assert!(!plan(&["--fork"], 4).await.contains("look up"));
    assert!(plan(&["--author", "Kim"], 4).await.contains("look up"), "that says nothing of forks");
}

#[tokio::test]
async fn a_plan_for_a_wrong_value_a_slip_and_no_tag() {
    let wrong =
        "No machine: memory=64GB!: \"GB!\" is not a unit of size. Write memory: 64G (or K, M, T)\n";
    plan(&["memory=64GB!"], 4, wrong).await;
    let slip = "Not for us: memroy=4G is no word of ours. Did you mean memory?\n";
    plan(&["queue=jit", "memroy=4G"], 4, slip).await;
    let (folder, file) = small();
    let ran = jitney(&["plan", "--config", &file, "cpu"], folder.path()).await.expect(2);
    assert!(ran.err.contains("KEY=VALUE"), "{}", ran.err);
}

const STEPS: &str = "\
agents: { queue: jit }
steps:
  - label: build
    command: make
    agents: { queue: default, cpu: 4, memory: 8G }
  - label: test
    command: make test
    parallelism: 10
    agents: { queue: default, memory: 900G }
  - wait
  - label: elsewhere
    command: deploy
    agents: { queue: other }
";

#[tokio::test]
async fn a_plan_for_a_pipeline() {
    let (folder, file) = small();
    let steps = folder.path().join("pipeline.yml");
    std::fs::write(&steps, STEPS).unwrap();
    let steps = steps.display().to_string();
    let args = ["plan", "--config", &file, "--pipeline", &steps];
    let ran = jitney(&args, folder.path()).await.expect(4);
    let expected = "\
STEP       JOBS  QUEUE    ASKS FOR         FIRST CHOICE
build      1     default  4 vCPU, 8 GiB    4 vCPU, 8 GiB on here
test       10    default  1 vCPU, 900 GiB  no machine
elsewhere  1     other    -                left to other agents

test: no backend of queue default makes one.
  not on here: here has 8 vCPU and 32 GiB; you asked for 1 vCPU and 900 GiB. Ask for at most memory: 32G.

elsewhere: Not for us: queue other is not one that we serve here

3 steps, 12 jobs; for 1 of the steps no machine can be made.
";
    assert_eq!(ran.out, expected);

    let json = jitney(&[&args[..], &["--json"]].concat(), folder.path()).await.expect(4).json();
    let outcomes: Vec<&str> =
        json["steps"].as_array().unwrap().iter().map(|s| s["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["made", "wrong", "foreign"]);
    let (shape, offer) = (&json["steps"][0]["shape"], &json["steps"][0]["offers"][0]);
    assert_eq!(offer["backend"], "here");
    for sized in [shape, offer] {
        assert_eq!(sized["cpu_millis"], 4_000, "{sized}");
        assert_eq!(sized["memory_bytes"], 8_u64 << 30, "{sized}");
    }
    assert!(shape["time_seconds"].as_u64().unwrap() > 0, "{shape}");
}

#[tokio::test]
async fn a_pipeline_that_cannot_be_read_is_refused() {
    let (folder, file) = small();
    for (text, word) in
        [("steps: 7", "steps"), ("a: [", "line"), ("steps: [wait]", "no command steps")]
    {
        let steps = folder.path().join("pipeline.yml");
        std::fs::write(&steps, text).unwrap();
        let steps = steps.display().to_string();
        let args = ["plan", "--config", &file, "--pipeline", &steps];
        let ran = jitney(&args, folder.path()).await.expect(2);
        assert!(ran.err.contains(word), "{text}: {}", ran.err);
    }
    let args = ["plan", "--config", &file, "--pipeline", "nowhere.yml"];
    assert!(jitney(&args, folder.path()).await.expect(2).err.contains("nowhere.yml"));
}

#[tokio::test]
async fn completions_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = alone(&["completions", shell]).await.expect(0);
        assert!(ran.out.contains("check-config"), "{shell}");
    }
    alone(&["completions", "cobol"]).await.expect(2);
}

#[tokio::test]
async fn init_writes_what_check_config_accepts() {
    let folder = tempfile::tempdir().unwrap();
    jitney(&["init", "--queue", "jit"], folder.path()).await.expect(0);
    let environment = [("BUILDKITE_AGENT_TOKEN", "bkct_x")];
    jitney_with(&["check-config"], &environment, folder.path()).await.expect(0);
    let ran = jitney(&["init"], folder.path()).await.expect(2);
    assert!(ran.err.contains("--force"), "{}", ran.err);
}

#[tokio::test]
async fn a_link_named_like_the_agent_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let link: PathBuf = folder.path().join("buildkite-agent");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_jitney"), &link).unwrap();
    let output = tokio::process::Command::new(&link).arg("--version").output().await.unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("buildkite-agent version"));
}

/// A configuration whose one backend makes pods.
fn pods(keys: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jitney.yaml");
    let text = format!(
        "buildkite: {{ token: t }}\nqueues: {{ default: {{ backends: [pods] }} }}\n\
         backends: {{ pods: {{ kubernetes: {{ kubeconfig: absent, {keys} }} }} }}\n"
    );
    std::fs::write(&file, text).unwrap();
    (folder, file.display().to_string())
}

#[tokio::test]
async fn a_plan_shows_the_job_that_a_cluster_would_get() {
    let template = "template: { spec: { template: { spec: { nodeSelector: { pool: ci } } } } }";
    let (folder, file) = pods(&format!("namespace: ci, image: debian:12, {template}"));
    let asked = ["--config", &file, "plan", "cpu=4", "memory=8G", "--manifest"];
    let ran = jitney(&asked, folder.path()).await.expect(0);
    for part in ["kind: Job", "namespace: ci", "image: debian:12", "memory: 8Gi", "pool: ci"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let (folder, file) = pods("image: debian:12, template_from: { job: agents }");
    let asked = ["--config", &file, "plan", "cpu=4", "--manifest"];
    let ran = jitney(&asked, folder.path()).await.expect(0);
    assert!(ran.out.starts_with("# The namespace is the context's"), "{}", ran.out);
    assert!(ran.out.contains("# The Job `agents` of the cluster lies under this"), "{}", ran.out);
    let (folder, file) = small();
    let asked = ["--config", &file, "plan", "queue=jit", "cpu=4", "--manifest"];
    let ran = jitney(&asked, folder.path()).await.expect(4);
    assert!(ran.err.contains("no kubernetes backend of queue jit makes a machine"), "{}", ran.err);
}

#[tokio::test]
async fn what_is_wrong_with_a_kubernetes_backend_is_named_with_its_key() {
    let wrong = "namespace: ci, image: \"Not An Image\", nodes: { colour: { selector: { a: b } } }";
    let (folder, file) = pods(wrong);
    let ran = jitney(&["--config", &file, "doctor"], folder.path()).await.expect(4);
    for part in [
        "`Not An Image` is not the name of an image",
        "backends.pods.kubernetes.image",
        "absent cannot be used",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let ran =
        jitney(&["--config", &file, "plan", "cpu=1", "--manifest"], folder.path()).await.expect(4);
    assert!(ran.err.contains("nodes.colour: no word selects nodes by it"), "{}", ran.err);
}
