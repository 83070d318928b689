//! `jitney run`: puts a run together, passes signals on to it, and reads the configuration again
//! when it is told to. It says at the start which backends have no agent. It decides nothing.

use std::path::{Path, PathBuf};

use backends::process;
use futures_util::future::join_all;
use planner::BackendName;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::assembly::{self, Place, Reins};
use crate::config::backends::Kind;
use crate::config::{Config, ConfigError, Problem};
use crate::settings::Settings;
use crate::{event_log, run};

/// What a second signal ends the process with.
const ENDED_AT_ONCE: i32 = 130;

/// Why a service ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Assembly(#[from] assembly::Error),
    #[error(transparent)]
    Run(#[from] run::Error),
    #[error("failed to listen for signals: {0}")]
    Signals(#[from] std::io::Error),
}

/// Runs until a signal says to stop. The first SIGTERM or SIGINT takes no new work, leaves machines
/// running and writes down; a second one ends the process at once. SIGHUP reads `file` again.
///
/// # Errors
/// What keeps the program from starting, or from going on.
pub async fn serve(
    file: &Path,
    config: Config,
    place: Place,
    event_log: Option<event_log::Options>,
) -> Result<(), Error> {
    let shutdown = CancellationToken::new();
    let (reload, reloads) = mpsc::channel(1);
    let mut stops = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let mut hangups = signal(SignalKind::hangup())?;
    let reins = Reins { shutdown: shutdown.clone(), reloads };
    let mut options = assembly::assemble(&config, &place, reins).await?;
    options.event_log = event_log;
    let address = options.listener.local_addr().map_or_else(|e| e.to_string(), |a| a.to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), name = config.name, listen = address,
        journal = %options.journal.path.display(), endpoint = config.buildkite.endpoint,
        "started"
    );
    let mut look = std::pin::pin!(look_for_agents(agents(&config, &place)?));
    let mut looked = false;
    let mut reloader = Reloader { file: file.to_owned(), config, place, reload };
    let mut running = std::pin::pin!(run::run(options));
    loop {
        tokio::select! {
            ended = &mut running => return Ok(ended?),
            () = &mut look, if !looked => looked = true,
            () = stopped(&mut stops) => {
                if shutdown.is_cancelled() {
                    tracing::warn!("told to stop a second time; leaving at once");
                    std::process::exit(ENDED_AT_ONCE);
                }
                tracing::info!("told to stop; taking no more work");
                shutdown.cancel();
            }
            Some(()) = hangups.recv() => reloader.read_again(),
        }
    }
}

/// What each process backend starts its agent with.
fn agents(
    config: &Config,
    place: &Place,
) -> Result<Vec<(BackendName, process::Options)>, assembly::Error> {
    let mut agents = Vec::new();
    for (name, backend) in &config.backends {
        match &backend.kind {
            Kind::Process(wanted) => {
                let options = assembly::process_options(config, wanted, place)?;
                agents.push((name.clone(), options));
            }
            Kind::Http(_) | Kind::Kubernetes(_) | Kind::Gce(_) | Kind::CloudRun(_) => {}
        }
    }
    Ok(agents)
}

/// Without an agent no job of the backend gets a machine: said now, not when the first one waits.
/// It is no reason to end, since an agent that is put there later is found.
async fn look_for_agents(agents: Vec<(BackendName, process::Options)>) {
    let look = async |(name, options): (BackendName, process::Options)| {
        if let Err(error) = process::find_agent(&options).await {
            let key = format!("backends.{name}.process.agent");
            let remedy = assembly::agent_remedy(&name);
            tracing::error!(key, "backend {name} can make no machine: {}; {remedy}", error.words);
        }
    };
    join_all(agents.into_iter().map(look)).await;
}

async fn stopped(stops: &mut [Signal; 2]) {
    let [terminate, interrupt] = stops;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

struct Reloader {
    file: PathBuf,
    config: Config,
    place: Place,
    reload: mpsc::Sender<Settings>,
}

impl Reloader {
    /// All of it or nothing: a file with an error, or with a change that needs a restart, leaves
    /// the old configuration as it is.
    fn read_again(&mut self) {
        let environment = |name: &str| self.place.environment.get(name).cloned();
        let changes = match self.config.reload(&self.file, &environment) {
            Ok(changes) => changes,
            Err(error) => {
                for problem in error.problems() {
                    let Problem { line, column, key, message, remedy, .. } = problem;
                    tracing::error!(line, column, key, remedy, "in the configuration: {message}");
                }
                tracing::error!(%error, "the configuration has errors; the old one stays");
                return;
            }
        };
        if changes.changed.is_empty() {
            tracing::info!("the configuration says what it said before");
            return;
        }
        let restart = changes.need_restart().collect::<Vec<_>>().join(", ");
        if !restart.is_empty() {
            tracing::error!(
                keys = restart,
                "the configuration changes what only a restart can change; the old one stays"
            );
            return;
        }
        let settings = assembly::settings(&changes.config, &self.place.host);
        match self.reload.try_send(settings) {
            Ok(()) => self.config = changes.config,
            Err(error) => tracing::error!(%error, "the configuration could not be handed on"),
        }
    }
}
