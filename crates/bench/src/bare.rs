//! A bare loop of the calls that a burst needs: list, reserve, tokens, creates. It keeps nothing,
//! looks after nothing and survives nothing; it shows what the world itself takes, so that a figure
//! can be told from its floor.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use backends::http::{Http, Options as HttpOptions};
use backends::{Backend, Hardware, Labels, Order, Resources};
use buildkite::wire::RegisterStack;
use buildkite::{Client, Options, Paging, StackClient, TokenSource};
use clap::Args;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::Done;
use crate::cores::Cores;
use crate::process::Process;
use crate::stage::{TOKEN, World};

pub(crate) const KEY: &str = "bare";
const QUEUE: &str = "default";
const LEASE: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(3_600);
/// A queue that has jobs may be listed ten times a second.
const LIST_EVERY: Duration = Duration::from_millis(100);
/// Creates under way at a time, as many as Jitney's.
const LANE: usize = 64;

/// What the loop is started with, in a process of its own.
#[derive(Args, Debug)]
pub(crate) struct Bare {
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    machines: String,
    /// Ends after so many creates
    #[arg(long)]
    count: usize,
}

/// On the core where Jitney would be.
pub(crate) fn start(cores: Cores, world: &World, count: usize) -> Done<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare", "--count", &count.to_string()]);
    command.args(["--endpoint", &world.sandbox.endpoint(), "--machines", &world.machines_url]);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    Process::measured(cores, command)
}

/// It is ready for jobs once its stack is known.
pub(crate) async fn until_registered(world: &World) -> Done<()> {
    world.saw("the bare loop registers", |engine| engine.stacks().next().map(|_| ())).await
}

pub(crate) async fn run(bare: Bare) -> Done<()> {
    let client =
        Client::new(Options::new(bare.endpoint.as_str(), TokenSource::Fixed(TOKEN.into())))?;
    let register = RegisterStack {
        key: KEY.to_owned(),
        kind: "custom".to_owned(),
        queue_key: QUEUE.to_owned(),
        metadata: BTreeMap::new(),
    };
    client.register(&register).await?;
    let stack = client.stack(KEY);
    let options = HttpOptions { url: bare.machines, token: None, mark: KEY.to_owned() };
    let maker = Maker {
        http: Arc::new(Http::new(options)?),
        lane: Arc::new(Semaphore::new(LANE)),
        endpoint: bare.endpoint,
    };
    let mut seen = BTreeSet::new();
    let mut calls = JoinSet::new();
    while seen.len() < bare.count {
        let next = Instant::now() + LIST_EVERY;
        let listing = stack.list_all(QUEUE, Paging::default()).await?;
        let new = listing.jobs.iter().map(|job| job.id).filter(|job| seen.insert(*job)).collect();
        calls.spawn(take(stack.clone(), maker.clone(), new));
        while let Some(ended) = calls.try_join_next() {
            ended?.map_err(|error| error.to_string())?;
        }
        sleep_until(next).await;
    }
    while let Some(ended) = calls.join_next().await {
        ended?.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[derive(Clone)]
struct Maker {
    http: Arc<Http>,
    lane: Arc<Semaphore>,
    endpoint: String,
}

/// From jobs that are listed to the answers to their creates.
async fn take(stack: StackClient, maker: Maker, jobs: Vec<Uuid>) -> Result<(), String> {
    if jobs.is_empty() {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let reserved = stack.reserve(&jobs, LEASE).await.into_result().map_err(|e| failed(&e))?;
    let tokens = stack.issue_tokens(&reserved.reserved, LEASE).await;
    let tokens = tokens.into_result().map_err(|error| failed(&error))?;
    let mut creates = JoinSet::new();
    for token in tokens.issued {
        let maker = maker.clone();
        creates.spawn(async move {
            let _turn = maker.lane.acquire().await.map_err(|error| error.to_string())?;
            let order = order(token.job, token.token, &maker.endpoint);
            maker.http.create(&order).await.map_err(|error| error.to_string())
        });
    }
    while let Some(created) = creates.join_next().await {
        created.map_err(|error| failed(&error))??;
    }
    Ok(())
}

pub(crate) fn order(job: Uuid, token: SecretString, endpoint: &str) -> Order {
    let name = format!("{KEY}-{job}");
    Order {
        name: name.clone(),
        request_id: Uuid::new_v5(&job, b"create"),
        labels: Labels {
            mark: KEY.into(),
            instance: KEY.into(),
            job,
            attempt: 1,
            queue: QUEUE.into(),
            dispatch_id: KEY.into(),
            cpu_millis: 1_000,
            memory_bytes: 1 << 30,
        },
        resources: Resources {
            cpu_millis: 1_000,
            memory_bytes: 1 << 30,
            disk_bytes: None,
            local_ssds: 0,
        },
        place: String::new(),
        machine_type: String::new(),
        spot: false,
        vm: None,
        hardware: Hardware::default(),
        deadline: DEADLINE,
        endpoint: endpoint.to_owned(),
        token,
        agent_name: name,
        agent_tags: vec![format!("queue={QUEUE}")],
        image: None,
        no_rights: false,
    }
}
