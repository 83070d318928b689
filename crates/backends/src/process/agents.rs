//! The agent's program: where it is and how old. It starts none for a job.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use guest::report::TokenBy;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Options;
use crate::contract::{Class, Error};

/// The oldest agent that is known to do what we ask of it.
pub const OLDEST: Version = Version { major: 3, minor: 52 };
/// From here on an agent takes its token out of its own environment.
const SCRUBS: Version = Version { major: 3, minor: 133 };
/// For an agent to say its version.
const ANSWER: Duration = Duration::from_secs(10);

/// The first two numbers of an agent's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// An agent that may be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// `None` where it does not say: a build of somebody's own.
    pub(super) version: Option<Version>,
}

impl Found {
    pub(super) fn token_by(&self) -> TokenBy {
        match self.version {
            Some(version) if version < SCRUBS => TokenBy::Config,
            Some(_) | None => TokenBy::Environment,
        }
    }
}

/// Remembers versions for as long as the files are the same.
#[derive(Debug, Default)]
pub(super) struct Agents {
    known: Mutex<Option<(Seal, Found)>>,
}

/// Another file, or another content, has another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seal {
    path: PathBuf,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Agents {
    /// The agent to start, or why there is none and what to do about it.
    pub(super) async fn fit(&self, options: &Options) -> Result<Found, Error> {
        self.look(options).await.map_err(|mut error| {
            error.words = format!(
                "{}; install buildkite-agent {OLDEST} or newer, or set `agent` to where it is",
                error.words
            );
            error
        })
    }

    /// The agent to start, or only why there is none.
    pub(super) async fn look(&self, options: &Options) -> Result<Found, Error> {
        let (path, seal) = find(options)?;
        // Held while the agent is asked, so that of many creates at once one asks.
        let mut known = self.known.lock().await;
        if let Some((_, found)) = known.as_ref().filter(|(of, _)| *of == seal) {
            return Ok(found.clone());
        }
        let found = ask(path, options).await?;
        *known = Some((seal, found.clone()));
        Ok(found)
    }
}

fn find(options: &Options) -> Result<(PathBuf, Seal), Error> {
    let path = which(&options.agent, &options.env).ok_or_else(|| {
        let words = if options.agent.components().count() > 1 {
            format!("there is no program `{}`", options.agent.display())
        } else {
            let path = options.env.get("PATH").map_or("(empty)", String::as_str);
            format!("there is no `{}` on PATH, which is {path}", options.agent.display())
        };
        Error::new(Class::Denied, words)
    })?;
    let meta = fs::metadata(&path).map_err(|error| super::io_error("look at", &path, &error))?;
    let seal = Seal {
        path: path.clone(),
        inode: meta.ino(),
        size: meta.len(),
        changed: (meta.mtime(), meta.mtime_nsec()),
    };
    Ok((path, seal))
}

fn which(agent: &Path, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if agent.components().count() > 1 {
        let path = std::path::absolute(agent).ok()?;
        return Some(path).filter(is_program);
    }
    let dirs = env.get("PATH").map(String::as_str).unwrap_or_default();
    std::env::split_paths(dirs).map(|dir| dir.join(agent)).find(is_program)
}

async fn ask(path: PathBuf, options: &Options) -> Result<Found, Error> {
    let denied = |words: String| Error::new(Class::Denied, words);
    let shown = path.display();
    let mut command = Command::new(&path);
    command.arg("--version").env_clear().envs(&options.env);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(ANSWER, command.output())
        .await
        .map_err(|_| denied(format!("`{shown} --version` did not answer within 10 s")))?
        .map_err(|error| denied(format!("`{shown}` cannot be started: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = version_in(&text);
    match version {
        Some(old) if old < OLDEST => {
            Err(denied(format!("{shown} is version {old}, and {OLDEST} or newer is needed")))
        }
        Some(_) | None => Ok(Found { path, version }),
    }
}

/// From `buildkite-agent version 3.137.0+x.1234`.
fn version_in(text: &str) -> Option<Version> {
    let (_, after) = text.split_once("version ")?;
    let mut numbers = after
        .split('.')
        .map(|part| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok());
    Some(Version { major: numbers.next()??, minor: numbers.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_agents_print_them() {
        let check = |text: &str, expected: Option<(u32, u32)>| {
            let expected = expected.map(|(major, minor)| Version { major, minor });
            assert_eq!(version_in(text), expected, "{text}");
        };
        check("buildkite-agent version 3.137.0+x..dirty\n", Some((3, 137)));
        check("buildkite-agent version 3.52.0, build x\n", Some((3, 52)));
        check("buildkite-agent version 4.0-beta.1, build 9\n", Some((4, 0)));
        check("buildkite-agent version unknown", None);
        check("my own agent", None);
    }

    #[test]
    fn old_agents_get_their_token_through_a_pipe() {
        let by = |version| Found { path: PathBuf::new(), version }.token_by();
        assert_eq!(by(Some(OLDEST)), TokenBy::Config);
        assert_eq!(by(Some(SCRUBS)), TokenBy::Environment);
        assert_eq!(by(None), TokenBy::Environment);
    }
}
