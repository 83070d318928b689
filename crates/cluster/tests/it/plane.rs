//! The control plane itself: who may do what, what it notes, its outages, its end.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cluster::{ControlPlane, NodeOptions, connect};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{Instant, sleep, timeout};

use crate::ways::{Ground, LONG, container};

#[tokio::test]
async fn a_service_account_may_do_what_its_rules_say() {
    let Some(ground) = Ground::new("rights").await else { return };
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["configmaps".to_owned()]),
        verbs: vec!["list".to_owned()],
        ..PolicyRule::default()
    };
    let made = ground.plane.service_account(&ground.namespace, "lister", vec![rule]).await;
    let client = connect(&made.expect("an account")).await.expect("a client");
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.list(&ListParams::default()).await.expect("it may list");
    let map = serde_json::from_value(json!({ "metadata": { "name": "m" } })).expect("a map");
    let refused = maps.create(&PostParams::default(), &map).await.expect_err("it may not create");
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 403));

    let mut log = ground.plane.audit_from_start();
    let calls = log.more().expect("a log");
    let user = format!("system:serviceaccount:{}:lister", ground.namespace);
    let calls = calls.iter().filter(|call| call.user == user);
    let calls: Vec<_> =
        calls.map(|call| (&*call.verb, &*call.resource, &*call.namespace, call.code)).collect();
    let namespace = &*ground.namespace;
    let expected =
        [("list", "configmaps", namespace, 200), ("create", "configmaps", namespace, 403)];
    assert_eq!(calls, expected);

    // What was read is not read again.
    maps.list(&ListParams::default()).await.expect("it may list");
    let calls = log.more().expect("a log");
    let calls: Vec<_> = calls.iter().filter(|call| call.user == user).collect();
    let [call] = &calls[..] else { panic!("one call was made: {calls:?}") };
    assert!(call.verb == "list" && call.answered_at >= call.at, "{call:?}");
}

#[tokio::test]
async fn the_log_tells_when_the_controllers_make_pods() {
    let Some(ground) = Ground::new("made").await else { return };
    let job = json!({
        "metadata": { "name": "one" },
        "spec": { "template": { "spec": { "restartPolicy": "Never", "containers": [container("true")] } } },
    });
    let job: Job = serde_json::from_value(job).expect("a Job");
    let jobs: Api<Job> = Api::namespaced(ground.client.clone(), &ground.namespace);
    jobs.create(&PostParams::default(), &job).await.expect("it is created");
    let done = await_condition(jobs, "one", conditions::is_job_completed());
    timeout(LONG, done).await.expect("in time").expect("a watch");
    let calls = ground.plane.audit().expect("a log");
    let pods = calls.iter().filter(|call| call.namespace == ground.namespace);
    let pods: Vec<_> = pods.filter(|call| call.user == "controllers").collect();
    let [call] = &pods[..] else { panic!("it has one pod: {pods:?}") };
    assert_eq!((&*call.verb, &*call.resource, call.code), ("create", "pods", 201));
}

async fn list(client: &Client) -> Result<(), String> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let listed = maps.list(&ListParams::default()).await;
    listed.map(drop).map_err(|error| error.to_string())
}

