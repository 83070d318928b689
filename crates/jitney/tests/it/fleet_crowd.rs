//! A fleet on a real control plane, with real agents in its pods: a crowd of jobs, a node that is
//! lost, and nothing left after.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use cluster::{ControlPlane, Images, Node, NodeOptions};
use jitney::api;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Api;
use kube::api::{ListParams, PostParams};
use sandbox::engine::State;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::shell_fleet::fleet_alone;
use crate::shell_process::agents;
use crate::shell_support::{Program, TOKEN, World};

/// Two computers' worth of agents start at once, on what may be two cores.
const LONG: Duration = Duration::from_secs(300);
const IMAGE: &str = "buildkite/agent:test";

/// A namespace of a real cluster with two nodes, the template, and what Jitney may do there.
struct Ground {
    plane: &'static ControlPlane,
    client: kube::Client,
    namespace: String,
    nodes: Vec<Node>,
    kubeconfig: std::path::PathBuf,
}

/// What `docs/fleets.md` says that Jitney needs.
fn rules() -> Vec<PolicyRule> {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|text| (*text).to_owned()).collect()),
        verbs: verbs.iter().map(|text| (*text).to_owned()).collect(),
        ..PolicyRule::default()
    };
    vec![
        rule("batch", &["jobs"], &["get", "list", "create"]),
        rule("", &["pods", "events"], &["list"]),
    ]
}

