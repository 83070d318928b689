//! What befalls pods: each shows as Kubernetes documents it.

use std::path::Path;
use std::time::Duration;

use cluster::{Images, NodeOptions, PullFailure};
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::ways::{Ground, condition, container, end};

#[tokio::test]
async fn an_image_that_cannot_be_pulled_and_then_can() {
    let images = Images::default().fails("nobody/nothing:1", PullFailure::NotFound);
    let ground = Ground::with("image", |options| NodeOptions { images, ..options });
    let Some(ground) = ground.await else { return };
    let mut main = container("exit 0");
    main["image"] = json!("nobody/nothing:1");
    ground.pod("one", json!({ "containers": [main] })).await;
    let words = ground.until_waits("one", "ErrImagePull").await;
    assert!(words.ends_with("nobody/nothing:1: not found"), "{words}");
    let words = ground.until_waits("one", "ImagePullBackOff").await;
    assert!(words.starts_with("Back-off pulling image \"nobody/nothing:1\""), "{words}");
    ground.event("one", "Failed", "Failed to pull image \"nobody/nothing:1\": ").await;
    ground.node.set_images(Images::default());
    ground.until_phase("one", "Succeeded").await;
}

#[tokio::test]
async fn a_name_that_is_none_of_an_image() {
    let Some(ground) = Ground::new("name").await else { return };
    let mut main = container("exit 0");
    main["image"] = json!("No Such:Thing");
    ground.pod("one", json!({ "containers": [main] })).await;
    let words = ground.until_waits("one", "InvalidImageName").await;
    assert!(words.ends_with("invalid reference format"), "{words}");
    ground.event("one", "InspectFailed", "Failed to apply default image tag").await;
}

#[tokio::test]
async fn an_image_has_files_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("tool"), "#!/bin/sh\necho a tool\n").expect("a file");
    let images = Images::default()
        .with("tools:1", folder.path().join("tool"), "/usr/local/bin/the-tool")
        .root("bare:1", folder.path());
    let ground = Ground::with("files", |options| NodeOptions { images, ..options });
    let Some(ground) = ground.await else { return };
    let mut main = container("cat /usr/local/bin/the-tool >&2; exit 9");
    main["image"] = json!("tools:1");
    main["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    ground.pod("with", json!({ "containers": [main] })).await;
    let status = ground.until_phase("with", "Failed").await;
    assert_eq!(end(&status), (9, "Error".into(), "#!/bin/sh\necho a tool".into()));
    main["image"] = json!("bare:1");
    ground.pod("bare", json!({ "containers": [main] })).await;
    let (code, reason, words) = end(&ground.until_phase("bare", "Failed").await);
    assert_eq!((code, &*reason), (128, "StartError"));
    assert!(words.ends_with("failed to execute sh: No such file or directory"), "{words}");
}

#[tokio::test]
async fn a_secret_that_comes_late() {
    let Some(ground) = Ground::new("late").await else { return };
    let mut main = container("test $TOKEN = x");
    let reference = json!({ "secretKeyRef": { "name": "tokens", "key": "one" } });
    main["env"] = json!([{ "name": "TOKEN", "valueFrom": reference }]);
    ground.pod("variable", json!({ "containers": [main] })).await;
    let volumes = json!([{ "name": "v", "secret": { "secretName": "tokens" } }]);
    let spec = json!({ "containers": [container("exit 0")], "volumes": volumes });
    ground.pod("volume", spec).await;
    let words = ground.until_waits("variable", "CreateContainerConfigError").await;
    assert_eq!(words, "secret \"tokens\" not found");
    ground.event("variable", "Failed", "Error: secret \"tokens\" not found").await;
    let words = "MountVolume.SetUp failed for volume \"v\" : secret \"tokens\" not found";
    ground.event("volume", "FailedMount", words).await;

    let secret = json!({ "metadata": { "name": "tokens" }, "stringData": { "two": "y" } });
    ground.create::<Secret>(secret).await;
    ground.until_phase("volume", "Succeeded").await;
    let wanted = format!("couldn't find key one in Secret {}/tokens", ground.namespace);
    ground.until_words("variable", wanted).await;
}

