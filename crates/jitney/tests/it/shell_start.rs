//! A start that cannot work says why and ends; one that may work later keeps trying and says so.

use std::sync::Arc;
use std::time::Duration;

use backends::{Backend, Future, Listing, Order};
use jitney::assembly::{self, Reins};
use jitney::journal;
use jitney::run::{self, Error};
use reqwest::StatusCode;
use sandbox::engine::State;
use sandbox::{Fault, OutageKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::shell_support::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_ends_the_program() {
    let mut world = World::new().await;
    world.token = "bkct_wrong".into();
    let error = world.start().await.result().await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("buildkite.token") && !words.contains("bkct_wrong"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_cluster_ends_the_program() {
    let mut world =
        World::with(|options| options.settings.unclustered_token = Some("bkat_pool".into())).await;
    world.token = "bkat_pool".into();
    let error = world.start().await.result().await.unwrap_err();
    assert!(matches!(error, Error::Unclustered { .. }), "{error:?}");
    assert!(error.to_string().contains("agent token of a cluster"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_exist_ends_the_program() {
    let mut world = World::new().await;
    world.queues = "{ default: { backends: [there] }, nowhere: { backends: [there] } }".into();
    let error = world.start().await.result().await.unwrap_err();
    let Error::NoQueue { queue, .. } = &error else { panic!("{error:?}") };
    assert_eq!(queue, "nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_job_tokens_the_program_refuses_unless_it_is_told_to() {
    let mut world = World::with(|options| options.settings.job_tokens = false).await;
    let jobs = world.jobs(1);
    let error = world.start().await.result().await.unwrap_err();
    assert!(matches!(error, Error::NoJobTokens { .. }), "{error:?}");
    assert!(error.to_string().contains("job_tokens: optional"), "{error}");
    assert_eq!(world.counters().await.made, 0);

    world.buildkite = "  job_tokens: optional".into();
    let program = world.start().await;
    assert_eq!(world.ended(&jobs).await[0].state, State::Finished);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_buildkite_is_tried_until_it_is_there() {
    let world = World::new().await;
    let out = Fault { route: "/v3/*".into(), drop: true, ..Fault::default() };
    world.sandbox.add_fault(out);
    let jobs = world.jobs(1);
    let program = world.start().await;
    let failing = |snapshot: &jitney::api::Snapshot| {
        let failed = snapshot.counts.calls_failed.get("list").copied().unwrap_or_default();
        (failed >= 2).then_some(())
    };
    program.until("it has tried twice", failing).await;
    let (status, _) = program.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let missing = program.readiness().await.missing;
    assert!(missing.iter().any(|part| part.contains("queue default")), "{missing:?}");
    assert_eq!(program.get("/healthz").await.0, StatusCode::OK);

    world.sandbox.clear_faults();
    assert_eq!(world.ended(&jobs).await[0].state, State::Finished);
    program.until("it is ready", |snapshot| snapshot.missing.is_empty().then_some(())).await;
    assert_eq!(program.get("/readyz").await.0, StatusCode::OK);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_backend_is_named_and_waited_for() {
    let world = World::new().await;
    let faults = sandbox::machines::Faults { outage_ms: 3_000, ..Default::default() };
    world.set_faults(&faults).await;
    let jobs = world.jobs(1);
    let program = world.start().await;
    let waiting =
        program.until("the job waits", |snapshot| snapshot.waiting.first().cloned()).await;
    assert_eq!(waiting.id.0, jobs[0]);
    assert!(waiting.text.contains("there"), "{}", waiting.text);
    assert!(!program.readiness().await.ready);
    assert_eq!(world.ended(&jobs).await[0].state, State::Finished);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let mut world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    world.listen = address.to_string();
    let error = world.try_start().await.err().unwrap();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.to_string().contains("listen"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_program_with_the_same_journal_is_refused() {
    let world = World::new().await;
    let first = world.start().await;
    let error = world.start().await.result().await.unwrap_err();
    let in_use = matches!(error, Error::Journal(journal::Error::InUse { .. }));
    assert!(in_use, "{error:?}");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_outage_holds_jobs_and_loses_none() {
    let world = World::new().await;
    let program = world.start().await;
    program.until("it is ready", |snapshot| snapshot.missing.is_empty().then_some(())).await;
    world.sandbox.begin_outage(OutageKind::Drop, PATIENCE);
    let jobs = world.jobs(3);
    program.until("the outage is noticed", |snapshot| snapshot.buildkite_failing_since).await;
    assert_eq!(program.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(program.readiness().await.missing, ["Buildkite cannot be reached"]);
    assert_eq!(program.get("/healthz").await.0, StatusCode::OK, "a restart would not help");
    world.sandbox.clear_faults();
    let ended = world.ended(&jobs).await;
    assert!(ended.iter().all(|job| job.outcome.is_success()));
    program
        .until("it is over", |snapshot| snapshot.buildkite_failing_since.is_none().then_some(()))
        .await;
    assert!(program.readiness().await.ready);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_later_is_an_alarm_and_heals() {
    let world = World::new().await;
    let program = world.start().await;
    program.until("it is ready", |snapshot| snapshot.missing.is_empty().then_some(())).await;
    let revoked = Fault { route: "/v3/stacks/*".into(), status: Some(401), ..Fault::default() };
    world.sandbox.add_fault(revoked);
    program
        .until("the alarm", |snapshot| {
            snapshot.alarms.iter().find(|alarm| alarm.kind == "unauthorized").cloned()
        })
        .await;
    world.sandbox.clear_faults();
    let jobs = world.jobs(1);
    assert_eq!(world.ended(&jobs).await[0].state, State::Finished);
    program.until("it is over", |snapshot| snapshot.alarms.is_empty().then_some(())).await;
    program.stop().await;
}

/// A backend with a fault: its creates panic.
#[derive(Debug)]
struct Broken {
    /// Whether its listings are whole.
    complete: bool,
}

impl Backend for Broken {
    fn list(&self) -> Future<'_, Result<Listing, backends::Error>> {
        Box::pin(async { Ok(Listing { machines: Vec::new(), complete: self.complete }) })
    }

    fn changed(&self) -> Future<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn list_every(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn create<'a>(&'a self, _: &'a Order) -> Future<'a, Result<(), backends::Error>> {
        Box::pin(async { panic!("planted") })
    }

    fn delete<'a>(&'a self, _: &'a str) -> Future<'a, Result<(), backends::Error>> {
        Box::pin(async { Ok(()) })
    }
}

/// Runs with that backend in the place of the world's own.
async fn run_with(world: &World, broken: Broken) -> Running {
    let (reload, reloads) = mpsc::channel(1);
    let shutdown = CancellationToken::new();
    let reins = Reins { shutdown: shutdown.clone(), reloads };
    let mut options =
        assembly::assemble(&world.config(), &world.place(), reins).await.expect("all is there");
    let broken: Arc<dyn Backend> = Arc::new(broken);
    options.backends.values_mut().for_each(|backend| *backend = Arc::clone(&broken));
    let url = format!("http://{}", options.listener.local_addr().expect("it is bound"));
    Running { url, shutdown, _reload: reload, task: tokio::spawn(run::run(options)) }
}

struct Running {
    url: String,
    shutdown: CancellationToken,
    _reload: mpsc::Sender<jitney::settings::Settings>,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Running {
    async fn ended(self) -> Result<(), Error> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").expect("no panic")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_panics_ends_the_program_and_is_not_under_way_for_ever() {
    let world = World::new().await;
    world.jobs(1);
    let ended = run_with(&world, Broken { complete: true }).await.ended().await;
    assert!(matches!(ended, Err(Error::Bug { .. })), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_is_never_whole_is_told() {
    let world = World::new().await;
    world.jobs(1);
    let running = run_with(&world, Broken { complete: false }).await;
    let url = format!("{}/api/status", running.url);
    let look = async {
        loop {
            let reply = world.http.get(&url).send().await.unwrap();
            let snapshot: jitney::api::Snapshot = reply.json().await.unwrap();
            if let Some(waiting) = snapshot.waiting.into_iter().next() {
                break (waiting.text, snapshot.missing);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (text, missing) = tokio::time::timeout(PATIENCE, look).await.expect("the job waits");
    assert!(text.contains("cannot be read"), "{text}");
    assert!(missing.iter().any(|part| part.contains("cannot be read")), "{missing:?}");
    running.shutdown.cancel();
    running.ended().await.unwrap();
}
