//! A minimal agent: plain commands by `/bin/sh`, for a demo on a machine without the real one. It
//! takes the real agent's environment and signals and reports like it. It has no checkout, no
//! hooks, no plugins and no commands for jobs, and it refuses to work for anything but a sandbox.

mod command;
mod log;
mod settings;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::process::ExitCode;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::client::{CallError, Session, Wire, patiently};
use super::play::{End, TRIES, TRIES_TO_FINISH};
use super::wire::Job;
use log::Log;
use settings::{Asked, Settings};

/// What the real agent exits with when the job was not to be had.
const NOT_ACQUIRED: u8 = 27;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Settings(String),
    #[error("{0} is no sandbox: the minimal agent works for nothing else, use the real one")]
    NoSandbox(String),
    #[error("no HTTP client could be made: {0}")]
    Client(#[from] reqwest::Error),
    #[error("signals cannot be received: {0}")]
    Signals(#[source] std::io::Error),
    #[error("failed to acquire the job: {0}")]
    NotAcquired(#[source] CallError),
    #[error("{0}")]
    Call(#[from] CallError),
}

/// The program: arguments (without its own name) and environment in, exit code out, messages to
/// standard error. It has `start` and `--version`.
pub async fn run(
    args: Vec<String>,
    env: BTreeMap<String, String>,
    now: fn() -> Timestamp,
) -> ExitCode {
    let stop = Stop::default();
    match stop.listen() {
        Err(error) => failed(&Failure::Signals(error)),
        Ok(listening) => tokio::select! {
            code = run_until(args, env, now, &stop) => code,
            never = listening => match never {},
        },
    }
}

/// The same for whoever has signals of another kind.
pub async fn run_until(
    args: Vec<String>,
    env: BTreeMap<String, String>,
    now: fn() -> Timestamp,
    stop: &Stop,
) -> ExitCode {
    let settings = match settings::read(&args, env) {
        Ok(Asked::Start(settings)) => settings,
        Ok(Asked::Version(version)) => {
            println!("{version}");
            return ExitCode::SUCCESS;
        }
        Err(words) => return failed(&Failure::Settings(words)),
    };
    match one_job(&settings, now, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&failure),
    }
}

fn failed(failure: &Failure) -> ExitCode {
    eprintln!("buildkite-agent (minimal): {failure}");
    match failure {
        Failure::NotAcquired(error) if error.status() == Some(422) => ExitCode::from(NOT_ACQUIRED),
        // As the real one: what is no agent's fault is no failure of the agent.
        Failure::NotAcquired(error) if error.status().is_some_and(|status| status < 500) => {
            ExitCode::SUCCESS
        }
        Failure::Settings(_)
        | Failure::NoSandbox(_)
        | Failure::Client(_)
        | Failure::Signals(_)
        | Failure::NotAcquired(_)
        | Failure::Call(_) => ExitCode::FAILURE,
    }
}

/// What signals ask for.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// The first SIGTERM: finish the job, take none.
    pub soon: CancellationToken,
    /// The second, or SIGQUIT: stop the job now.
    pub now: CancellationToken,
}

impl Stop {
    /// Listens from the moment of the call; the future only has to be polled.
    pub fn listen(&self) -> std::io::Result<impl Future<Output = Infallible> + use<>> {
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        let stop = self.clone();
        Ok(async move {
            loop {
                let again = stop.soon.is_cancelled();
                tokio::select! {
                    _ = term.recv() => if again { stop.now.cancel() },
                    _ = interrupt.recv() => if again { stop.now.cancel() },
                    _ = quit.recv() => stop.now.cancel(),
                }
                stop.soon.cancel();
            }
        })
    }
}

async fn one_job(settings: &Settings, now: fn() -> Timestamp, stop: &Stop) -> Result<(), Failure> {
    let wire = Wire::new()?;
    let Settings { endpoint, token, name, tags, .. } = settings;
    let connect = async {
        if !patiently(TRIES, || wire.is_sandbox(endpoint)).await? {
            return Err(Failure::NoSandbox(endpoint.clone()));
        }
        let session = patiently(TRIES, || wire.register(endpoint, token, name, tags)).await?;
        patiently(TRIES, || session.connect()).await?;
        Ok(session)
    };
    let Some(session) = stop.soon.run_until_cancelled(connect).await else { return Ok(()) };
    let mut session = session?;
    eprintln!("Successfully registered agent {:?} with tags {tags:?}", session.registered.name);
    let outcome = with_session(&mut session, settings, now, stop).await;
    if let Err(error) = patiently(2, || session.disconnect()).await {
        eprintln!("buildkite-agent (minimal): left without a word: {error}");
    }
    outcome
}

async fn with_session(
    session: &mut Session,
    settings: &Settings,
    now: fn() -> Timestamp,
    stop: &Stop,
) -> Result<(), Failure> {
    let id = settings.job;
    let acquire = patiently(TRIES, || session.acquire(id));
    let Some(job) = stop.soon.run_until_cancelled(acquire).await else { return Ok(()) };
    let job = job.map_err(Failure::NotAcquired)?;
    session.hold(&job);
    patiently(TRIES, || session.start(id, now())).await?;
    let mut log = Log::new(session.clone(), id, &job);
    let end = run_job(session, settings, &job, &mut log, now, stop).await;
    log.close().await;
    let finish = end.finish(now(), log.lost());
    patiently(TRIES_TO_FINISH, || session.finish(id, &finish)).await?;
    Ok(())
}

/// Runs the job; what keeps it from running is told in its log.
async fn run_job(
    session: &Session,
    settings: &Settings,
    job: &Job,
    log: &mut Log,
    now: fn() -> Timestamp,
    stop: &Stop,
) -> End {
    if job.env.contains_key("BUILDKITE_PLUGINS") {
        log.say("This step uses plugins. The minimal agent has none: install buildkite-agent.\n");
        return End::NotRun;
    }
    let running = match command::start(settings, job).await {
        Ok(running) => running,
        Err(why) => {
            log.say(&format!("The command could not be started: {why}\n"));
            return End::NotRun;
        }
    };
    let watch = super::play::watch(session, settings.job, now);
    running.until_end(log, watch, &stop.now).await
}

#[cfg(test)]
mod tests;