#[tokio::test]
async fn eviction() {
    let Some(ground) = Ground::new("evict").await else { return };
    ground.shell("one", "exec sleep 100").await;
    ground.until_phase("one", "Running").await;
    let words = "The node was low on resource: ephemeral-storage.";
    ground.node.evict(&ground.namespace, "one", words).expect("it is there");
    let status = ground.until_phase("one", "Failed").await;
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(status.message.as_deref(), Some(words));
    assert_eq!(condition(&status, "DisruptionTarget"), ("True", "TerminationByKubelet"));
    assert_eq!(end(&status).0, 137);
    ground.event("one", "Evicted", words).await;
}

#[tokio::test]
async fn nothing_befalls_a_pod_that_is_not_there() {
    let Some(ground) = Ground::new("nobody").await else { return };
    let refused = ground.node.evict(&ground.namespace, "one", "").expect_err("there is none");
    assert_eq!(refused.to_string(), format!("no pod {}/one runs on this node", ground.namespace));
    let twice = ground.plane.join(NodeOptions::named(ground.node.name())).await;
    let refused = twice.expect_err("the name is taken").to_string();
    assert!(refused.contains("already exists"), "{refused}");
}

#[tokio::test]
async fn a_machine_that_is_preempted() {
    let Some(ground) = Ground::new("spot").await else { return };
    ground.shell("one", "trap 'exit 0' TERM; while :; do sleep 0.05; done").await;
    ground.until_phase("one", "Running").await;
    ground.node.shut_down();
    let status = ground.until_phase("one", "Failed").await;
    assert_eq!(status.reason.as_deref(), Some("Terminated"));
    assert_eq!(condition(&status, "DisruptionTarget"), ("True", "TerminationByKubelet"));
    assert_eq!(end(&status).0, 0);
}

#[tokio::test]
async fn too_much_memory() {
    let Some(ground) = Ground::new("memory").await else { return };
    // Not its first process takes it, which would outlive that.
    let mut main = container("tail /dev/zero; exec sleep 100");
    main["resources"] = json!({ "limits": { "memory": "48Mi" } });
    let counted = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
    if !counted {
        eprintln!("NOT TESTED: the memory controller (version 1) is not here");
        main["command"] = json!(["sleep", "100"]);
    }
    ground.pod("one", json!({ "containers": [main] })).await;
    ground.shell("two", "exec sleep 100").await;
    ground.until_phase("two", "Running").await;
    ground.node.oom_kill(&ground.namespace, "two", "main").expect("it is there");
    for pod in if counted { vec!["one", "two"] } else { vec!["two"] } {
        let status = ground.until_phase(pod, "Failed").await;
        assert_eq!(end(&status), (137, "OOMKilled".into(), String::new()), "{pod}");
    }
}

#[tokio::test]
async fn a_deadline() {
    let Some(ground) = Ground::new("deadline").await else { return };
    let main = container("exec sleep 100");
    let spec = json!({
        "containers": [main], "activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 1,
    });
    ground.pod("one", spec).await;
    let status = ground.until_phase("one", "Failed").await;
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(condition(&status, "DisruptionTarget").0, "absent");
    assert_eq!(end(&status).0, 137, "process 1 hears no signal that it has not asked for");
}

#[tokio::test]
async fn an_init_container_that_fails() {
    let Some(ground) = Ground::new("init").await else { return };
    let mut init = container("echo no >&2; exit 4");
    init["name"] = json!("first");
    let spec = json!({ "initContainers": [init], "containers": [container("exit 0")] });
    ground.pod("one", spec).await;
    let status = ground.until_phase("one", "Failed").await;
    let first = &status.init_container_statuses.as_ref().expect("they are told")[0];
    let ended = first.state.as_ref().and_then(|state| state.terminated.as_ref());
    assert_eq!(ended.map(|it| it.exit_code), Some(4));
    assert_eq!(ground.until_waits("one", "PodInitializing").await, "");
    assert_eq!(condition(&status, "Initialized").0, "False");
}

