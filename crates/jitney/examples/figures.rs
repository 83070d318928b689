//! Measures `jitney run`, a process of its own beside this one, against a sandbox and machines that
//! this process plays. All times are taken in those two: from a job's being visible at Buildkite to
//! the arrival of the create for its machine. It prints figures and judges none of them.
//!
//! `cargo run --release --example figures [COUNT…]`, after `cargo build --release`. The counts are
//! of jobs at once.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use jitney::clock::process_now;
use sandbox::engine::{NewBuild, NewStep};
use sandbox::machines::{self, Faults, Machines};
use sandbox::{Fault, Options, Sandbox, Webhook};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::sleep;
use uuid::Uuid;

type Done<T> = Result<T, Box<dyn Error>>;

const TOKEN: &str = "bkct_figures";
const SECRET: &str = "figures";
/// Of each call to Buildkite, before and after it is handled.
const TO_BUILDKITE_MS: u64 = 25;
/// Of each create and delete.
const TO_MACHINES_MS: u64 = 20;
/// Agents of many jobs at once begin when the last create has long been sent: what they need of the
/// processors is not ours.
const BOOT_MS: u64 = 8_000;
/// Single jobs, one after the other.
const SINGLE: usize = 40;
const AT_ONCE: [usize; 2] = [1_000, 5_000];
/// How long the idle program is looked at.
const IDLE: Duration = Duration::from_secs(20);
const START: Duration = Duration::from_secs(30);
/// `_SC_CLK_TCK` on every Linux that there is.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main]
async fn main() -> Done<()> {
    buildkite::install_crypto_provider();
    let counts: Vec<usize> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let counts = if counts.is_empty() { AT_ONCE.to_vec() } else { counts };
    println!(
        "a call to Buildkite takes {TO_BUILDKITE_MS} ms before and after, to the machines \
         {TO_MACHINES_MS} ms; at {:.0}",
        process_now()
    );
    for webhook in [false, true] {
        let stage = Stage::set(webhook, 0).await?;
        if !webhook {
            stage.idle("idle").await?;
        }
        stage.single(if webhook { "with" } else { "without" }).await?;
    }
    for count in counts {
        let stage = Stage::set(false, BOOT_MS).await?;
        stage.at_once(count).await?;
        println!("  peak memory {}", stage.memory("VmHWM")?);
    }
    Ok(())
}

/// One program and the world that it works in.
struct Stage {
    sandbox: Sandbox,
    machines: Machines,
    http: reqwest::Client,
    program: Child,
    url: String,
    _folder: tempfile::TempDir,
}

#[derive(Deserialize)]
struct Noted {
    call: String,
    job: Option<Uuid>,
    at: Timestamp,
}

