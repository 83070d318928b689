//! The configuration: a YAML file, read strictly into types that cannot hold a bad value.
//!
//! `Config::parse` reads a text, `Config::load` a file; both report everything that is wrong at
//! once, with its place. Nothing here acts on what it reads; `unbuilt` says what this build cannot
//! act on. The environment is read in `environment.rs` and nowhere else.

pub mod backends;
mod environment;
pub mod fleets;
mod interpolate;
mod policy;
mod problem;
pub mod queues;
mod reading;
mod reload;
pub mod reports;
pub mod server;
mod settings;
mod tables;
pub(crate) mod tree;
mod unbuilt;
mod values;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use planner::{BackendKind, BackendName, QueueKey, Tables};

use self::backends::{Backend, Surroundings};
use self::fleets::{Fleet, Mirror};
use self::problem::Complaint;
use self::queues::{Limits, PolicyRule, Queue, queue_key, read_class};
use self::reading::{Reading, Section};
use self::reports::{Log, Meter, Notify, Prices, Traces};
use self::server::{Buildkite, Replicas, Server, Store};
use self::settings::Settings;
use self::tree::{Node, Value};

pub use self::environment::{NoStateDir, process_environment, state_dir};
pub use self::problem::{ConfigError, Problem};
pub use self::reading::Key;
pub use self::reload::{Change, Changes};
pub use self::unbuilt::Unbuilt;
pub(crate) use values::is_loopback;

/// Where `${NAME}` comes from.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A longer file is not a configuration.
const LARGEST_FILE: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub struct Config {
    /// Our mark on machines.
    pub name: String,
    pub server: Server,
    pub buildkite: Buildkite,
    pub store: Store,
    pub replicas: Replicas,
    pub queues: BTreeMap<QueueKey, Queue>,
    /// Names for shapes, as the tags that they stand for.
    pub classes: BTreeMap<String, BTreeMap<String, String>>,
    pub policies: Vec<PolicyRule>,
    /// In all.
    pub limits: Limits,
    pub backends: BTreeMap<BackendName, Backend>,
    pub fleets: BTreeMap<String, Fleet>,
    pub mirrors: BTreeMap<String, Mirror>,
    pub prices: Prices,
    pub meter: Meter,
    pub notify: Notify,
    pub log: Log,
    pub traces: Traces,
    /// The operator's own families and prices, over those that ship.
    tables: Option<Arc<Tables>>,
    settings: Settings,
}

impl Config {
    /// Reads a file. Paths of files in it are meant from the file's own directory.
    pub fn load(path: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text =
            read_file(path).map_err(|complaint| ConfigError::unreadable(&file, complaint))?;
        let mut config = Self::parse(&file, &text, environment)?;
        config.anchor(path.parent().unwrap_or(Path::new("")));
        config.read_tables(&file)?;
        Ok(config)
    }

    /// Reads a text; `file` is what it is called in errors.
    pub fn parse(
        file: &str,
        text: &str,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let (config, _) = Self::parse_with_keys(file, text, environment)?;
        Ok(config)
    }

    /// With every key that could have stood in such a file, by its pattern (`queues.*.backends`).
    pub fn parse_with_keys(
        file: &str,
        text: &str,
        environment: Environment<'_>,
    ) -> Result<(Self, BTreeMap<String, Key>), ConfigError> {
        let mut tree = tree::parse(text).map_err(|error| {
            let remedy = syntax_remedy(text, error.place.line);
            let complaint = Complaint::new(error.message, remedy);
            let problem = Problem::new(Some(error.place), "", complaint);
            ConfigError::new(file, problem::mask_by_words(text), vec![problem])
        })?;
        let reading = Reading::default();
        if let Some(tree) = &mut tree {
            replace_references(tree, "", environment, &reading);
        }
        let mut config = reading.root(tree.as_ref(), Self::read);
        let Reading { problems, masks, keys, settings } = reading;
        let problems = problems.into_inner();
        if !problems.is_empty() {
            let shown = problem::mask(text, &masks.into_inner());
            return Err(ConfigError::new(file, shown, problems));
        }
        config.settings = settings.into_inner();
        Ok((config, keys.into_inner()))
    }

