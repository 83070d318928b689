//! Where the real programs are: given by the environment, or built into the cache by
//! `tools/real-parts`. It builds nothing itself.

use std::path::PathBuf;

/// A program that the tests run against the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    NewAgent,
    OldAgent,
    StacksClient,
    /// A Python that finds Google's client.
    GoogleClient,
}

/// Both agents, the newest first.
pub(crate) const AGENTS: [Part; 2] = [Part::NewAgent, Part::OldAgent];

impl Part {
    fn variable(self) -> &'static str {
        match self {
            Self::NewAgent => "JITNEY_AGENT_3_137",
            Self::OldAgent => "JITNEY_AGENT_3_52",
            Self::StacksClient => "JITNEY_STACKS_CLIENT",
            Self::GoogleClient => "JITNEY_GOOGLE_CLIENT",
        }
    }

    /// What `tools/real-parts` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::NewAgent | Self::OldAgent => "agents",
            Self::StacksClient => "stacks-client",
            Self::GoogleClient => "google-client",
        }
    }

    /// The start of its folder's name in the cache, and the program's name.
    fn in_cache(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::NewAgent => ("buildkite-agent", "3.137", "buildkite-agent"),
            Self::OldAgent => ("buildkite-agent", "3.52", "buildkite-agent"),
            Self::StacksClient => ("stacks-client", "", "stacks-client"),
            Self::GoogleClient => ("google-client", "", "python"),
        }
    }

    /// The program, or `None` with a loud word where it may be absent: not where `CI=true`.
    pub(crate) fn find(self) -> Option<PathBuf> {
        if let Some(path) = var(self.variable()) {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "{} names no file: {}", self.variable(), path.display());
            return Some(path);
        }
        let found = self.cached();
        if found.is_none() {
            let how = format!("run `tools/real-parts {}` once", self.name());
            assert!(var("CI").as_deref() != Some("true"), "{self:?} is not here: {how}");
            eprintln!("NOT TESTED: {self:?} is not here, {how} or set {}", self.variable());
        }
        found
    }

    fn cached(self) -> Option<PathBuf> {
        let cache = var("JITNEY_CACHE").map(PathBuf::from).or_else(|| {
            let base = var("XDG_CACHE_HOME").map(PathBuf::from);
            base.or_else(|| var("HOME").map(|home| PathBuf::from(home).join(".cache")))
                .map(|base| base.join("jitney"))
        })?;
        let (folder, version, program) = self.in_cache();
        let versions = std::fs::read_dir(cache.join(folder)).ok()?;
        let mut found: Vec<PathBuf> = versions
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(version))
            .map(|entry| entry.path().join(program))
            .filter(|path| path.is_file())
            .collect();
        found.sort_by_key(|path| path.metadata().and_then(|it| it.modified()).ok());
        found.pop()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the real parts are is told by the environment"
)]
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