impl Stage {
    async fn set(webhook: bool, boot_delay_ms: u64) -> Done<Self> {
        let folder = tempfile::tempdir()?;
        let listen = free_address().await?;
        let mut options = Options::with_token(TOKEN);
        let url = format!("http://{listen}");
        options.webhook =
            webhook.then(|| Webhook { url: format!("{url}/webhook"), secret: SECRET.into() });
        let sandbox = Sandbox::start(options).await?;
        sandbox.add_fault(Fault {
            route: "/v3/*".to_owned(),
            delay_before_ms: TO_BUILDKITE_MS,
            delay_after_ms: TO_BUILDKITE_MS,
            ..Fault::default()
        });
        let faults = Faults {
            create_delay_ms: TO_MACHINES_MS,
            delete_delay_ms: TO_MACHINES_MS,
            boot_delay_ms,
            ..Faults::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let now = process_now;
        let machines = machines::serve(machines::Options { listener, token: None, faults, now })?;
        let config = folder.path().join("jitney.yaml");
        let journal = folder.path().join("jitney.db");
        let yaml = format!(
            "listen: {listen}\nlog: {{ level: warn }}\nbuildkite: {{ endpoint: \"{}\", token: \
             {TOKEN}, webhook_secret: {SECRET} }}\nstore: {{ journal: {} }}\nqueues: {{ default: {{ \
             backends: [there] }} }}\nbackends: {{ there: {{ http: {{ url: \"http://{}\" }} }} }}\n",
            sandbox.endpoint(),
            journal.display(),
            machines.address()
        );
        std::fs::write(&config, yaml)?;
        let program = start(&config, folder.path())?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let stage = Self { sandbox, machines, http, program, url, _folder: folder };
        stage.ready().await?;
        Ok(stage)
    }

    async fn ready(&self) -> Done<()> {
        let patience = tokio::time::Instant::now() + START;
        loop {
            let reply = self.http.get(format!("{}/readyz", self.url)).send().await;
            if reply.is_ok_and(|reply| reply.status().is_success()) {
                return Ok(());
            }
            if tokio::time::Instant::now() > patience {
                return Err("jitney run is not ready after 30 s".into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn build(&self, count: usize) -> Done<(Vec<Uuid>, Timestamp)> {
        self.sandbox.engine(|engine, now| {
            let steps = vec![NewStep::command("play"); count];
            let new = NewBuild { pipeline: "web".to_owned(), steps, ..NewBuild::default() };
            let build = engine.create_build(new, now).map_err(|refusal| refusal.to_string())?;
            let build = engine.build(build).ok_or("the build is gone")?;
            Ok((build.jobs().collect(), now))
        })
    }

    async fn ended(&self, jobs: &[Uuid]) {
        let all_over = |engine: &sandbox::engine::Engine| {
            let over = |id: &Uuid| engine.job(*id).is_some_and(|job| job.state.is_terminal());
            jobs.iter().all(over).then_some(())
        };
        self.sandbox.until(all_over).await;
    }

    /// When the create for each job first arrived.
    async fn creates(&self) -> Done<BTreeMap<Uuid, Timestamp>> {
        let url = format!("http://{}/_machines/log", self.machines.address());
        let log: Vec<Noted> = self.http.get(url).send().await?.json().await?;
        let mut creates = BTreeMap::new();
        for noted in log.into_iter().filter(|noted| noted.call == "create") {
            creates.entry(noted.job.ok_or("a create without a job")?).or_insert(noted.at);
        }
        Ok(creates)
    }

    async fn single(&self, webhook: &str) -> Done<()> {
        let mut visible = BTreeMap::new();
        for turn in 0..SINGLE {
            let (jobs, at) = self.build(1)?;
            self.ended(&jobs).await;
            visible.insert(jobs[0], at);
            // Spread over the pace of the listing, and past the time in which a queue is busy.
            let spread = u64::try_from(turn)? * 37 % 250;
            sleep(Duration::from_millis(300 + spread)).await;
        }
        let creates = self.creates().await?;
        let mut took = Vec::new();
        for (job, at) in &visible {
            took.push(millis(*at, *creates.get(job).ok_or("a job without a machine")?));
        }
        took.sort_by(f64::total_cmp);
        println!(
            "{SINGLE} single jobs {webhook} webhook, visible to create: p50 {:.0} ms, p90 {:.0} ms, \
             most {:.0} ms",
            took[SINGLE / 2],
            took[SINGLE * 9 / 10],
            took[SINGLE - 1]
        );
        Ok(())
    }

    async fn at_once(&self, count: usize) -> Done<()> {
        let (jobs, at) = self.build(count)?;
        self.ended(&jobs).await;
        let creates = self.creates().await?;
        let first = creates.values().min().ok_or("no machine")?;
        let last = creates.values().max().ok_or("no machine")?;
        println!(
            "{count} jobs at once, visible to create: first {:.0} ms, last {:.0} ms",
            millis(at, *first),
            millis(at, *last)
        );
        Ok(())
    }

    async fn idle(&self, what: &str) -> Done<()> {
        sleep(Duration::from_secs(2)).await;
        let before = self.processor_seconds()?;
        sleep(IDLE).await;
        let share = (self.processor_seconds()? - before) / IDLE.as_secs_f64();
        let memory = self.memory("VmRSS")?;
        println!("{what}: {memory}, {:.2} % of a core", share * 100.0);
        Ok(())
    }

    fn of_process(&self, file: &str) -> Done<String> {
        let pid = self.program.id().ok_or("jitney run has ended")?;
        Ok(std::fs::read_to_string(format!("/proc/{pid}/{file}"))?)
    }

    fn memory(&self, what: &str) -> Done<String> {
        let status = self.of_process("status")?;
        let line = status.lines().find(|line| line.starts_with(what)).ok_or("no such line")?;
        let kib = line.split_whitespace().nth(1).ok_or("no number")?.parse::<f64>()?;
        Ok(format!("{:.1} MiB", kib / 1024.0))
    }

    fn processor_seconds(&self) -> Done<f64> {
        let stat = self.of_process("stat")?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("an odd stat file")?;
        let field = |n: usize| fields.split(' ').nth(n).and_then(|text| text.parse::<f64>().ok());
        // The 14th and 15th of all: user and system time.
        let (user, system) = (field(11).ok_or("no time")?, field(12).ok_or("no time")?);
        Ok((user + system) / TICKS_PER_SECOND)
    }
}

fn millis(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}

/// Free a moment ago: webhooks need to know it before the program listens.
async fn free_address() -> Done<String> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string())
}

/// The program lies beside the folder of the examples.
fn start(config: &Path, home: &Path) -> Done<Child> {
    let own = std::env::current_exe()?;
    let folder: PathBuf = own.ancestors().nth(2).ok_or("no folder")?.to_owned();
    let program = folder.join("jitney");
    let mut command = Command::new(&program);
    command.arg("--config").arg(config).arg("run").env_clear().env("HOME", home);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let named = |error| format!("{}: {error}; build it first", program.display());
    Ok(command.kill_on_drop(true).spawn().map_err(named)?)
}
