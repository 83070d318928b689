//! Which agent the demo runs: the one that is named, the one on `PATH`, or the minimal one that
//! comes with the sandbox. What is no good is said, and never passed over in silence.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use backends::process::Version;

use crate::cli::{Environment, Exit, Failure, configuration};

/// From here on agents can be told to check nothing out.
const SKIPS_CHECKOUT: Version = Version { major: 3, minor: 117 };
/// What `make demo` sets.
const VARIABLE: &str = "JITNEY_AGENT";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// One that is named or on `PATH`.
    Real(PathBuf),
    /// Ours: plain commands only.
    Minimal(PathBuf),
}

impl Choice {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Real(path) | Self::Minimal(path) => path,
        }
    }
}

/// `folder` takes the link by which this very program is the minimal agent.
pub(super) fn choose(environment: &Environment, folder: &Path) -> Result<Choice, Failure> {
    let named = environment.get(VARIABLE).filter(|name| !name.is_empty());
    if let Some(named) = named {
        let path = PathBuf::from(named);
        if path.is_file() {
            return Ok(Choice::Real(path));
        }
        let words = format!("{VARIABLE} names {named}, and there is no such file");
        return Err(Failure::new(Exit::Refused, words));
    }
    let search = environment.get("PATH").map(String::as_str).unwrap_or_default();
    let mut on_path = std::env::split_paths(search).map(|dir| dir.join("buildkite-agent"));
    if let Some(path) = on_path.find(|path| path.is_file()) {
        return Ok(Choice::Real(path));
    }
    let link = folder.join("buildkite-agent");
    symlink(configuration::own_program()?, &link).map_err(|error| {
        let words = format!("failed to link {} to this program: {error}", link.display());
        Failure::new(Exit::Failed, words)
    })?;
    Ok(Choice::Minimal(link))
}

/// Whether an agent of this version insists on checking something out.
pub(super) fn needs_repository(version: Option<Version>) -> bool {
    version.is_some_and(|version| version < SKIPS_CHECKOUT)
}
