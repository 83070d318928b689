//! The stage whose machines are pods: a Buildkite in this process, a real control plane with one
//! node whose agents are played, and `jitney run` under a Role of its own. All share all cores.
//! Times come from the sandbox and from the API server's audit log.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backends::kubernetes::RIGHTS;
use cluster::{Call, ControlPlane, Controllers, Images, Node, NodeOptions, Outcome, Played, Tail};
use guest::pod::{ORDERS_VAR, PodOrders, TOKEN_VAR};
use jiff::Timestamp;
use jitney::clock::process_now;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use planner::{JobId, MachineName};
use sandbox::Sandbox;
use sandbox::player::{self, Milestone, Orders, Wire};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Done;
use crate::process::Process;
use crate::stage::{buildkite, configure, free_address, ready, run, until, until_within};

/// The configuration's `name`, which is usual.
const MARK: &str = "jitney";
const ACCOUNT: &str = "jitney";
const IMAGE: &str = "play:bench";
/// Where machines' programs come from, as is usual.
const PROGRAMS: [&str; 2] = ["jitney/guest:latest", "buildkite/agent:3"];
/// Longer than any run.
const NEVER: Duration = Duration::from_secs(24 * 3_600);
/// The garbage collector takes thousands of pods one by one.
const EMPTIED: Duration = Duration::from_secs(900);
/// What the controllers still do after everything of a run is gone.
const SETTLED: Duration = Duration::from_secs(2);

/// What the pods' agents do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agents {
    /// Pods are bound to the node, and nothing in them begins.
    NeverBegin,
    /// Each plays its job, until it is told to leave.
    Play,
}

/// A control plane, for the runs of one figure.
pub(crate) struct Ground {
    _node: Node,
    plane: ControlPlane,
    client: Client,
    leave: CancellationToken,
}

/// A namespace for one run, and who works there.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) namespace: String,
    pub(crate) kubeconfig: PathBuf,
    user: String,
    log: Tail,
    calls: Vec<Call>,
}

/// A room, a Buildkite, and the program that works for it.
#[derive(Debug)]
pub(crate) struct Pods {
    /// Ends before the world does.
    pub(crate) program: Process,
    pub(crate) sandbox: Sandbox,
    pub(crate) room: Room,
    _folder: TempDir,
}

impl Ground {
    pub(crate) async fn set(controllers: Controllers, agents: Agents) -> Done<Self> {
        let plane = ControlPlane::start_with(controllers).await?;
        let leave = CancellationToken::new();
        let mut options = NodeOptions::named("everywhere");
        let room =
            [("cpu", "1M"), ("memory", "1Pi"), ("ephemeral-storage", "1Pi"), ("pods", "100k")];
        options.capacity =
            room.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
        options.images = images(&leave)?;
        options.start_delay = match agents {
            Agents::NeverBegin => NEVER,
            Agents::Play => Duration::ZERO,
        };
        let node = plane.join(options).await?;
        let client = plane.client().await?;
        Ok(Self { _node: node, plane, client, leave })
    }

    pub(crate) async fn room(&self) -> Done<Room> {
        let namespace = self.plane.fresh_namespace("bench").await?;
        let rule = |right: &backends::kubernetes::Right| PolicyRule {
            api_groups: Some(vec![right.group.to_owned()]),
            resources: Some(vec![right.resource.to_owned()]),
            verbs: right.verbs.iter().map(|&verb| verb.to_owned()).collect(),
            ..PolicyRule::default()
        };
        let rules = RIGHTS.iter().map(rule).collect();
        let kubeconfig = self.plane.service_account(&namespace, ACCOUNT, rules).await?;
        let mut log = self.plane.audit_from_start();
        // What was before is of other rooms.
        log.more()?;
        let user = format!("system:serviceaccount:{namespace}:{ACCOUNT}");
        Ok(Room { namespace, kubeconfig, user, log, calls: Vec::new() })
    }

    pub(crate) async fn pods(&self) -> Done<Pods> {
        let (folder, listen) = (tempfile::tempdir()?, free_address().await?);
        let (sandbox, room) = (buildkite(None).await?, self.room().await?);
        let keys =
            json!({ "kubeconfig": room.kubeconfig, "namespace": room.namespace, "image": IMAGE });
        configure(folder.path(), &listen, &sandbox, "", &format!("kubernetes: {keys}"))?;
        let program = Process::start(run(folder.path())?)?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        ready(&http, &format!("http://{listen}")).await?;
        Ok(Pods { program, sandbox, room, _folder: folder })
    }

    /// All agents leave, whatever their jobs would still take.
    pub(crate) fn leave(&self) {
        self.leave.cancel();
    }

