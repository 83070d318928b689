//! Pods that nothing befalls, and those that are told to end.

use cluster::{Images, NodeOptions, Outcome, Played};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Secret};
use kube::api::{DeleteParams, ListParams, LogParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;

use crate::ways::{Ground, condition, container, end};

#[tokio::test]
async fn a_job_runs_and_completes() {
    let Some(ground) = Ground::new("job").await else { return };
    let secret = json!({ "metadata": { "name": "tokens" }, "stringData": { "job-1": "s3cret" } });
    ground.create::<Secret>(secret).await;
    let shared = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let mut main = container(
        "set -e; sh /shared/tool; echo \"$TOKEN in $PWD as $$$$\"; cat /etc/tokens/here; \
         test ! -e /etc/written; echo x >/etc/written; printf bye >/dev/termination-log",
    );
    main["volumeMounts"] = json!([
        { "name": "shared", "mountPath": "/shared", "readOnly": true },
        { "name": "tokens", "mountPath": "/etc/tokens", "readOnly": true },
    ]);
    main["workingDir"] = json!("/builds/one");
    let reference = json!({ "secretKeyRef": { "name": "tokens", "key": "job-1" } });
    main["env"] = json!([{ "name": "TOKEN", "valueFrom": reference }]);
    let mut init = container("echo 'echo the tool runs' >/shared/tool");
    init["name"] = json!("copy");
    init["volumeMounts"] = shared;
    let items = json!([{ "key": "job-1", "path": "here" }]);
    let spec = ground.spec(json!({
        "initContainers": [init],
        "containers": [main],
        "volumes": [
            { "name": "shared", "emptyDir": {} },
            { "name": "tokens", "secret": { "secretName": "tokens", "items": items } },
        ],
    }));
    let job = json!({
        "metadata": { "name": "one" },
        "spec": { "backoffLimit": 0, "template": { "spec": spec } },
    });
    ground.create::<Job>(job).await;
    let done = await_condition(ground.api::<Job>(), "one", conditions::is_job_completed());
    done.await.expect("a watch");

    let pods = ground.api::<Pod>();
    let pod = pods.list(&ListParams::default()).await.expect("a list").items.remove(0);
    let status = pod.status.expect("a status");
    assert_eq!(end(&status), (0, "Completed".into(), "bye".into()));
    assert_eq!(condition(&status, "Initialized"), ("True", "PodCompleted"));
    assert_eq!(condition(&status, "Ready"), ("False", "PodCompleted"));
    assert_eq!(condition(&status, "PodScheduled").0, "True");
    let name = pod.metadata.name.expect("a name");
    let log = pods.logs(&name, &LogParams::default()).await.expect("a log");
    assert_eq!(log, "the tool runs\ns3cret in /builds/one as 1\ns3cret");
}

#[tokio::test]
async fn a_deleted_pod_gets_a_signal_and_then_goes() {
    let Some(ground) = Ground::new("delete").await else { return };
    let script = "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    ground.shell("polite", script).await;
    ground.until("polite", |it| condition(it, "Ready").0 == "True").await;
    let pods = ground.api::<Pod>();
    let params = LogParams { follow: true, ..LogParams::default() };
    let log = {
        let pods = pods.clone();
        tokio::spawn(async move {
            use futures_util::AsyncReadExt as _;
            let mut text = String::new();
            let mut stream = pods.log_stream("polite", &params).await.expect("a stream");
            stream.read_to_string(&mut text).await.expect("text");
            text
        })
    };
    pods.delete("polite", &DeleteParams::default()).await.expect("it is deleted");
    let status = ground.until_phase("polite", "Failed").await;
    assert_eq!(end(&status).0, 3);
    ground.until_gone("polite").await;
    assert_eq!(log.await.expect("it ends"), "up\nasked\n");
}

#[tokio::test]
async fn a_pod_that_does_not_listen_is_killed() {
    let Some(ground) = Ground::new("deaf").await else { return };
    let spec = json!({
        "containers": [container("trap '' TERM; while :; do sleep 0.05; done")],
        "terminationGracePeriodSeconds": 1,
    });
    ground.pod("one", spec).await;
    ground.until_phase("one", "Running").await;
    let pods = ground.api::<Pod>();
    pods.delete("one", &DeleteParams::default()).await.expect("it is deleted");
    assert_eq!(end(&ground.until_phase("one", "Failed").await).0, 137);
    ground.until_gone("one").await;
}

#[tokio::test]
async fn a_command_tells_when_it_is_ready() {
    let Some(ground) = Ground::new("ready").await else { return };
    let mut main = container("sleep 1; touch /ready; exec sleep 100");
    main["readinessProbe"] =
        json!({ "exec": { "command": ["test", "-e", "/ready"] }, "periodSeconds": 1 });
    ground.pod("one", json!({ "containers": [main] })).await;
    let status = ground.until_phase("one", "Running").await;
    assert_eq!(condition(&status, "Ready"), ("False", "ContainersNotReady"));
    ground.until("one", |it| condition(it, "Ready").0 == "True").await;
}

#[tokio::test]
async fn a_command_tells_once_that_it_has_started() {
    let Some(ground) = Ground::new("started").await else { return };
    let mut main = container("sleep 1; touch /up; sleep 2; rm /up; exec sleep 100");
    main["startupProbe"] = json!({
        "exec": { "command": ["test", "-e", "/up"] }, "periodSeconds": 1, "failureThreshold": 100,
    });
    ground.pod("one", json!({ "containers": [main] })).await;
    let status = ground.until_phase("one", "Running").await;
    assert_eq!(condition(&status, "Ready"), ("False", "ContainersNotReady"));
    let is_up =
        |it: &PodStatus| it.container_statuses.iter().flatten().all(|c| c.started == Some(true));
    assert!(!is_up(&status));
    ground.until("one", is_up).await;
    ground.until("one", |it| condition(it, "Ready").0 == "True").await;
}

#[tokio::test]
async fn a_pod_reaches_the_api_server() {
    let Some(ground) = Ground::new("inside").await else { return };
    let script = "cd /var/run/secrets/kubernetes.io/serviceaccount && curl -s --cacert ca.crt \
                  -H \"Authorization: Bearer $(cat token)\" \
                  https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/\
                  $(cat namespace)/pods -o /dev/null -w '%{http_code}'";
    ground.shell("one", script).await;
    ground.until_phase("one", "Succeeded").await;
    let words = ["logs", "--namespace", &ground.namespace, "one"];
    let output = ground.plane.kubectl(&words).await.expect("kubectl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // It is known by its token, and may do nothing.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "403");
}

/// What ends before anybody looks has ended as well.
#[tokio::test]
async fn many_that_are_quick() {
    let Some(ground) = Ground::new("quick").await else { return };
    let mut first = container("exit 0");
    first["name"] = json!("first");
    first["command"] = json!(["true"]);
    let mut main = container("exit 0");
    main["command"] = json!(["true"]);
    let template = ground.spec(json!({ "initContainers": [first], "containers": [main] }));
    let job = json!({
        "metadata": { "name": "many" },
        "spec": {
            "backoffLimit": 0, "completions": 30, "parallelism": 30,
            "template": { "spec": template },
        },
    });
    ground.create::<Job>(job).await;
    let ended = |job: Option<&Job>| {
        let status = job.and_then(|job| job.status.as_ref());
        status.is_some_and(|it| it.failed.is_some() || it.completion_time.is_some())
    };
    let job = await_condition(ground.api::<Job>(), "many", ended).await.expect("a watch");
    let status = job.and_then(|job| job.status).expect("a status");
    assert_eq!((status.succeeded, status.failed), (Some(30), None));
}

/// Containers that only a function plays are told of as others are.
#[tokio::test]
async fn a_crowd_that_is_played() {
    let images = Images::default().played("agent:1", |played: Played| async move {
        played.tell_ready();
        let code = if played.environment.contains_key("WAIT") {
            played.stop.cancelled().await;
            5
        } else {
            0
        };
        Outcome { code, message: format!("{} is over", played.pod) }
    });
    let ground = Ground::with("played", |options| NodeOptions { images, ..options }).await;
    let Some(ground) = ground else { return };
    let mut main = json!({ "name": "main", "image": "agent:1" });
    let job = json!({
        "metadata": { "name": "many" },
        "spec": {
            "backoffLimit": 0, "completions": 100, "parallelism": 100,
            "template": { "spec": ground.spec(json!({ "containers": [main] })) },
        },
    });
    ground.create::<Job>(job).await;
    let done = await_condition(ground.api::<Job>(), "many", conditions::is_job_completed());
    done.await.expect("a watch");

    main["env"] = json!([{ "name": "WAIT", "value": "yes" }]);
    main["readinessProbe"] = json!({ "exec": { "command": ["never", "run"] } });
    ground.pod("one", json!({ "containers": [main] })).await;
    ground.until("one", |it| condition(it, "Ready").0 == "True").await;
    ground.api::<Pod>().delete("one", &DeleteParams::default()).await.expect("it is deleted");
    let status = ground.until_phase("one", "Failed").await;
    assert_eq!(end(&status), (5, "Error".into(), "one is over".into()));
}
