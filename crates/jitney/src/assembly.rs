//! From a configuration to the parts that a run needs: client, backends, journal, listener. It
//! starts nothing, and what is wrong is said with the key that is to blame.

pub(crate) mod cluster;
mod google;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backends::gce::Door;
use backends::kubernetes::Cluster;
use backends::process::{GRACE, OLDEST, Process};
use backends::{Backend, http};
use planner::BackendName;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use self::google::gce;
use crate::clock::{Clock, process_now};
use crate::config::backends::Kind;
use crate::config::backends::kubernetes::TemplateFrom;
use crate::config::server::{JobTokens, TokenSource};
use crate::config::{self, Config, Environment, NoStateDir, Unbuilt, state_dir};
use crate::fleet;
use crate::host::Host;
use crate::journal;
use crate::settings::{self, Options, Poll, Settings, Web};

/// Calls to Buildkite that take longer than this are tried again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// What an agent gets of our environment, beside what its machine sets: to find programs and its
/// home, and the way to Buildkite.
const AGENT_ENVIRONMENT: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Where we are: what a configuration does not say.
#[derive(Clone, Debug)]
pub struct Place {
    pub environment: BTreeMap<String, String>,
    pub host: Host,
    /// The program that is started as a machine's guest, and its arguments before the folder.
    pub guest_exe: PathBuf,
    pub guest_args: Vec<OsString>,
    pub clock: Clock,
}

/// Why no run can be put together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this build cannot do what the configuration asks for: {}", list(.0))]
    Unbuilt(Vec<Unbuilt>),
    #[error(transparent)]
    NoStateDir(#[from] NoStateDir),
    #[error("buildkite: {0}")]
    Client(#[from] buildkite::ConfigError),
    #[error(
        "buildkite.retry_lost needs buildkite.api_token: give it an API access token with the scopes read_builds and write_builds, or set retry_lost.jobs: false"
    )]
    NoApiToken,
    #[error(
        "buildkite.api_token needs buildkite.organization: the organisation's slug, as in https://buildkite.com/SLUG"
    )]
    NoOrganization,
    #[error("backends.{name}: {words}")]
    Backend { name: String, words: String },
    #[error(
        "failed to listen on {address}: {source}; stop the program that uses the port, or choose another with listen"
    )]
    Listen { address: SocketAddr, source: std::io::Error },
}

fn list(unbuilt: &[Unbuilt]) -> String {
    let each = unbuilt.iter().map(|part| format!("{} ({})", part.path, part.what));
    each.collect::<Vec<_>>().join(", ")
}

/// What is handed to a run from outside while it runs.
#[derive(Debug)]
pub struct Reins {
    pub shutdown: CancellationToken,
    pub reloads: mpsc::Receiver<Settings>,
}

/// The operator's wishes, as the shell understands them.
#[must_use]
pub fn settings(config: &Config, host: &Host) -> Settings {
    let buildkite = &config.buildkite;
    Settings {
        policy: Arc::new(config.policy(host)),
        poll: Poll { idle: buildkite.poll.idle, busy: buildkite.poll.busy },
        endpoint: buildkite.endpoint.clone(),
        job_tokens: match buildkite.job_tokens {
            JobTokens::Required => settings::JobTokens::Required,
            JobTokens::Optional => settings::JobTokens::Optional,
        },
        web: Web {
            access_token: config.server.access.token.clone(),
            proxy_header: config.server.access.proxy_header.clone(),
            webhook_secret: buildkite.webhook_secret.clone(),
        },
    }
}

/// Makes every part, and listens.
///
/// # Errors
/// The first part that cannot be made.
pub async fn assemble(config: &Config, place: &Place, reins: Reins) -> Result<Options, Error> {
    let unbuilt = config.unbuilt();
    if !unbuilt.is_empty() {
        return Err(Error::Unbuilt(unbuilt));
    }
    let environment = |name: &str| place.environment.get(name).cloned();
    let client = client(config, &environment)?;
    let rest = rest(config, &environment)?;
    let mut backends: BTreeMap<BackendName, Arc<dyn Backend>> = BTreeMap::new();
    let mut doors = BTreeMap::new();
    for (name, backend) in &config.backends {
        // Where no queue makes machines there are none to look for.
        if config.is_for_fleets(name) {
            continue;
        }
        let (made, door) = make(config, name, &backend.kind, place).await?;
        doors.extend(door.map(|door| (name.clone(), door)));
        backends.insert(name.clone(), made);
    }
    let address = config.server.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    Ok(Options {
        settings: settings(config, &place.host),
        client,
        rest,
        backends,
        doors,
        fleets: fleets(config),
        journal: journal::Options::new(journal_path(config, place)?, config.store.keep),
        event_log: None,
        listener,
        clock: place.clock,
        shutdown: reins.shutdown,
        reloads: reins.reloads,
    })
}

/// Where the journal of this configuration is.
///
/// # Errors
/// Where it names none and there is no state directory.
pub fn journal_path(config: &Config, place: &Place) -> Result<PathBuf, NoStateDir> {
    match &config.store.journal {
        Some(path) => Ok(path.clone()),
        None => Ok(state(place)?.join("jitney.db")),
    }
}

fn state(place: &Place) -> Result<PathBuf, NoStateDir> {
    let environment = |name: &str| place.environment.get(name).cloned();
    state_dir(&environment, place.host.root)
}

/// A client of the configured endpoint.
///
/// # Errors
/// As [`buildkite::Client::new`] names them.
pub fn client(
    config: &Config,
    environment: Environment<'_>,
) -> Result<buildkite::Client, buildkite::ConfigError> {
    let endpoint = &config.buildkite.endpoint;
    buildkite::Client::new(options(buildkite::Options::new(endpoint, token(config)), environment)?)
}

