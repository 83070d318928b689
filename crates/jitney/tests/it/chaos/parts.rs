//! Where a real agent is: told by the environment, or built into the cache by `tools/real-parts`.

use std::path::PathBuf;

#[expect(clippy::disallowed_methods, reason = "where the real parts are is told from outside")]
pub(super) fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The newest agent, or `None` with a loud word where it may be absent: not where `CI=true`.
pub(super) fn agent() -> Option<PathBuf> {
    let found = var("JITNEY_AGENT_3_137").map(PathBuf::from).or_else(cached);
    if found.is_none() {
        assert!(var("CI").as_deref() != Some("true"), "no buildkite-agent 3.137");
        eprintln!(
            "NOT TESTED: buildkite-agent 3.137 is not here; run `tools/real-parts agents` or set \
             JITNEY_AGENT_3_137"
        );
    }
    found
}

fn cached() -> Option<PathBuf> {
    let base = var("JITNEY_CACHE").map(PathBuf::from).or_else(|| {
        let base = var("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| Some(PathBuf::from(var("HOME")?).join(".cache")));
        base.map(|base| base.join("jitney"))
    })?;
    let entries = std::fs::read_dir(base.join("buildkite-agent")).ok()?;
    let of_version = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("3.137"))
        .map(|entry| entry.path().join("buildkite-agent"));
    of_version.filter(|path| path.is_file()).max()
}
