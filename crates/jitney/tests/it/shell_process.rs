//! Jobs on this host, by the real agent, the newest and the oldest, through the whole program.

use std::path::PathBuf;
use std::time::Duration;

use jitney::api::JobPhase;
use jitney::config::process_environment;
use sandbox::engine::{Checkout, State};
use sandbox::{Repository, pipeline};

use crate::shell_support::{World, everything_in};

/// Both agents, as far as they are here. Where one is absent this says so, and fails where CI=true.
pub(crate) fn agents() -> Vec<PathBuf> {
    let found = [("JITNEY_AGENT_3_137", "3.137"), ("JITNEY_AGENT_3_52", "3.52")].map(
        |(variable, version)| {
            let told = process_environment(variable).filter(|path| !path.is_empty());
            let found = told.map(PathBuf::from).or_else(|| cached(version));
            if found.is_none() {
                let ci = process_environment("CI").as_deref() == Some("true");
                let how = format!("run `tools/real-parts agents` once or set {variable}");
                assert!(!ci, "buildkite-agent {version} is not here: {how}");
                eprintln!("NOT TESTED: buildkite-agent {version} is not here: {how}");
            }
            found
        },
    );
    found.into_iter().flatten().collect()
}

fn cached(version: &str) -> Option<PathBuf> {
    let set = |name: &str| process_environment(name).filter(|value| !value.is_empty());
    let cache = set("JITNEY_CACHE").map(PathBuf::from).or_else(|| {
        let base = set("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")));
        base.map(|base| base.join("jitney"))
    })?;
    let entries = std::fs::read_dir(cache.join("buildkite-agent")).ok()?;
    let of_version = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(version))
        .map(|entry| entry.path().join("buildkite-agent"));
    of_version.filter(|path| path.is_file()).max()
}

/// A world whose machines are processes with this agent.
async fn host(agent: &std::path::Path) -> World {
    let repository = Repository::create().expect("git is here");
    let url = repository.url();
    let mut world =
        World::with(|options| options.settings.checkout = Checkout::Repository(url)).await;
    world.repository = Some(repository);
    world.backends = format!(
        "there: {{ process: {{ agent: {}, directory: {} }} }}",
        agent.display(),
        world.folder.path().join("builds").display()
    );
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn real_agents_run_a_pipeline_with_a_machine_per_job() {
    for agent in agents() {
        let world = host(&agent).await;
        let program = world.start().await;
        let steps = "steps:\n  - { command: echo one, parallelism: 3 }\n  - wait\n  \
                     - { command: \"buildkite-agent meta-data set a b && exit 3\", soft_fail: true }\n";
        let jobs = world.build_steps(pipeline::from_yaml(steps).unwrap());
        let ended = world.ended(&jobs).await;
        assert!(ended.iter().all(|job| job.state == State::Finished), "{agent:?}: {ended:#?}");
        let exits: Vec<_> = ended.iter().map(|job| job.outcome.exit_status).collect();
        assert_eq!(exits, [Some(0), Some(0), Some(0), Some(3)], "{agent:?}");
        assert!(ended[0].log.text().contains("one"));
        program.at_rest().await;
        let history = program.history().await;
        assert_eq!(history.len(), 4);
        assert!(
            history.values().all(|closed| closed.attempts == 1 && closed.phases.gone.is_some())
        );
        program.stop().await;
        let machines = world.folder.path().join("builds").join("machines");
        assert_eq!(std::fs::read_dir(&machines).unwrap().count(), 0, "nothing is left");
        let kept = everything_in(world.folder.path());
        assert!(!String::from_utf8_lossy(&kept).contains("bkjat_"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_survives_a_crash_of_the_program() {
    for agent in agents() {
        let world = host(&agent).await;
        let program = world.start().await;
        let jobs = world.build("steps: [{ command: sleep 4 }]");
        program
            .until("it runs", |snapshot| {
                let runs = |job: &jitney::api::Job| job.phase == JobPhase::Acquired;
                snapshot.jobs.first().is_some_and(runs).then_some(())
            })
            .await;
        program.crash().await;
        let program = world.start().await;
        let ended = world.ended(&jobs).await;
        assert!(ended[0].outcome.is_success(), "{:#?}", ended[0]);
        program.at_rest().await;
        assert_eq!(program.history().await[&jobs[0]].attempts, 1);
        program.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_loses_its_process_at_once() {
    let Some(agent) = agents().into_iter().next() else { return };
    let world = host(&agent).await;
    let program = world.start().await;
    let jobs = world.build("steps: [{ command: sleep 300 }]");
    program
        .until("it runs", |snapshot| {
            let runs = |job: &jitney::api::Job| job.phase == JobPhase::Acquired;
            snapshot.jobs.first().is_some_and(runs).then_some(())
        })
        .await;
    world.sandbox.engine(|engine, now| engine.cancel_job(jobs[0], now).unwrap());
    let began = tokio::time::Instant::now();
    assert_eq!(world.ended(&jobs).await[0].state, State::Canceled);
    program.at_rest().await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_agent_holds_the_job_with_words_that_help() {
    let missing = "/nowhere/buildkite-agent";
    let world = host(std::path::Path::new(missing)).await;
    let program = world.start().await;
    let jobs = world.jobs(1);
    program
        .until("the operator sees why", |snapshot| {
            let waits = snapshot.jobs.first()?.waits.clone()?;
            waits.contains(missing).then_some(())
        })
        .await;
    let alarm = |snapshot: &jitney::api::Snapshot| {
        let failing = snapshot.backends.first()?.failing.clone()?;
        Some((failing, snapshot.alarms.first()?.text.clone()))
    };
    let (failing, text) = program.until("the backend shows it", alarm).await;
    assert!(failing.contains(missing), "{failing}");
    assert!(text.contains("setup") && text.contains(missing), "{text}");
    world
        .until("the developer is told", |engine| {
            let told = &engine.job(jobs[0])?.notifications;
            told.iter().any(|told| told.detail.contains(missing)).then_some(())
        })
        .await;
    program.stop().await;
}
