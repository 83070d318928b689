//! The stage of one run: a Buildkite (the sandbox, in this process), machines (a process of their
//! own), `jitney run` (a third one, on a core of its own), each new. Times come from the first two.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use sandbox::engine::{Engine, NewBuild, NewStep, StepKind};
use sandbox::machines::Faults;
use sandbox::{Fault, Options, Sandbox, Webhook};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::Done;
use crate::cores::Cores;
use crate::process::{Process, jitney};

pub(crate) const TOKEN: &str = "bkct_bench";
const SECRET: &str = "bench";
const CONFIGURATION: &str = "jitney.yaml";
/// Of each call to Buildkite, before and after it is handled.
pub(crate) const TO_BUILDKITE_MS: u64 = 25;
/// Of each create and delete.
pub(crate) const TO_MACHINES_MS: u64 = 20;
/// Longer than anything here takes; reached only by a run that has failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often the machines' counters are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How one run differs from another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scene {
    pub(crate) webhook: bool,
    /// From a create to the agent's first call. Agents of many jobs at once may begin when the last
    /// create has long been sent: what they need of a processor is not ours.
    pub(crate) boot_delay_ms: u64,
}

/// Buildkite and machines, without anybody who works for them.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) machines: Process,
    pub(crate) machines_url: String,
    http: reqwest::Client,
    /// Where the program will answer.
    program_url: String,
    folder: TempDir,
}

/// The world, and the program that works for it.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Ends before the world does.
    pub(crate) program: Process,
    pub(crate) world: World,
    cores: Cores,
}

/// What the machines' service counts.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Counters {
    pub(crate) alive: usize,
    pub(crate) most_alive: usize,
    pub(crate) creates: usize,
    pub(crate) made: usize,
    pub(crate) deletes: usize,
    pub(crate) deleted: usize,
}

/// One create or delete, as the machines' service noted it.
#[derive(Debug, Deserialize)]
pub(crate) struct Noted {
    pub(crate) call: String,
    pub(crate) job: Option<Uuid>,
    pub(crate) at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) outcome: String,
}

impl Stage {
    /// Everything, with the program ready to work.
    pub(crate) async fn set(cores: Cores, scene: Scene) -> Done<Self> {
        let world = World::set(scene).await?;
        let program = world.start(cores)?;
        ready(&world.http, &world.program_url).await?;
        Ok(Self { world, program, cores })
    }

    /// Starts the program anew, after it was killed.
    pub(crate) fn restart(&mut self) -> Done<()> {
        self.program = self.world.start(self.cores)?;
        Ok(())
    }
}

impl World {
    pub(crate) async fn set(scene: Scene) -> Done<Self> {
        let folder = tempfile::tempdir()?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let listen = free_address().await?;
        let program_url = format!("http://{listen}");
        let hook = || Webhook { url: format!("{program_url}/webhook"), secret: SECRET.into() };
        let sandbox = buildkite(scene.webhook.then(hook)).await?;
        let command = jitney(&["sandbox", "machines", "--listen", "127.0.0.1:0"], folder.path())?;
        let served = |line: &str| Some(line.split_once("served at ")?.1.trim().to_owned());
        let (machines, machines_url) = Process::of_world(command, served)?;
        let faults = Faults {
            create_delay_ms: TO_MACHINES_MS,
            delete_delay_ms: TO_MACHINES_MS,
            boot_delay_ms: scene.boot_delay_ms,
            ..Faults::default()
        };
        let put = http.put(format!("{machines_url}/_machines/faults")).json(&faults);
        put.send().await?.error_for_status()?;
        let backend = format!("http: {{ url: \"{machines_url}\" }}");
        configure(folder.path(), &listen, &sandbox, "", &backend)?;
        Ok(Self { sandbox, machines, machines_url, http, program_url, folder })
    }

    fn start(&self, cores: Cores) -> Done<Process> {
        Process::measured(cores, run(self.folder.path())?)
    }

    pub(crate) async fn counters(&self) -> Done<Counters> {
        self.ask("counters").await
    }

    pub(crate) async fn log(&self) -> Done<Vec<Noted>> {
        self.ask("log").await
    }

    async fn ask<T: DeserializeOwned>(&self, what: &str) -> Done<T> {
        let reply = self.http.get(format!("{}/_machines/{what}", self.machines_url)).send().await?;
        Ok(reply.error_for_status()?.json().await?)
    }

    /// When the create for each job first arrived.
    pub(crate) async fn creates(&self) -> Done<BTreeMap<Uuid, Timestamp>> {
        let mut creates = BTreeMap::new();
        for noted in self.log().await?.into_iter().filter(|noted| noted.call == "create") {
            creates.entry(noted.job.ok_or("a create without a job")?).or_insert(noted.at);
        }
        Ok(creates)
    }

    pub(crate) async fn until_created(&self, count: usize) -> Done<()> {
        let what = format!("{count} creates");
        until(&what, async || Ok(self.counters().await?.creates >= count)).await
    }