impl Ground {
    /// None where a part is absent, which has been said then.
    async fn new(name: &str, agent: &Path, rules: Vec<PolicyRule>) -> Option<Self> {
        let plane = ControlPlane::shared().await?;
        let namespace = plane.fresh_namespace(name).await.unwrap();
        let mut nodes = Vec::new();
        for at in ["a", "b"] {
            let mut options = NodeOptions::named(format!("{namespace}-{at}"));
            options.labels.insert("ground".to_owned(), namespace.clone());
            options.images = Images::default().with(IMAGE, agent, "/usr/local/bin/buildkite-agent");
            nodes.push(plane.join(options).await.unwrap());
        }
        let kubeconfig = plane.service_account(&namespace, "jitney", rules).await.unwrap();
        let client = plane.client().await.unwrap();
        Some(Self { plane, client, namespace, nodes, kubeconfig })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The template as somebody deploys it, and the Secret that it names.
    async fn template(&self, endpoint: &str, change: impl FnOnce(&mut Value)) {
        let secret = json!({ "metadata": { "name": "agent" }, "stringData": { "token": TOKEN } });
        let secret: Secret = serde_json::from_value(secret).unwrap();
        self.api().create(&PostParams::default(), &secret).await.unwrap();
        let token = json!({ "secretKeyRef": { "name": "agent", "key": "token" } });
        let lost = |key: &str| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3 });
        let mut job = json!({
            "metadata": { "name": "agents", "labels": { "app": "agents" } },
            "spec": { "suspend": true, "template": { "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "nodeSelector": { "ground": self.namespace },
                "tolerations": [lost("node.kubernetes.io/unreachable"), lost("node.kubernetes.io/not-ready")],
                "containers": [{
                    "name": "agent", "image": IMAGE, "command": ["buildkite-agent", "start"],
                    "env": [
                        { "name": "BUILDKITE_AGENT_TOKEN", "valueFrom": token },
                        { "name": "BUILDKITE_AGENT_ENDPOINT", "value": endpoint },
                        { "name": "BUILDKITE_BUILD_PATH", "value": "/tmp/builds" },
                        { "name": "BUILDKITE_PLUGINS_PATH", "value": "/tmp/plugins" },
                        // The stand-in for a kubelet gives no terminals.
                        { "name": "BUILDKITE_NO_PTY", "value": "true" },
                    ],
                }],
            } } },
        });
        change(&mut job);
        let job: Job = serde_json::from_value(job).unwrap();
        self.api().create(&PostParams::default(), &job).await.unwrap();
    }

    async fn jobs(&self) -> Vec<Job> {
        let of_fleets = ListParams::default().labels("jitney.dev/fleet=stateless");
        self.api::<Job>().list(&of_fleets).await.unwrap().items
    }

    async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default()).await.unwrap().items
    }

    /// What we may do was done, and nothing else; each Job that we made bears a dispatch that was seen.
    fn check_calls(&self, story: &Story) {
        let ours = format!("system:serviceaccount:{}:jitney", self.namespace);
        let calls = self.plane.audit().unwrap();
        let calls: Vec<_> = calls.iter().filter(|call| call.user == ours).collect();
        assert!(calls.iter().all(|call| call.code < 400), "{calls:#?}");
        let used: BTreeSet<(&str, &str)> =
            calls.iter().map(|call| (call.verb.as_str(), call.resource.as_str())).collect();
        let may = ["get jobs", "list jobs", "create jobs", "list pods", "list events"];
        let may = may.iter().filter_map(|pair| pair.split_once(' ')).collect::<BTreeSet<_>>();
        assert_eq!(used, may);
        let made = calls.iter().filter(|call| call.verb == "create").map(|call| &call.name);
        let made: BTreeSet<String> = made.cloned().collect();
        let seen = story.dispatches.keys().map(|id| format!("stateless-{id}"));
        assert!(seen.collect::<BTreeSet<_>>().is_subset(&made), "{made:?} {story:#?}");
    }

    /// Until the cluster has neither Jobs nor pods of the fleet.
    async fn nothing_left(&self) {
        let until = Instant::now() + LONG;
        loop {
            let (jobs, pods) = (self.jobs().await, self.pods().await);
            if jobs.is_empty() && pods.is_empty() {
                return;
            }
            let jobs: Vec<_> = jobs.iter().map(|job| &job.status).collect();
            assert!(Instant::now() < until, "{} pods are left, of {jobs:#?}", pods.len());
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What was seen of a fleet while its jobs ran.
#[derive(Debug, Default)]
struct Story {
    holds: BTreeSet<String>,
    /// Agents by dispatch.
    dispatches: BTreeMap<String, u32>,
    most_pods: u32,
}

impl Story {
    fn adds(&mut self, fleet: &api::Fleet) {
        self.holds.extend(fleet.hold.clone());
        for dispatch in &fleet.dispatches {
            self.dispatches.insert(dispatch.id.clone(), dispatch.agents);
        }
        let pods = fleet.pods_online.unwrap_or(0) + fleet.pods_pending.unwrap_or(0);
        self.most_pods = self.most_pods.max(pods);
    }

    /// Watches until so many jobs have ended.
    async fn until_ended(&mut self, world: &World, program: &Program, jobs: &[Uuid], count: usize) {
        let until = Instant::now() + LONG;
        loop {
            let snapshot = program.status().await;
            let fleet = snapshot.fleets.first().unwrap();
            self.adds(fleet);
            let ended = world.sandbox.engine(|engine, _| {
                let jobs = jobs.iter().filter_map(|id| engine.job(*id));
                jobs.filter(|job| job.state.is_terminal()).count()
            });
            if ended >= count {
                return;
            }
            assert!(Instant::now() < until, "{ended} of {count} have ended: {fleet:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn world(ground: &Ground, fleet: &str) -> World {
    let world = fleet_alone(&ground.kubeconfig, &ground.namespace, fleet).await;
    ground.template(&world.sandbox.endpoint(), |_| ()).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_jobs_gets_agents_and_a_lost_node_costs_its_own_alone() {
    let Some(agent) = agents().into_iter().next() else { return };
    let Some(mut ground) = Ground::new("fleet", &agent, rules()).await else { return };
    let fleet = "agents: { max: 24, buffer: 2 }\n    poll: 1s\n    ttl: 2s\n    \
                 cooldown: { ready: 80%, at_most: 60s }";
    let world = world(&ground, fleet).await;
    let program = world.start().await;
    let count = 60;
    let jobs = world.jobs(count);
    let mut story = Story::default();
    story.until_ended(&world, &program, &jobs, 12).await;
    ground.nodes.pop().unwrap().remove().await.unwrap();
    // Who comes next has it all from the cluster.
    program.crash().await;
    let program = world.start().await;
    story.until_ended(&world, &program, &jobs, count).await;
    ground.nothing_left().await;
    let passed = world.sandbox.engine(|engine, _| {
        let jobs = jobs.iter().filter_map(|id| engine.job(*id));
        jobs.filter(|job| job.state == State::Finished && job.outcome.exit_status == Some(0))
            .count()
    });
    println!("{passed} of {count} passed; {story:#?}");
    assert!(story.holds.contains("cooldown"), "{story:#?}");
    assert!(story.most_pods <= 24 && story.dispatches.len() >= 3, "{story:#?}");
    // What ran on the lost node is lost; the rest is not.
    assert!(passed >= count - 24, "{passed} of {count}; {story:#?}");
    program.stop().await;
    ground.check_calls(&story);
}

/// Until the fleet has this alarm; its words.
async fn alarm(program: &Program, kind: &str) -> String {
    program
        .until(kind, |snapshot| {
            let alarm = snapshot.alarms.iter().find(|alarm| alarm.kind == kind)?;
            Some(alarm.text.clone())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_that_does_not_roll_out_says_why_and_is_told_of() {
    let Some(agent) = agents().into_iter().next() else { return };
    let Some(ground) = Ground::new("stuck", &agent, rules()).await else { return };
    let fleet = "agents: { max: 3 }\n    poll: 1s\n    cooldown: { at_most: 12s }";
    let world = fleet_alone(&ground.kubeconfig, &ground.namespace, fleet).await;
    ground
        .template(&world.sandbox.endpoint(), |job| {
            job["spec"]["template"]["spec"]["nodeSelector"] = json!({ "ground": "nowhere" });
        })
        .await;
    let program = world.start().await;
    world.jobs(2);
    let text = alarm(&program, "fleet_not_rolled_out").await;
    assert!(text.contains("of 2 agents 0 are online or done and 0 failed: 2 pods: 0/"), "{text}");
    assert!(text.contains("didn't match Pod's node affinity/selector"), "{text}");
    // Given up, others are dispatched in its place, and what is there counts.
    let fleet = program
        .until("the fleet is at its max", |snapshot| {
            let fleet = snapshot.fleets.first()?;
            (fleet.hold.as_deref() == Some("at_max")).then(|| fleet.clone())
        })
        .await;
    let agents: Vec<u32> = fleet.dispatches.iter().map(|dispatch| dispatch.agents).collect();
    assert_eq!(agents.iter().sum::<u32>(), 3, "{fleet:#?}");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_not_there_is_named_and_found_once_it_is() {
    let Some(agent) = agents().into_iter().next() else { return };
    let Some(ground) = Ground::new("late", &agent, rules()).await else { return };
    let fleet = "agents: { max: 3 }\n    poll: 1s";
    let world = fleet_alone(&ground.kubeconfig, &ground.namespace, fleet).await;
    let program = world.start().await;
    let jobs = world.jobs(1);
    let text = alarm(&program, "fleet_refused").await;
    assert!(text.contains("the template Job agents: jobs.batch \"agents\" not found"), "{text}");
    ground.template(&world.sandbox.endpoint(), |_| ()).await;
    let ended = world.ended(&jobs).await;
    assert_eq!(ended[0].outcome.exit_status, Some(0));
    program
        .until("nothing is wrong any more", |snapshot| snapshot.alarms.is_empty().then_some(()))
        .await;
    program.stop().await;
}