fn pod_that(name: &str, script: &str, shared: &Path) -> Pod {
    let mut main = container(script);
    main["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let volume = json!({ "name": "shared", "hostPath": { "path": shared } });
    let pod = json!({
        "metadata": { "name": name },
        "spec": { "restartPolicy": "Never", "containers": [main], "volumes": [volume] },
    });
    serde_json::from_value(pod).expect("a pod")
}

/// One of its own, since others could not work meanwhile.
#[tokio::test]
async fn outages_and_the_end() {
    if ControlPlane::shared().await.is_none() {
        return;
    }
    let plane = ControlPlane::start().await.expect("a control plane");
    let node = plane.join(NodeOptions::named("one")).await.expect("a node");
    let namespace = plane.fresh_namespace("outage").await.expect("a namespace");
    let client = plane.client().await.expect("a client");
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    // A name that nothing else on this computer bears.
    let mark = format!("sleep 1000.{}", std::process::id());
    let shared = tempfile::tempdir().expect("a folder");
    let told = shared.path().join("told");
    let waits = "until [ -e /shared/told ]; do sleep 0.1; done";
    for (name, script) in [("one", &*mark), ("two", waits)] {
        let pod = pod_that(name, script, shared.path());
        pods.create(&PostParams::default(), &pod).await.expect("it is created");
        let running = await_condition(pods.clone(), name, conditions::is_pod_running());
        running.await.expect("it runs");
    }

    plane.freeze().expect("it is frozen");
    let asked = timeout(Duration::from_secs(1), list(&client)).await;
    assert!(asked.is_err(), "it does not answer");
    plane.thaw().expect("it is thawed");
    list(&client).await.expect("it answers");

    plane.stop_api_server().await.expect("it is stopped");
    list(&client).await.expect_err("nothing answers");
    std::fs::write(&told, "").expect("a file");
    plane.start_api_server().await.expect("it is started");
    pods.get("one").await.expect("what was there is there");
    // A node tells later what it could not tell when it happened.
    let ended = |pod: Option<&Pod>| {
        let status = pod.and_then(|pod| pod.status.as_ref());
        status.is_some_and(|it| it.phase.as_deref() == Some("Succeeded"))
    };
    timeout(LONG, await_condition(pods, "two", ended)).await.expect("in time").expect("a watch");

    let folder = plane.kubeconfig().parent().expect("a folder").to_owned();
    let programs = alive(&folder, "no mark").len();
    assert_eq!(programs, 4, "{:?}", alive(&folder, "no mark"));
    assert!(alive(&folder, &mark).len() > programs, "and the container's");
    drop(plane);
    assert_eq!(alive(&folder, &mark), Vec::<String>::new());
    assert!(!folder.exists());
    drop(node);
}

/// The command lines of processes that have to do with a control plane.
fn alive(folder: &Path, mark: &str) -> Vec<String> {
    let folder = folder.display().to_string();
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    let lines = processes.filter_map(|process| {
        // A dead one that nobody has waited for has no command line any more.
        let line = std::fs::read_to_string(process.path().join("cmdline")).ok()?;
        let line = line.replace('\0', " ");
        let folder_of = std::fs::read_link(process.path().join("cwd")).unwrap_or_default();
        let ours = line.contains(mark) || folder_of == Path::new(&folder);
        ours.then_some(line)
    });
    lines.collect()
}

#[tokio::test]
async fn nothing_is_left_of_one_that_is_killed() {
    if ControlPlane::shared().await.is_none() {
        return;
    }
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_cluster"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    output.read_line(&mut line).await.expect("a line");
    let kubeconfig = PathBuf::from(line.trim().trim_start_matches("export KUBECONFIG="));
    let folder = kubeconfig.parent().expect("a folder").to_owned();
    assert!(folder.is_dir(), "{line}");
    assert_eq!(alive(&folder, "no mark").len(), 4);
    child.kill().await.expect("it is killed");
    let end = Instant::now() + Duration::from_secs(20);
    while folder.exists() || !alive(&folder, "no mark").is_empty() {
        assert!(Instant::now() < end, "{:?}", alive(&folder, "no mark"));
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_left_of_a_namespace_is_named_until_it_is_gone() {
    let Some(ground) = Ground::new("empty").await else { return };
    let secret = json!({ "metadata": { "name": "one" }, "stringData": { "key": "x" } });
    ground.create::<Secret>(secret).await;
    ground.shell("pod", "exec sleep 100").await;
    ground.until_phase("pod", "Running").await;
    let empty = |seconds| ground.plane.until_empty(&ground.namespace, Duration::from_secs(seconds));
    let left = empty(1).await.expect_err("there are two").to_string();
    assert_eq!(left, "after 1 s there is still Pod pod, Secret one");
    let waiting = async {
        let began = Instant::now();
        empty(LONG.as_secs()).await.expect("it is empty in the end");
        began.elapsed()
    };
    let removing = async {
        ground.api::<Secret>().delete("one", &Default::default()).await.expect("deleted");
        let now = DeleteParams::default().grace_period(0);
        ground.api::<Pod>().delete("pod", &now).await.expect("deleted");
    };
    let (took, ()) = tokio::join!(waiting, removing);
    assert!(took < LONG / 2, "a watch tells of it: {took:?}");
}

/// Runs one of these tests by itself, in another environment. Whether it was good, and its words.
fn run(change: impl FnOnce(&mut Command) -> &mut Command) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    let test = "plane::a_service_account_may_do_what_its_rules_say";
    let output = change(command.args(["--exact", test, "--nocapture"])).output();
    let output = output.expect("the tests run");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn absent_parts_are_said_and_a_failure_where_nothing_may_be_absent() {
    let (good, said) = run(|command| command.env_remove("JITNEY_ETCD").env("CI", ""));
    assert!(good, "{said}");
    assert!(
        said.contains("NOT TESTED: parts of a control plane are absent (JITNEY_ETCD"),
        "{said}"
    );
    assert!(said.contains("tools/real-parts control-plane"), "{said}");
    let (good, said) = run(|command| command.env_remove("JITNEY_ETCD").env("CI", "true"));
    assert!(!good, "{said}");
}

#[tokio::test]
async fn a_part_that_ends_is_said() {
    if ControlPlane::shared().await.is_none() {
        return;
    }
    let (good, said) = run(|command| command.env("JITNEY_KUBE_APISERVER", "/bin/false"));
    assert!(!good);
    assert!(said.contains("no control plane: api-server has ended"), "{said}");
}