    fn read(root: &Section<'_>) -> Self {
        let name = root.or("name", "jitney", values::mark);
        let server = Server::read(root);
        let around = Surroundings { public_url: server.public_url.is_some() };
        let backends = root.each("backends", |_, section| Backend::read(section, around));
        let kinds: BTreeMap<String, BackendKind> = backends
            .iter()
            .filter_map(|(name, backend)| Some((name.clone(), backend.as_ref()?.kind.of())))
            .collect();
        let names = root.names("backends");
        let queues = root.each("queues", |name, section| {
            (queue_key(name, section), Queue::read(section, &names))
        });
        if root.is_empty("queues") && root.is_empty("fleets") {
            root.missing(
                "queues",
                "one queue is needed: queues: { default: { backends: [here] } }, or a fleet",
            );
        }
        if root.is_empty("backends") {
            root.missing("backends", "one backend is needed: backends: { here: { process: {} } }");
        }
        Self {
            name,
            server,
            buildkite: root.within("buildkite", Buildkite::read),
            store: root.within("store", Store::read),
            replicas: root.within("replicas", Replicas::read),
            queues: queues.into_values().collect(),
            classes: root.each("classes", |_, section| read_class(section)),
            policies: root.items("policies", |section| PolicyRule::read(section, &names)),
            limits: root.within("limits", Limits::read),
            fleets: root.each("fleets", |name, section| Fleet::read(name, section, &kinds)),
            mirrors: root.each("mirrors", |_, section| Mirror::read(section, &kinds)),
            prices: root.within("prices", Prices::read),
            meter: root.within("meter", Meter::read),
            notify: root.within("notify", Notify::read),
            log: root.within("log", Log::read),
            traces: root.within("traces", Traces::read),
            backends: backends
                .into_iter()
                .filter_map(|(name, backend)| Some((BackendName::new(&name), backend?)))
                .collect(),
            tables: None,
            settings: Settings::default(),
        }
    }

    /// Makes the paths of files that we read absolute in the sense of the configuration's place.
    fn anchor(&mut self, directory: &Path) {
        let below = |path: &mut PathBuf| *path = directory.join(&path);
        if let Some(tls) = &mut self.server.tls {
            below(&mut tls.certificate);
            below(&mut tls.key);
        }
        if let server::TokenSource::File(file) = &mut self.buildkite.token {
            below(file);
        }
        self.prices.file.as_mut().map(below);
        for backend in self.backends.values_mut() {
            backend.anchor(directory);
        }
    }
}

fn read_file(path: &Path) -> Result<String, Complaint> {
    let unreadable = |error: &std::io::Error| {
        let remedy = if error.kind() == std::io::ErrorKind::NotFound {
            "jitney init writes a first configuration"
        } else {
            "check the file and its permissions"
        };
        Complaint::new(format!("cannot be read: {error}"), remedy)
    };
    let size = std::fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    if size > LARGEST_FILE {
        return Err(Complaint::new(
            format!("has {size} bytes, and a configuration has {LARGEST_FILE} at the most"),
            "check that it is the right file",
        ));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(&error))
}

/// What is most often behind a text that is not YAML.
fn syntax_remedy(text: &str, line: usize) -> &'static str {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    if line.contains("${") {
        "between { } and [ ], put references into quotes: \"${NAME}\""
    } else if line.contains('\t') {
        "indent with spaces, not with tabs"
    } else {
        "look for a bracket, a quote or an indentation that is wrong, here or above"
    }
}

/// Every `${NAME}` in every value below.
fn replace_references(
    node: &mut Node,
    path: &str,
    environment: Environment<'_>,
    reading: &Reading,
) {
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(scalar) => match interpolate::interpolate(&scalar.text, environment) {
            Ok((text, replaced)) => {
                scalar.text = text;
                scalar.from_environment = replaced;
            }
            Err(complaint) => {
                scalar.broken = true;
                reading.problems.borrow_mut().push(Problem::new(Some(node.place), path, complaint));
            }
        },
        Value::List(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                replace_references(item, &format!("{path}[{at}]"), environment, reading);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let path = reading::join(path, &entry.key);
                replace_references(&mut entry.node, &path, environment, reading);
            }
        }
    }
}
