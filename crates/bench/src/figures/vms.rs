//! V1 and V2: jobs that become visible at one moment, on virtual machines of the sandbox's Google
//! Cloud: how soon the last insert is there where no rate holds it back, and whether any call is
//! refused where one does. The machines are states and nothing more, so no agent takes any time.

use std::time::Duration;

use jiff::Timestamp;
use sandbox::cloud::compute::{Rates, Settings};
use sandbox::cloud::{Cloud, Options};
use sandbox::{Fault, Sandbox};
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Measured, each, last, repeat, samples};
use crate::Done;
use crate::cores::Cores;
use crate::process::Process;
use crate::record::{Bound, Line, Statistic, Unit, float};
use crate::stage::{
    buildkite, cancel, configure, free_address, millis, new_jobs, ready, run, until,
};

/// V1: so many jobs, the last insert within so many milliseconds.
const AT_ONCE: usize = 1_000;
const LAST_INSERT_MS: f64 = 3_000.0;
/// V2: more than a minute lets through.
const PACED: usize = 1_500;
const WRITES: u32 = 1_200;
/// A rate that holds nobody back, for all kinds of calls.
const LIFTED: u32 = 1_000_000;
/// Of each call to the cloud, before and after it is handled.
const BEFORE_MS: u64 = 10;
const AFTER_MS: u64 = 10;
/// Two minutes of inserts, two of deletes, and as much again.
const PATIENCE: Duration = Duration::from_secs(480);
const INSERT: &str = "compute.instances.insert";
const TOO_MANY: [u16; 2] = [403, 429];

/// Buildkite, the cloud, and the program between the two; the program ends first.
struct Stage {
    program: Process,
    sandbox: Sandbox,
    cloud: Cloud,
    _folder: TempDir,
}

/// What came of one run.
#[derive(Debug)]
struct Burst {
    /// When each insert was there, in milliseconds.
    inserts: Vec<f64>,
    program_ms: f64,
    calls: f64,
    refused: f64,
}

pub(super) async fn at_once(cores: Cores, runs: usize) -> Done<Measured> {
    let runs = repeat(runs, || async {
        let stage = Stage::set(cores, LIFTED).await?;
        let (_, burst) = stage.burst(AT_ONCE).await?;
        stage.cloud.stop().await;
        Ok(burst)
    })
    .await?;
    let reach = [Bound::at_most(Statistic::Median, LAST_INSERT_MS)];
    let line = |what: &str, unit, reach: &[Bound], runs: &[Vec<f64>]| {
        Line::new(format!("{AT_ONCE} jobs: {what}"), unit, reach, runs)
    };
    let lasts = each(&runs, |run| last(&run.inserts));
    Ok(Measured::from(vec![
        line("the last insert", Unit::Millis, &reach, &lasts)?,
        line("each insert", Unit::Millis, &[], &samples(&runs, |run| &run.inserts))?,
        line("Jitney's processor time", Unit::Millis, &[], &each(&runs, |run| run.program_ms))?,
        line("calls to the cloud", Unit::Count, &[], &each(&runs, |run| run.calls))?,
    ]))
}

/// One run, which takes minutes and has nothing that varies: the rate is the clock's.
pub(super) async fn paced(cores: Cores) -> Done<Measured> {
    let stage = Stage::set(cores, WRITES).await?;
    let (jobs, burst) = stage.burst(PACED).await?;
    let (deleted, deletes) = stage.clear(&jobs).await?;
    stage.cloud.stop().await;
    let never = [Bound::at_most(Statistic::Worst, 0.0)];
    let line = |what: &str, unit, reach: &[Bound], value: f64| {
        let what = format!("{PACED} jobs at {WRITES} a minute: {what}");
        Line::new(what, unit, reach, &[vec![value]])
    };
    Ok(Measured::from(vec![
        line("refused calls", Unit::Count, &never, deletes.refused)?,
        line("the last insert", Unit::Seconds, &[], last(&burst.inserts) / 1000.0)?,
        line("cancelled → the last machine gone", Unit::Seconds, &[], deleted / 1000.0)?,
        line("calls to the cloud", Unit::Count, &[], deletes.calls)?,
    ]))
}

