//! What a container finds: variables, files, volumes, its user.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};
use kube::Api;
use kube::api::{LogParams, PostParams};
use serde_json::{Value, json};

use crate::ways::{Ground, container, end};

impl Ground {
    /// What a container prints that is as given and runs this.
    async fn prints(&self, name: &str, script: &str, more: Value, volumes: Value) -> String {
        let mut main = container(script);
        main.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let spec = json!({ "containers": [main], "volumes": volumes });
        let metadata = json!({ "name": name, "labels": { "app": "it" } });
        let pod = json!({ "metadata": metadata, "spec": self.spec(spec) });
        self.create::<k8s_openapi::api::core::v1::Pod>(pod).await;
        let ended = |phase: Option<&str>| matches!(phase, Some("Succeeded" | "Failed"));
        let status = self.until(name, move |status| ended(status.phase.as_deref())).await;
        let pods = self.api::<k8s_openapi::api::core::v1::Pod>();
        let log = pods.logs(name, &LogParams::default()).await.expect("a log");
        assert_eq!(end(&status).0, 0, "{log}");
        log
    }
}

#[tokio::test]
async fn variables() {
    let Some(ground) = Ground::new("variables").await else { return };
    let data = json!({ "color": "blue", "size": "7" });
    let map = json!({ "metadata": { "name": "map" }, "data": data });
    ground.create::<ConfigMap>(map).await;
    let secret = json!({ "metadata": { "name": "secret" }, "stringData": { "token": "t" } });
    ground.create::<Secret>(secret).await;
    let field = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
    let more = json!({
        "envFrom": [
            { "prefix": "MAP_", "configMapRef": { "name": "map" } },
            { "secretRef": { "name": "secret" } },
            { "secretRef": { "name": "absent", "optional": true } },
        ],
        "env": [
            { "name": "COLOR", "valueFrom": { "configMapKeyRef": { "name": "map", "key": "color" } } },
            { "name": "ABSENT", "valueFrom": { "secretKeyRef": { "name": "absent", "key": "x", "optional": true } } },
            { "name": "NAME", "valueFrom": field("metadata.name") },
            { "name": "APP", "valueFrom": field("metadata.labels['app']") },
            { "name": "NODE", "valueFrom": field("spec.nodeName") },
            { "name": "CPU", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu", "divisor": "1m" } } },
            { "name": "SUM", "value": "$(NAME)-$(COLOR)" },
        ],
        "resources": { "limits": { "cpu": "1500m" } },
    });
    let script = "echo $MAP_size $token ${ABSENT-none} $APP $NODE $CPU $SUM $(hostname)";
    let log = ground.prints("one", script, more, json!([])).await;
    let node = ground.node.name();
    assert_eq!(log, format!("7 t none it {node} 1500 one-blue one\n"));
}

#[tokio::test]
async fn volumes() {
    let Some(ground) = Ground::new("volumes").await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("mirror"), "objects\n").expect("a file");
    let size = json!({ "storage": "1Gi" });
    let persistent: Api<PersistentVolume> = Api::all(ground.client.clone());
    for (name, mode, class) in
        [("mirrors", "ReadOnlyMany", ""), ("scratch", "ReadWriteOnce", &ground.namespace)]
    {
        let spec = json!({
            "accessModes": [mode], "capacity": size, "storageClassName": class,
            "hostPath": { "path": folder.path() },
        });
        let name = format!("{}-{name}", ground.namespace);
        let volume = json!({ "metadata": { "name": name }, "spec": spec });
        let volume = serde_json::from_value(volume).expect("a volume");
        persistent.create(&PostParams::default(), &volume).await.expect("it is created");
    }
    let claim = json!({
        "metadata": { "name": "mirrors" },
        "spec": {
            "accessModes": ["ReadOnlyMany"], "resources": { "requests": size },
            "storageClassName": "", "volumeName": format!("{}-mirrors", ground.namespace),
        },
    });
    ground.create::<PersistentVolumeClaim>(claim).await;
    let map = json!({ "metadata": { "name": "map" }, "data": { "a": "1", "b": "2" } });
    ground.create::<ConfigMap>(map).await;
    let labels = json!({ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } });
    let items = json!([{ "key": "b", "path": "deep/b" }]);
    let volumes = json!([
        { "name": "claim", "persistentVolumeClaim": { "claimName": "mirrors" } },
        { "name": "map", "configMap": { "name": "map", "defaultMode": 0o400 } },
        { "name": "both", "projected": { "sources": [
            { "configMap": { "name": "map", "items": items } },
            { "downwardAPI": { "items": [labels] } },
        ] } },
        { "name": "fields", "downwardAPI": { "items": [labels] } },
        { "name": "empty", "emptyDir": {} },
        { "name": "scratch", "ephemeral": { "volumeClaimTemplate": { "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": size },
            "storageClassName": ground.namespace,
        } } } },
    ]);
    let more = json!({ "volumeMounts": [
        { "name": "claim", "mountPath": "/mirrors", "readOnly": true },
        { "name": "scratch", "mountPath": "/scratch" },
        { "name": "map", "mountPath": "/etc/only-a", "subPath": "a" },
        { "name": "map", "mountPath": "/map" },
        { "name": "both", "mountPath": "/both" },
        { "name": "fields", "mountPath": "/fields" },
        { "name": "empty", "mountPath": "/usr/share/below", "subPath": "one/two" },
    ] });
    let script = "cat /mirrors/mirror /etc/only-a /map/b /both/deep/b /both/labels /fields/labels; \
                  echo; stat -L -c %a /map/a; touch /usr/share/below/x /scratch/y; \
                  touch /mirrors/x 2>/dev/null || echo 'only to read'";
    let log = ground.prints("one", script, more, volumes).await;
    assert_eq!(log, "objects\n122app=\"it\"app=\"it\"\n400\nonly to read\n");
    assert!(folder.path().join("y").exists());
}

#[tokio::test]
async fn users_and_roots() {
    let Some(ground) = Ground::new("users").await else { return };
    let more = json!({ "securityContext": {
        "runAsUser": 1234, "runAsGroup": 5678, "readOnlyRootFilesystem": true,
    } });
    let script = "id -u; id -g; echo $HOME; touch /tmp/x; touch /x 2>/dev/null || echo read-only";
    let log = ground.prints("one", script, more, json!([])).await;
    assert_eq!(log, "1234\n5678\n/\nread-only\n");
    let script = "touch /jitney-was-here && echo $(id -u) $HOME $$$$ $PWD";
    let more = json!({ "workingDir": "/var/run/jitney-was-here/too" });
    let log = ground.prints("two", script, more, json!([])).await;
    assert_eq!(log, "0 /root 1 /run/jitney-was-here/too\n");
    assert!(!std::path::Path::new("/var/run/jitney-was-here").exists());
    let metered = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
    if std::path::Path::new(metered).exists() {
        let more = json!({ "resources": { "limits": { "memory": "64Mi" } } });
        let log = ground.prints("three", &format!("cat {metered}"), more, json!([])).await;
        assert_eq!(log, "67108864\n");
    }
    assert!(!std::path::Path::new("/jitney-was-here").exists());
}
