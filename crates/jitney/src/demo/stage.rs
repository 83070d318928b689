//! Everything that the demo starts, in one place, so that all of it can be taken away again: a
//! sandbox, and a Jitney that runs in this process and makes real processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backends::process::{Process, Version};
use sandbox::engine::Checkout;
use sandbox::{Repository, Sandbox};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::agent::{self, Choice};
use crate::assembly::{self, Place, Reins};
use crate::cli::ask::Peer;
use crate::cli::{Context, Exit, Failure, configuration};
use crate::config::Config;
use crate::config::backends::Kind;
use crate::run;
use crate::settings::Settings;

/// The sandbox is the demo's own, and so is its token.
const TOKEN: &str = "bkct_demo";
/// What a stop may take; afterwards it is said to hang.
const STOP: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) agent: Choice,
    pub(super) version: Option<Version>,
    pub(super) sandbox: Sandbox,
    pub(super) peer: Peer,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), run::Error>>,
    /// Nobody reads this configuration again; the run only has to be able to listen.
    _reload: mpsc::Sender<Settings>,
    _repository: Option<Repository>,
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

impl Stage {
    pub(super) async fn set(
        folder: &Path,
        listen: SocketAddr,
        context: &Context<'_>,
    ) -> Result<Self, Failure> {
        let agent = agent::choose(context.environment, folder)?;
        let mut place = configuration::place(context)?;
        // What agents keep in their home goes with the rest.
        place.environment.insert("HOME".to_owned(), folder.display().to_string());
        let version = version_of(&agent, folder, &place).await?;
        let repository = if agent::needs_repository(version) {
            Some(Repository::create().map_err(|error| failed(&error))?)
        } else {
            None
        };
        let mut options = sandbox::Options::with_token(TOKEN);
        options.listen = listen;
        if let Some(repository) = &repository {
            options.settings.checkout = Checkout::Repository(repository.url());
        }
        let sandbox = Sandbox::start(options).await.map_err(|error| failed(&error))?;

        let config = configure(folder, &sandbox.endpoint(), agent.path())?;
        let shutdown = CancellationToken::new();
        let (reload, reloads) = mpsc::channel(1);
        let reins = Reins { shutdown: shutdown.clone(), reloads };
        let options =
            assembly::assemble(&config, &place, reins).await.map_err(|error| failed(&error))?;
        let address = options.listener.local_addr().map_err(|error| failed(&error))?;
        let peer = Peer::at(address)?;
        let running = tokio::spawn(run::run(options));
        Ok(Self {
            agent,
            version,
            sandbox,
            peer,
            shutdown,
            running,
            _reload: reload,
            _repository: repository,
        })
    }

    /// Whether the run has ended by itself, which it never should.
    pub(super) fn has_ended(&self) -> bool {
        self.running.is_finished()
    }

    /// Stops the run; the sandbox stays, so that one can look at it.
    pub(super) async fn stop_run(&mut self) -> Result<(), String> {
        self.shutdown.cancel();
        match timeout(STOP, &mut self.running).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(format!("Jitney ended with an error: {error}")),
            Ok(Err(error)) => Err(format!("Jitney broke off: {error}")),
            Err(_) => Err(format!("Jitney did not stop within {} s", STOP.as_secs())),
        }
    }
}

/// Asked before anything serves: an old agent needs a repository, a broken one ends the demo.
async fn version_of(
    agent: &Choice,
    folder: &Path,
    place: &Place,
) -> Result<Option<Version>, Failure> {
    let trial = configure(folder, "http://127.0.0.1:1/v3", agent.path())?;
    let (_, backend) = trial.backends.first_key_value().expect("our own text names one");
    let Kind::Process(wanted) = &backend.kind else {
        return Err(failed(&"the demo's own configuration names no process backend"));
    };
    let options =
        assembly::process_options(&trial, wanted, place).map_err(|error| failed(&error))?;
    let process = Process::new(options).map_err(|error| failed(&error))?;
    let (_, version) = process
        .probe()
        .await
        .agent
        .map_err(|error| Failure::new(Exit::Refused, error.to_string()))?;
    Ok(version)
}

/// What the demo's Jitney works with. The capacity is no promise of this host's: the demo's jobs
/// mostly sleep.
fn configure(folder: &Path, endpoint: &str, agent: &Path) -> Result<Config, Failure> {
    let quoted = |path: PathBuf| serde_json::Value::from(path.display().to_string()).to_string();
    let text = format!(
        r#"name: jitney-demo
listen: 127.0.0.1:0
buildkite: {{ endpoint: "{endpoint}", token: {TOKEN} }}
store: {{ journal: {journal} }}
queues:
  default: {{ backends: [here], defaults: {{ cpu: 1, memory: 1G, time: 10m }} }}
backends:
  here: {{ process: {{ agent: {agent}, directory: {builds}, capacity: {{ cpu: 64, memory: 256G }} }} }}
"#,
        journal = quoted(folder.join("jitney.db")),
        agent = quoted(agent.to_owned()),
        builds = quoted(folder.join("builds")),
    );
    Ok(Config::parse("the demo's configuration", &text, &|_| None)?)
}