/// A client of the REST API, where there is a token for it.
///
/// # Errors
/// Where something is wanted of it that the configuration does not give, and as
/// [`buildkite::RestClient::new`] names them.
pub fn rest(
    config: &Config,
    environment: Environment<'_>,
) -> Result<Option<buildkite::RestClient>, Error> {
    let buildkite = &config.buildkite;
    let Some(token) = buildkite.api_token.clone() else {
        return if buildkite.retry_lost.jobs { Err(Error::NoApiToken) } else { Ok(None) };
    };
    let organization = buildkite.organization.as_deref().ok_or(Error::NoOrganization)?;
    let token = buildkite::TokenSource::Fixed(token);
    let wanted = buildkite::Options::new(&buildkite.api_endpoint, token);
    let wanted = options(wanted, environment)?;
    Ok(Some(buildkite::RestClient::new(wanted, organization)?))
}

fn options(
    mut options: buildkite::Options,
    environment: Environment<'_>,
) -> Result<buildkite::Options, buildkite::ConfigError> {
    options.user_agent = concat!("jitney/", env!("CARGO_PKG_VERSION")).to_owned();
    options.proxies = buildkite::Proxies::from_vars(environment)?;
    options.extra_ca =
        environment("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    options.timeouts.request = REQUEST_TIMEOUT;
    Ok(options)
}

fn token(config: &Config) -> buildkite::TokenSource {
    match &config.buildkite.token {
        TokenSource::Value(secret) => buildkite::TokenSource::Fixed(secret.clone()),
        TokenSource::File(path) => buildkite::TokenSource::File(path.clone()),
    }
}

/// A backend, and the door of one whose machines come in.
type Made = (Arc<dyn Backend>, Option<Arc<Door>>);

async fn make(
    config: &Config,
    name: &BackendName,
    kind: &Kind,
    place: &Place,
) -> Result<Made, Error> {
    let refused = |words: String| Error::Backend { name: name.to_string(), words };
    match kind {
        Kind::Process(wanted) => {
            let made = Process::new(process_options(config, wanted, place)?);
            Ok((Arc::new(made.map_err(|error| refused(error.to_string()))?), None))
        }
        Kind::Http(wanted) => {
            let made = http::Http::new(http_options(config, wanted));
            Ok((Arc::new(made.map_err(|error| refused(error.to_string()))?), None))
        }
        Kind::Kubernetes(wanted) => {
            let (made, cluster) = cluster::kubernetes(config, wanted).await.map_err(refused)?;
            let Cluster { address, namespace, .. } = cluster;
            tracing::info!(backend = %name, address, namespace, "machines are pods");
            Ok((Arc::new(made), None))
        }
        Kind::Gce(wanted) => {
            let made = gce(config, name, wanted).map_err(refused)?;
            let door = made.door();
            Ok((Arc::new(made), Some(door)))
        }
        Kind::CloudRun(_) => Err(refused("this build does not have this kind of backend".into())),
    }
}

/// What a process backend is made with.
///
/// # Errors
/// Where it names no directory and there is no state directory.
pub fn process_options(
    config: &Config,
    wanted: &config::backends::Process,
    place: &Place,
) -> Result<backends::process::Options, NoStateDir> {
    let directory = match &wanted.directory {
        Some(directory) => directory.clone(),
        None => state(place)?.join("builds"),
    };
    let kept = AGENT_ENVIRONMENT
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), place.environment.get(*name)?.clone())));
    Ok(backends::process::Options {
        guest_exe: place.guest_exe.clone(),
        guest_args: place.guest_args.clone(),
        agent: wanted.agent.clone(),
        agent_config: wanted.agent_config.clone(),
        directory,
        user: wanted.user.clone(),
        isolate: wanted.isolate,
        mark: config.name.clone(),
        env: kept.collect(),
        grace: GRACE,
        now: process_now,
    })
}

/// What to do about a process backend that has no agent to start.
pub(crate) fn agent_remedy(name: &BackendName) -> String {
    format!(
        "install buildkite-agent {OLDEST} or newer, or say where it is with backends.{name}.process.agent"
    )
}

/// What each fleet is made with.
#[must_use]
pub fn fleets(config: &Config) -> Vec<fleet::Options> {
    let options = |(name, wanted): (&String, &config::fleets::Fleet)| {
        let backend = config.backends.get(&BackendName::new(&wanted.backend))?;
        let Kind::Kubernetes(kubernetes) = &backend.kind else { return None };
        let from = match wanted.template_from.clone()? {
            TemplateFrom::Job(job) => backends::fleet::From::Job(job),
            TemplateFrom::PodTemplate(template) => backends::fleet::From::PodTemplate(template),
        };
        Some(fleet::Options {
            name: name.clone(),
            mark: config.name.clone(),
            queue: wanted.queue.clone(),
            backend: wanted.backend.clone(),
            access: cluster::access(kubernetes),
            from,
            tags: wanted.tags.clone(),
            policy: planner::fleet::Policy {
                min: wanted.agents.min,
                max: wanted.agents.max,
                buffer: wanted.agents.buffer,
                ready_permille: wanted.cooldown.ready_permille,
                at_most: wanted.cooldown.at_most,
            },
            poll: wanted.poll,
            idle_timeout: wanted.idle_timeout,
            active_deadline: wanted.active_deadline,
            ttl: wanted.ttl,
        })
    };
    config.fleets.iter().filter_map(options).collect()
}

/// What an http backend is made with.
#[must_use]
pub fn http_options(config: &Config, wanted: &config::backends::Http) -> http::Options {
    http::Options {
        url: wanted.url.clone(),
        token: wanted.token.clone(),
        mark: config.name.clone(),
    }
}