    /// So many machines have been deleted, and none is left.
    pub(crate) async fn until_deleted(&self, count: usize) -> Done<()> {
        until(&format!("{count} deletes"), async || {
            let now = self.counters().await?;
            Ok(now.deleted >= count && now.alive == 0)
        })
        .await
    }

    /// As the function of that name.
    pub(crate) fn jobs(
        &self,
        count: usize,
        seconds: impl Fn(usize) -> f64,
    ) -> Done<(Vec<Uuid>, Timestamp)> {
        new_jobs(&self.sandbox, count, seconds)
    }

    /// Waits until all of them have ended.
    pub(crate) async fn ended(&self, jobs: &[Uuid]) -> Done<()> {
        let over = |engine: &Engine| {
            let over = |id: &Uuid| engine.job(*id).is_some_and(|job| job.state.is_terminal());
            jobs.iter().all(over).then_some(())
        };
        self.saw("the jobs end", over).await
    }

    /// Waits until the sandbox has seen it.
    pub(crate) async fn saw<T>(
        &self,
        what: &str,
        look: impl FnMut(&Engine) -> Option<T>,
    ) -> Done<T> {
        let seen = timeout(PATIENCE, self.sandbox.until(look)).await;
        seen.map_err(|_| format!("{what}: not within {PATIENCE:?}").into())
    }
}

/// A Buildkite that takes its time for each call.
pub(crate) async fn buildkite(webhook: Option<Webhook>) -> Done<Sandbox> {
    let mut options = Options::with_token(TOKEN);
    options.webhook = webhook;
    let sandbox = Sandbox::start(options).await?;
    sandbox.add_fault(Fault {
        route: "/v3/*".to_owned(),
        delay_before_ms: TO_BUILDKITE_MS,
        delay_after_ms: TO_BUILDKITE_MS,
        ..Fault::default()
    });
    Ok(sandbox)
}

/// Writes down what the program is to do: one queue, one backend, and nothing else that is not
/// usual.
pub(crate) fn configure(
    folder: &Path,
    listen: &str,
    sandbox: &Sandbox,
    queue: &str,
    backend: &str,
) -> Done<()> {
    let yaml = format!(
        "listen: {listen}\nlog: {{ level: warn }}\nbuildkite: {{ endpoint: \"{}\", token: \
         {TOKEN}, webhook_secret: {SECRET} }}\nstore: {{ journal: {} }}\nqueues: {{ default: {{ \
         backends: [there]{queue} }} }}\nbackends: {{ there: {{ {backend} }} }}\n",
        sandbox.endpoint(),
        folder.join("jitney.db").display(),
    );
    Ok(std::fs::write(folder.join(CONFIGURATION), yaml)?)
}

/// The program, with what was written down.
pub(crate) fn run(folder: &Path) -> Done<Command> {
    let config = folder.join(CONFIGURATION).display().to_string();
    jitney(&["--config", &config, "run"], folder)
}

pub(crate) async fn ready(http: &reqwest::Client, program_url: &str) -> Done<()> {
    until("jitney run is ready", async || {
        let reply = http.get(format!("{program_url}/readyz")).send().await;
        Ok(reply.is_ok_and(|reply| reply.status().is_success()))
    })
    .await
}

/// So many jobs that become visible now, each of which takes its agent so long.
pub(crate) fn new_jobs(
    sandbox: &Sandbox,
    count: usize,
    seconds: impl Fn(usize) -> f64,
) -> Done<(Vec<Uuid>, Timestamp)> {
    let steps = (0..count).map(|number| step(seconds(number))).collect();
    sandbox.engine(|engine, now| {
        let new = NewBuild { pipeline: "web".to_owned(), steps, ..NewBuild::default() };
        let build = engine.create_build(new, now).map_err(|refusal| refusal.to_string())?;
        let build = engine.build(build).ok_or("the build is gone")?;
        Ok((build.jobs().collect(), now))
    })
}

/// Cancels all of them, and says when that was.
pub(crate) fn cancel(sandbox: &Sandbox, jobs: &[Uuid]) -> Done<Timestamp> {
    sandbox.engine(|engine, now| {
        let cancels = jobs.iter().try_for_each(|job| engine.cancel_job(*job, now));
        cancels.map(|()| now).map_err(|refusal| refusal.to_string().into())
    })
}

fn step(seconds: f64) -> NewStep {
    let mut step = NewStep::command("play");
    if seconds > 0.0
        && let StepKind::Command(command) = &mut step.kind
    {
        command.env.insert("PLAY_SECONDS".to_owned(), seconds.to_string());
    }
    step
}

pub(crate) fn millis(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}

/// Looks again and again until it is so.
pub(crate) async fn until(what: &str, look: impl AsyncFnMut() -> Done<bool>) -> Done<()> {
    until_within(PATIENCE, what, look).await
}

pub(crate) async fn until_within(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Done<bool>,
) -> Done<()> {
    let end = Instant::now() + patience;
    while !look().await? {
        if Instant::now() > end {
            return Err(format!("{what}: not within {patience:?}").into());
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Free a moment ago: webhooks need to know it before the program listens.
pub(crate) async fn free_address() -> Done<String> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string())
}
