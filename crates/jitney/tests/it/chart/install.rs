//! The chart in a real API server: its objects are accepted as they are, and a release comes up,
//! does its work with just its permissions, is changed, and leaves nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use cluster::ControlPlane;
use tokio::time::{Instant, sleep};

use super::ground::{Ground, PATIENCE, RELEASE, kubectl};
use super::helm::{Helm, SETS, chart, fields};

async fn namespace(plane: &ControlPlane, name: &str) {
    let made = plane.kubectl(&["create", "namespace", name]).await.unwrap();
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success() || said.contains("AlreadyExists"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_accepts_every_object_as_it_is() {
    let Some(helm) = Helm::find() else { return };
    let Some(plane) = ControlPlane::shared().await else { return };
    for name in ["jitney", "buildkite", "buildkite-deploy", "ci"] {
        namespace(plane, name).await;
    }
    // The Prometheus operator is no part of Kubernetes.
    let without = helm.values("podMonitor: { enabled: false }");
    for set in SETS {
        let text = helm.render_text(&[&helm.set(set), &without]).unwrap();
        let file = helm.values(&text);
        let dry = ["apply", "--dry-run=server", "--validate=strict", "--filename", &file];
        let said = kubectl(plane, &dry).await;
        assert!(said.contains("deployment.apps/jitney created (server dry run)"), "{set}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_comes_up_works_changes_and_leaves_nothing() {
    let Some(ground) = Ground::new().await else { return };
    let said = ground.helm(&["install", RELEASE, &chart(), "--values", &ground.values(5)]);
    assert!(said.contains(&format!("It makes Jobs in namespace {}", ground.jobs)), "{said}");
    ground.until_ready().await;
    let first = ground.pod().await;
    let qos = fields(&first, &["/status/qosClass", "/status/phase"]);
    assert_eq!(qos, "Burstable Running");

    a_job_runs_in_a_pod(&ground).await;
    a_fleet_is_dispatched(&ground).await;

    ground.helm(&["upgrade", RELEASE, &chart(), "--values", &ground.values(6)]);
    ground.until_ready().await;
    let second = ground.pod().await;
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"], "it reads what is new");
    assert!(ground.journal.path().join("jitney.db").is_file(), "the journal is on the claim");

    ground.helm(&["uninstall", RELEASE]);
    let until = Instant::now() + PATIENCE;
    while !ground.left().await.trim().is_empty() {
        assert!(Instant::now() < until, "there is still {}", ground.left().await);
        sleep(Duration::from_millis(200)).await;
    }
    kubectl(ground.plane, &["delete", "persistentvolume", &ground.own]).await;
}

/// With the real agent, and nothing but what the Role for jobs allows. That all of it is needed is
/// the backend's own test.
async fn a_job_runs_in_a_pod(ground: &Ground) {
    let jobs = ground.build("steps: [{ command: 'echo in a pod' }]");
    let ended = ground.ended(&jobs).await;
    assert!(ended.iter().all(|job| job.outcome.is_success()), "{ended:#?}");
    let (asked, allowed) = (ground.asked(&ground.jobs), ground.allowed(&ground.jobs).await);
    assert!(asked.contains("create jobs") && asked.contains("create secrets"), "{asked:?}");
    assert!(asked.is_subset(&allowed), "{asked:?} is more than {allowed:?}");
}

/// It copies the template, and asks why the pods do not come, which needs every right that it has but
/// for `doctor`'s own.
async fn a_fleet_is_dispatched(ground: &Ground) {
    ground.build("steps: [{ command: 'echo 1', parallelism: 3, agents: { queue: stateless } }]");
    let until = Instant::now() + PATIENCE;
    let mut allowed = ground.allowed(&ground.fleet).await;
    assert!(allowed.remove("list resourcequotas"), "{allowed:?}");
    while ground.asked(&ground.fleet) != allowed {
        let asked = ground.asked(&ground.fleet);
        assert!(Instant::now() < until, "of {allowed:?} only {asked:?} is used");
        sleep(Duration::from_millis(100)).await;
    }
    let jobs = ["jobs", "--namespace", &ground.fleet, "--selector", "jitney.dev/fleet=stateless"];
    let made = ground.get(&jobs).await;
    assert_eq!(fields(&made, &["/items/0/spec/parallelism", "/items/1"]), "3 -");
}