    /// Waits until nothing of a room is left, so that nothing of it is still done in the next.
    pub(crate) async fn clear(&self, room: Room) -> Done<()> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &room.namespace);
        // The API server deletes one after the other, and breaks a call off after a minute; what it
        // has deleted by then is gone.
        let (all, any) = (ListParams::default(), ListParams::default().limit(1));
        until_within(EMPTIED, "a namespace without Jobs", async || {
            if let Err(error) = jobs.delete_collection(&DeleteParams::background(), &all).await {
                eprintln!("{} is not emptied by one call: {error}", room.namespace);
            }
            Ok(jobs.list_metadata(&any).await?.items.is_empty())
        })
        .await?;
        self.until_empty(&room).await?;
        sleep(SETTLED).await;
        Ok(())
    }

    pub(crate) async fn until_empty(&self, room: &Room) -> Done<()> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &room.namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &room.namespace);
        let any = ListParams::default().limit(1);
        until_within(EMPTIED, "an empty namespace", async || {
            Ok(jobs.list_metadata(&any).await?.items.is_empty()
                && pods.list_metadata(&any).await?.items.is_empty())
        })
        .await
    }
}

impl Room {
    /// Reads on in the log.
    pub(crate) fn look(&mut self) -> Done<()> {
        let here = self.log.more()?.into_iter().filter(|call| {
            let theirs = call.user == "controllers" && call.resource == "pods";
            call.namespace == self.namespace && (call.user == self.user || theirs)
        });
        self.calls.extend(here);
        Ok(())
    }

    /// Waits for so many Jobs.
    pub(crate) async fn until_jobs(&mut self, count: usize) -> Done<()> {
        until(&format!("{count} Jobs"), async || {
            self.look()?;
            Ok(self.made("jobs").count() >= count)
        })
        .await
    }

    pub(crate) async fn until_pods(&mut self, count: usize) -> Done<()> {
        until(&format!("{count} pods"), async || {
            self.look()?;
            Ok(self.made("pods").count() >= count)
        })
        .await
    }

    /// The creates of a resource that were done; those of pods are the controllers'.
    pub(crate) fn made(&self, resource: &str) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| {
            call.verb == "create" && call.resource == resource && call.code == 201
        })
    }

    /// The deletes of Jobs that were done.
    pub(crate) fn deletes(&self) -> impl Iterator<Item = &Call> {
        self.ours()
            .filter(|call| call.verb == "delete" && call.resource == "jobs" && call.code == 200)
    }

    /// What Jitney has asked for, whatever came of it.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.user == self.user)
    }

    /// When each job's Job was there.
    pub(crate) fn made_at(&self) -> BTreeMap<&str, Timestamp> {
        self.made("jobs").map(|call| (&*call.name, call.answered_at)).collect()
    }
}

/// The name of a job's first machine, and so of its Job.
pub(crate) fn name(job: Uuid) -> String {
    MachineName::of(MARK, JobId(job), 1).to_string()
}

fn images(leave: &CancellationToken) -> Done<Images> {
    let (wire, leave) = (Arc::new(Wire::new()?), leave.clone());
    let play = move |played| agent(Arc::clone(&wire), leave.clone(), played);
    let bring = |_| async { Outcome::default() };
    let programs = PROGRAMS.iter().fold(Images::default(), |all, name| all.played(name, bring));
    Ok(programs.played(IMAGE, play))
}

/// What guest and agent do in a pod.
async fn agent(wire: Arc<Wire>, leave: CancellationToken, played: Played) -> Outcome {
    let orders = match orders(&played) {
        Ok(orders) => orders,
        Err(message) => return Outcome { code: 1, message },
    };
    let stop = played.stop.child_token();
    let heard = |milestone| {
        if milestone == Milestone::Connected {
            played.tell_ready();
        }
        std::ops::ControlFlow::Continue(())
    };
    let mut life = std::pin::pin!(player::play(&wire, &orders, process_now, &stop, heard));
    let outcome = tokio::select! {
        outcome = &mut life => outcome,
        () = leave.cancelled() => {
            stop.cancel();
            life.await
        }
    };
    let code = match outcome {
        player::Outcome::Finished => 0,
        player::Outcome::NotAcquired(_) => 27,
        player::Outcome::Failed(_) | player::Outcome::Stopped | player::Outcome::Died => 1,
    };
    Outcome { code, message: String::new() }
}

fn orders(played: &Played) -> Result<Orders, String> {
    let text = |name: &str| played.environment.get(name).ok_or(format!("{name} is not set"));
    let orders: PodOrders =
        serde_json::from_str(text(ORDERS_VAR)?).map_err(|error| error.to_string())?;
    Ok(Orders {
        endpoint: orders.endpoint,
        token: text(TOKEN_VAR)?.as_str().into(),
        job: orders.job,
        name: orders.agent_name,
        tags: orders.tags,
    })
}