impl Stage {
    async fn set(cores: Cores, writes: u32) -> Done<Self> {
        let folder = tempfile::tempdir()?;
        let listen = free_address().await?;
        let sandbox = buildkite(None).await?;
        let cloud = cloud(writes).await?;
        let project = Settings::default().project;
        let backend = format!(
            "gce: {{ project: {project}, zones: [us-central1-a, us-central1-b, us-central1-c], \
             families: [n2, e2], image: projects/debian-cloud/global/images/family/debian-12, \
             subnetworks: {{ us-central1: projects/{project}/regions/us-central1/subnetworks/ci \
             }}, token_delivery: metadata, credentials: anonymous, writes: {writes}/m, endpoint: \
             \"{}\" }}",
            cloud.url()
        );
        let queue = ", defaults: { cpu: 2, memory: 8G, time: 20m }, start_timeout: 15m";
        configure(folder.path(), &listen, &sandbox, queue, &backend)?;
        let program = Process::measured(cores, run(folder.path())?)?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        ready(&http, &format!("http://{listen}")).await?;
        Ok(Self { program, sandbox, cloud, _folder: folder })
    }

    /// So many jobs at once, until each has its insert.
    async fn burst(&self, count: usize) -> Done<(Vec<Uuid>, Burst)> {
        let before = self.program.processor()?;
        let (jobs, at) = new_jobs(&self.sandbox, count, |_| 0.0)?;
        let wanted = u64::try_from(count)?;
        let all = self.cloud.until(|compute| (compute.counters().inserts >= wanted).then_some(()));
        let came = timeout(PATIENCE, all).await;
        came.map_err(|_| format!("{count} inserts: not within {PATIENCE:?}"))?;
        let program_ms = (self.program.processor()? - before) * 1000.0;
        // A call is in the log once it is answered.
        until("all inserts are answered", async || {
            let inserts = self.cloud.requests().iter().filter(|it| it.route == INSERT).count();
            Ok(inserts >= count)
        })
        .await?;
        Ok((jobs, self.reckoned(at, program_ms)))
    }

    /// Cancels all jobs; how long it takes until no machine is left, and what all calls came to.
    async fn clear(&self, jobs: &[Uuid]) -> Done<(f64, Burst)> {
        let at = cancel(&self.sandbox, jobs)?;
        let none = self.cloud.until(|compute| compute.instances().next().is_none().then_some(()));
        let gone = timeout(PATIENCE, none).await;
        gone.map_err(|_| format!("machines are left after {PATIENCE:?}"))?;
        Ok((millis(at, self.cloud.now()), self.reckoned(at, 0.0)))
    }

    fn reckoned(&self, at: Timestamp, program_ms: f64) -> Burst {
        let requests = self.cloud.requests();
        let inserts = requests.iter().filter(|request| request.route == INSERT);
        let refused = requests
            .iter()
            .filter(|request| request.status.is_some_and(|status| TOO_MANY.contains(&status)));
        Burst {
            inserts: inserts.map(|request| millis(at, request.at)).collect(),
            refused: float(refused.count()),
            calls: float(requests.len()),
            program_ms,
        }
    }
}

async fn cloud(writes: u32) -> Done<Cloud> {
    let settings = Settings { need_token: false, ..Settings::default() };
    let cloud = Cloud::start(Options { settings, ..Options::default() }).await?;
    let rates = if writes == LIFTED {
        let each = LIFTED;
        Rates {
            writes: each,
            reads: each,
            operation_reads: each,
            heavy_reads: each,
            serial_port_reads: each,
        }
    } else {
        Rates { writes, ..Rates::default() }
    };
    cloud.compute(|compute, _| compute.rates = rates);
    cloud.add_fault(Fault {
        route: "compute.*".to_owned(),
        delay_before_ms: BEFORE_MS,
        delay_after_ms: AFTER_MS,
        ..Fault::default()
    });
    Ok(cloud)
}
