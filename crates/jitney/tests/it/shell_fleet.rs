//! Fleets without any queue of ours: what is said while the cluster cannot be seen, and that nothing
//! is asked of Buildkite but counts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::Duration;

use jitney::assembly;
use jitney::config::Config;
use reqwest::{Method, StatusCode};
use sandbox::Sandbox;

use crate::shell_support::{Program, World};

/// A token of the agents that are in no cluster.
pub(crate) const UNCLUSTERED: &str = "planted_of_no_cluster";

/// A configuration with a fleet and nothing else.
pub(crate) async fn fleet_alone(kubeconfig: &Path, namespace: &str, fleet: &str) -> World {
    let soon = Duration::from_secs(15);
    let mut world = World::with(|options| {
        options.settings.timing.lost_after = soon;
        options.settings.unclustered_token = Some(UNCLUSTERED.to_owned());
    })
    .await;
    world.queues = "{}".into();
    world.backends = format!(
        "pods: {{ kubernetes: {{ kubeconfig: {}, namespace: {namespace} }} }}",
        kubeconfig.display()
    );
    world.more = format!(
        "fleets:\n  stateless:\n    queue: default\n    backend: pods\n    \
         template_from: {{ job: agents }}\n    active_deadline: 30m\n    idle_timeout: 30s\n    \
         {fleet}\n"
    );
    world
}

/// A cluster at which nobody listens.
pub(crate) fn nowhere(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
                clusters: [{ name: c, cluster: { server: 'http://127.0.0.1:9' } }]\n\
                users: [{ name: c, user: {} }]\n\
                contexts: [{ name: c, context: { cluster: c, user: c } }]\n";
    std::fs::write(&path, text).unwrap();
    path
}

async fn blind() -> (World, Program) {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = nowhere(folder.path());
    let mut world = fleet_alone(&kubeconfig, "ci", "agents: { max: 5 }\n    poll: 1s").await;
    world.folder = folder;
    let fleets = world.more.clone();
    world.with_access_token("let-me-write");
    world.more = format!("{}\n{fleets}", world.more);
    let program = world.start().await;
    (world, program)
}

fn stacks(sandbox: &Sandbox) -> usize {
    sandbox.engine(|engine, _| engine.stacks().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_be_seen_is_told_of_and_nothing_is_made() {
    let (world, program) = blind().await;
    world.jobs(3);
    let fleet = program
        .until("the queue is counted", |snapshot| {
            let fleet = snapshot.fleets.first()?;
            (fleet.queued == Some(3)).then(|| fleet.clone())
        })
        .await;
    assert_eq!(fleet.hold.as_deref(), Some("cluster_unknown"));
    assert!(fleet.text.starts_with("the cluster has not been seen: the API server"), "{fleet:?}");
    assert_eq!((fleet.dispatched, fleet.pods_online), (0, None));
    let missing = program.readiness().await.missing;
    assert_eq!(missing, ["the dispatches of fleet stateless have not been seen"]);
    let (_, metrics) = program.get("/metrics").await;
    for line in [
        "jitney_fleet_queued{fleet=\"stateless\"} 3",
        "jitney_fleet_holds{fleet=\"stateless\",reason=\"cluster_unknown\"} 1",
        "jitney_fleet_holds{fleet=\"stateless\",reason=\"cooldown\"} 0",
        "jitney_fleet_dispatches_total{fleet=\"stateless\"} 0",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("jitney_fleet_pods_online{"), "what is not known is no number");
    assert_eq!(stacks(&world.sandbox), 0, "a fleet registers no stack");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_draining_a_fleet_dispatches_nothing_and_says_so() {
    let (world, program) = blind().await;
    let held = async |reason: &str| {
        let is = |hold: &Option<String>| hold.as_deref() == Some(reason);
        let what = format!("the fleet is held: {reason}");
        program.until(&what, |seen| is(&seen.fleets.first()?.hold).then_some(())).await;
    };
    held("cluster_unknown").await;
    assert_eq!(program.call(Method::POST, "/api/drain", &[]).await.0, StatusCode::OK);
    held("draining").await;
    assert_eq!(program.call(Method::DELETE, "/api/drain", &[]).await.0, StatusCode::OK);
    held("cluster_unknown").await;
    program.stop().await;
    drop(world);
}

#[test]
fn a_fleets_options_are_what_the_configuration_says() {
    let yaml = "buildkite: { token: t }\n\
                backends: { pods: { kubernetes: { namespace: ci, context: prod } } }\n\
                fleets: { stateless: { queue: q, backend: pods, template_from: { job: agents },\n\
                tags: [os=linux], agents: { min: 1, max: 9, buffer: 2 }, active_deadline: 7h } }\n";
    let config = Config::parse("test.yaml", yaml, &|_| None).unwrap();
    assert!(config.unbuilt().is_empty(), "{:?}", config.unbuilt());
    let fleets = assembly::fleets(&config);
    let [fleet] = fleets.as_slice() else { panic!("one fleet: {fleets:?}") };
    assert_eq!((&*fleet.name, &*fleet.mark, &*fleet.queue), ("stateless", "jitney", "q"));
    assert_eq!((fleet.policy.min, fleet.policy.max, fleet.policy.buffer), (1, 9, 2));
    assert_eq!(fleet.policy.ready_permille, 500);
    assert_eq!(fleet.access.context.as_deref(), Some("prod"));
    assert_eq!(fleet.access.namespace.as_deref(), Some("ci"));
    assert_eq!(fleet.from, backends::fleet::From::Job("agents".into()));
}
