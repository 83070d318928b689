//! Machines are pods of a real control plane, run by the real agent: a pipeline, `kill -9`, and an
//! API server that is away. Every job runs once, and no Job, pod or Secret is left.

use std::path::Path;
use std::time::Duration;

use cluster::{ControlPlane, Images, Node, NodeOptions};
use sandbox::engine::{EventKind, NewStep};
use serde_json::json;
use tokio::time::sleep;

use super::parts;
use super::world::{World, each_ran_once};

struct Ground<'a> {
    plane: &'a ControlPlane,
    namespace: String,
    _node: Node,
    world: World,
}

impl<'a> Ground<'a> {
    async fn new(plane: &'a ControlPlane, name: &str, agent: &Path) -> Self {
        let namespace = plane.fresh_namespace(name).await.unwrap();
        let mut options = NodeOptions::named(&namespace);
        options.labels.insert("ground".to_owned(), namespace.clone());
        options.images = Images::default()
            .with("guest:test", env!("CARGO_BIN_EXE_jitney-guest"), guest::pod::IN_IMAGE)
            .with("agent:test", agent, "/usr/local/bin/buildkite-agent");
        let node = plane.join(options).await.unwrap();
        let mut world = World::new().await;
        let template = json!({ "spec": { "template": { "spec": {
            "nodeSelector": { "ground": namespace },
        } } } });
        let keys = json!({
            "kubeconfig": plane.kubeconfig(), "namespace": namespace, "image": "host:test",
            "agent_image": "agent:test", "guest_image": "guest:test", "template": template,
        });
        world.backends = format!("there: {{ kubernetes: {keys} }}");
        world.queue = "    defaults: { cpu: 0.1, memory: 128M }".to_owned();
        Self { plane, namespace, _node: node, world }
    }

    /// The garbage collector may still be at the last Secret.
    async fn nothing_is_left(&self) {
        let empty = self.plane.until_empty(&self.namespace, Duration::from_secs(60)).await;
        empty.unwrap_or_else(|error| panic!("{error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_of_30_jobs_in_pods() {
    let Some(agent) = parts::agent() else { return };
    let Some(plane) = ControlPlane::shared().await else { return };
    let ground = Ground::new(plane, "pipeline", &agent).await;
    let program = ground.world.start().await;
    let jobs = ground.world.build_steps(vec![NewStep::command("echo in a pod; hostname"); 30]);
    each_ran_once(&ground.world.ended(&jobs).await);
    program.at_rest().await;
    ground.nothing_is_left().await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_40_jobs_in_pods() {
    use EventKind::{Accepted, Finished, Reserved};
    let Some(agent) = parts::agent() else { return };
    let Some(plane) = ControlPlane::shared().await else { return };
    let mut ground = Ground::new(plane, "killed", &agent).await;
    ground.world.queue.push_str("\n    limits: { machines: 12 }");
    let jobs = ground.world.build_steps(vec![NewStep::command("sleep 1"); 40]);
    for (reached, kind) in [(1, Reserved), (5, Accepted), (20, Finished)] {
        let program = ground.world.start().await;
        ground.world.reached(&jobs, reached, kind).await;
        program.process.kill().await;
    }
    let program = ground.world.start().await;
    each_ran_once(&ground.world.ended(&jobs).await);
    program.at_rest().await;
    ground.nothing_is_left().await;
    program.stop().await;
}

/// The jobs that have ended, as soon as it is all of them; an outage takes longer than the rest.
async fn ended_in_the_end(world: &World, jobs: &[uuid::Uuid]) -> Vec<sandbox::engine::Job> {
    let all = world.sandbox.until(|engine| {
        let known: Vec<_> = jobs.iter().filter_map(|id| engine.job(*id)).collect();
        let over = known.iter().all(|job| job.state.is_terminal());
        over.then(|| known.into_iter().cloned().collect())
    });
    tokio::time::timeout(Duration::from_secs(400), all).await.unwrap()
}

/// As some of so many jobs have ended, the API server of a control plane of their own is away.
async fn outage(name: &str, count: usize, away: impl AsyncFnOnce(&ControlPlane)) {
    let Some(agent) = parts::agent() else { return };
    // Not the one that others use.
    if ControlPlane::shared().await.is_none() {
        return;
    }
    let plane = ControlPlane::start().await.unwrap();
    let mut ground = Ground::new(&plane, name, &agent).await;
    ground.world.queue.push_str("\n    limits: { machines: 30 }");
    let program = ground.world.start().await;
    let jobs = ground.world.build_steps(vec![NewStep::command("sleep 0.5"); count]);
    ground.world.reached(&jobs, 30, EventKind::Finished).await;
    away(&plane).await;
    each_ran_once(&ended_in_the_end(&ground.world, &jobs).await);
    program.at_rest().await;
    ground.nothing_is_left().await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_for_a_minute_in_the_middle_of_200_jobs() {
    outage("away", 200, async |plane| {
        plane.stop_api_server().await.unwrap();
        sleep(Duration::from_secs(60)).await;
        plane.start_api_server().await.unwrap();
    })
    .await;
}

/// For longer than Jitney waits for an answer. What it asked for is done after that.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_takes_every_call_and_answers_none() {
    outage("frozen", 80, async |plane| {
        plane.freeze().unwrap();
        sleep(Duration::from_secs(25)).await;
        plane.thaw().unwrap();
    })
    .await;
}
