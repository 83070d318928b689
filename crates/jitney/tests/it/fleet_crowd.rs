//! A fleet on a real control plane, with real agents in its pods: a crowd of jobs, a node that is
//! lost, and nothing left after. `make demo-fleet` shows it with more jobs, as it goes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jitney::api;
use jitney::config::process_environment;
use sandbox::engine::State;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::fleet_ground::{Ground, LONG, rules};
use crate::shell_fleet::fleet_alone;
use crate::shell_process::agents;
use crate::shell_support::{Program, World};

/// How many jobs, where nobody asks for more.
const JOBS: usize = 60;
/// Pods at the most.
const MAX: u32 = 24;
/// So many of the jobs that have ended make a line of the story.
const TOLD_EVERY: usize = 20;

/// What was seen of a fleet while its jobs ran, told as it goes.
#[derive(Debug)]
struct Story {
    began: Instant,
    holds: BTreeSet<String>,
    /// Agents by dispatch.
    dispatches: BTreeMap<String, u32>,
    most_pods: u32,
    /// The hold that was told last, and the dispatch that it waits for.
    hold: (Option<String>, Option<String>),
    ended: usize,
}

impl Story {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            holds: BTreeSet::new(),
            dispatches: BTreeMap::new(),
            most_pods: 0,
            hold: (None, None),
            ended: 0,
        }
    }

    fn tell(&self, text: &str) {
        println!("{:6.1}s  {text}", self.began.elapsed().as_secs_f64());
    }

    fn adds(&mut self, fleet: &api::Fleet) {
        self.holds.extend(fleet.hold.clone());
        for dispatch in &fleet.dispatches {
            if self.dispatches.insert(dispatch.id.clone(), dispatch.agents).is_none() {
                let sized_on = dispatch.sized_on.clone().unwrap_or_default();
                self.tell(&format!(
                    "dispatch {} of {} agents ({sized_on})",
                    dispatch.id, dispatch.agents
                ));
            }
        }
        let hold = (fleet.hold.clone(), fleet.awaited_dispatch_id.clone());
        if fleet.hold.is_some() && self.hold != hold {
            self.tell(&fleet.text);
            self.hold = hold;
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
            if ended / TOLD_EVERY > self.ended / TOLD_EVERY {
                let (pods, all) = (fleet.pods_online.unwrap_or(0), jobs.len());
                self.tell(&format!("{ended} of {all} jobs have ended; {pods} pods are online"));
                self.ended = ended;
            }
            if ended >= count {
                return;
            }
            assert!(Instant::now() < until, "{ended} of {count} have ended: {fleet:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// As many as `JITNEY_FLEET_JOBS` says.
fn wanted() -> usize {
    let told = process_environment("JITNEY_FLEET_JOBS").filter(|text| !text.is_empty());
    told.map_or(JOBS, |text| text.parse().unwrap())
}

async fn world(ground: &Ground, fleet: &str) -> World {
    let world = fleet_alone(&ground.kubeconfig, &ground.namespace, fleet).await;
    ground.template(&world.sandbox.endpoint(), |_| ()).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_jobs_gets_agents_and_a_lost_node_costs_its_own_alone() {
    let Some(agent) = agents().into_iter().next() else { return };
    let Some(mut ground) = Ground::new("fleet", &agent, rules(false)).await else { return };
    let fleet = format!(
        "agents: {{ max: {MAX}, buffer: 2 }}\n    poll: 1s\n    ttl: 2s\n    \
         cooldown: {{ ready: 80%, at_most: 60s }}"
    );
    let world = world(&ground, &fleet).await;
    let program = world.start().await;
    let count = wanted();
    let mut story = Story::new();
    story.tell(&format!("{count} jobs arrive; the fleet has {MAX} pods at the most"));
    let jobs = world.jobs(count);
    story.until_ended(&world, &program, &jobs, count / 5).await;
    let node = ground.nodes.pop().unwrap();
    story.tell(&format!("node {} is lost, with the pods that run there", node.name()));
    node.remove().await.unwrap();
    // Who comes next has it all from the cluster.
    program.crash().await;
    story.tell("Jitney is killed, and started again");
    let program = world.start().await;
    story.until_ended(&world, &program, &jobs, count).await;
    let passed = world.sandbox.engine(|engine, _| {
        let jobs = jobs.iter().filter_map(|id| engine.job(*id));
        jobs.filter(|job| job.state == State::Finished && job.outcome.exit_status == Some(0))
            .count()
    });
    let lost = count - passed;
    story.tell(&format!("{passed} jobs have passed, and {lost} were lost with the node"));
    ground.nothing_left().await;
    story.tell("nothing is left: no Job of the fleet, and no pod");
    assert!(story.holds.contains("cooldown"), "{story:#?}");
    assert!(story.most_pods <= MAX && story.dispatches.len() >= 3, "{story:#?}");
    // What ran on the lost node is lost; the rest is not.
    assert!(lost <= usize::try_from(MAX).unwrap(), "{passed} of {count}; {story:#?}");
    program.stop().await;
    ground.check_calls(story.dispatches.keys());
}
