//! Reading the configuration again while running: what changed, and what of it needs a restart.
//!
//! A file with an error changes nothing: the caller keeps the old configuration and says why.

use std::path::Path;

use super::{Config, ConfigError, Environment};

/// A configuration that was read again.
#[derive(Debug)]
pub struct Changes {
    pub config: Config,
    /// Sorted by path; empty where the file means what it meant before.
    pub changed: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `queues.jit.attempts`; never with a value, which may be a secret.
    pub path: String,
    /// Whether it takes effect only in a process that is started anew.
    pub restart: bool,
}

/// Below these, changes take effect at the next round: the planner's policy is made of them.
const LIVE: [&str; 7] = [
    "buildkite.retry_lost.",
    "queues.*.",
    "classes.",
    "policies",
    "limits.",
    "backends.*.limits.",
    "backends.*.*.capacity.",
];

impl Config {
    /// Reads the file again and compares it with this configuration.
    pub fn reload(
        &self,
        path: &Path,
        environment: Environment<'_>,
    ) -> Result<Changes, ConfigError> {
        Self::load(path, environment).map(|config| self.changes_to(config))
    }

    /// What is not the same in another configuration.
    #[must_use]
    pub fn changes_to(&self, config: Self) -> Changes {
        let changed = self
            .settings
            .differences(&config.settings)
            .into_iter()
            .map(|path| Change { path: path.to_owned(), restart: !is_live(path) })
            .collect();
        Changes { config, changed }
    }
}

impl Changes {
    /// The paths of the changes that need a restart.
    pub fn need_restart(&self) -> impl Iterator<Item = &str> {
        self.changed.iter().filter(|change| change.restart).map(|change| change.path.as_str())
    }
}

fn is_live(path: &str) -> bool {
    LIVE.iter().any(|pattern| starts_with(path, pattern))
}

/// Whether a path begins with a pattern, in which `*` is one name.
fn starts_with(path: &str, pattern: &str) -> bool {
    let Some((before, after)) = pattern.split_once("*.") else { return path.starts_with(pattern) };
    let Some(rest) = path.strip_prefix(before) else { return false };
    rest.split_once('.').is_some_and(|(_, rest)| starts_with(rest, after))
}