#[tokio::test]
async fn a_failing_container_is_started_again() {
    let Some(ground) = Ground::new("again").await else { return };
    let mut main = container("test -e /v/been || { touch /v/been; exit 7; }");
    main["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
    let volumes = json!([{ "name": "v", "emptyDir": {} }]);
    let spec = json!({ "containers": [main], "volumes": volumes, "restartPolicy": "OnFailure" });
    ground.pod("one", spec).await;
    ground.until_waits("one", "CrashLoopBackOff").await;
    let status = ground.until_phase("one", "Succeeded").await;
    let main = &status.container_statuses.as_ref().expect("they are told")[0];
    let before = main.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    assert_eq!((main.restart_count, before.map(|it| it.exit_code)), (1, Some(7)));
}

#[tokio::test]
async fn a_node_that_is_not_heard_of() {
    let Some(ground) = Ground::new("lost").await else { return };
    let toleration = json!({
        "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": 1,
    });
    let spec = json!({ "containers": [container("exec sleep 100")], "tolerations": [toleration] });
    ground.pod("one", spec).await;
    ground.until_phase("one", "Running").await;
    let beside = NodeOptions::named(format!("{}-beside", ground.namespace));
    let beside = ground.plane.join(beside).await.expect("a node");
    ground.node.vanish();
    let told = ground.until("one", |it| condition(it, "DisruptionTarget").0 == "True");
    assert_eq!(condition(&told.await, "DisruptionTarget").1, "DeletionByTaintManager");
    drop(beside);
    ground.node.remove().await.expect("it is deleted");
    let nodes: Api<Node> = Api::all(ground.client.clone());
    assert!(nodes.get_opt(&ground.namespace).await.expect("an answer").is_none());
}

#[tokio::test]
async fn a_pod_that_makes_room_for_another() {
    let Some(ground) = Ground::with("room", |mut options| {
        options.capacity.insert("cpu".to_owned(), "1".to_owned());
        options
    })
    .await
    else {
        return;
    };
    let classes: Api<PriorityClass> = Api::all(ground.client.clone());
    let class = json!({ "metadata": { "name": ground.namespace }, "value": 1000 });
    let class = serde_json::from_value(class).expect("a class");
    classes.create(&PostParams::default(), &class).await.expect("it is created");
    let mut main = container("trap 'exit 1' TERM; while :; do sleep 0.05; done");
    main["resources"] = json!({ "requests": { "cpu": "800m" } });
    ground.pod("low", json!({ "containers": [main] })).await;
    ground.until_phase("low", "Running").await;
    let high = json!({ "containers": [main], "priorityClassName": ground.namespace });
    ground.pod("high", high).await;
    let told = ground.until("low", |it| condition(it, "DisruptionTarget").0 == "True").await;
    assert_eq!(condition(&told, "DisruptionTarget").1, "PreemptionByScheduler");
    ground.until_gone("low").await;
    ground.until_phase("high", "Running").await;
}

#[tokio::test]
async fn a_pod_that_is_slow_to_start() {
    let Some(ground) = Ground::new("slow").await else { return };
    let delay = Duration::from_secs(2);
    ground.node.set_start_delay(delay);
    let begun = Instant::now();
    ground.shell("one", "exit 0").await;
    ground.until_waits("one", "ContainerCreating").await;
    ground.until_phase("one", "Succeeded").await;
    assert!(begun.elapsed() >= delay);
    ground.node.set_start_delay(Duration::from_secs(3600));
    ground.shell("two", "exit 0").await;
    ground.until_waits("two", "ContainerCreating").await;
    let pods = ground.api::<Pod>();
    pods.delete("two", &Default::default()).await.expect("it is deleted");
    let gone = await_condition(pods, "two", |pod: Option<&Pod>| pod.is_none());
    let gone = timeout(Duration::from_secs(10), gone).await;
    gone.expect("a pod of which nothing runs goes at once").expect("the watch goes on");
}
