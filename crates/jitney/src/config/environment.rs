//! The one place in which the environment is read, and the directory that follows from it.

use std::path::PathBuf;

use super::Environment;

/// The environment of this process; `main` hands it to whoever needs one.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place where the environment is read")]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// There is no directory to keep state in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to find a place for the journal: neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set; set store.journal and process.directory, or HOME"
)]
pub struct NoStateDir;

/// Where things are kept that outlive the process: what systemd hands over, `/var/lib/jitney` for
/// root, else the user's state directory as the XDG has it.
pub fn state_dir(environment: Environment<'_>, root: bool) -> Result<PathBuf, NoStateDir> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    // systemd joins several directories with colons; the first one is the unit's own.
    let from_systemd = set("STATE_DIRECTORY")
        .and_then(|list| list.split(':').next().map(PathBuf::from))
        .filter(|directory| directory.is_absolute());
    if let Some(directory) = from_systemd {
        return Ok(directory);
    }
    if root {
        return Ok(PathBuf::from("/var/lib/jitney"));
    }
    // The XDG's specification: a relative path is to be ignored.
    let from_xdg =
        set("XDG_STATE_HOME").map(PathBuf::from).filter(|directory| directory.is_absolute());
    let from_home = || set("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    from_xdg.or_else(from_home).map(|base| base.join("jitney")).ok_or(NoStateDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(environment: &[(&str, &str)], root: bool, expected: &str) {
        let lookup = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let got = state_dir(&lookup, root);
        assert_eq!(got.map_or("none".into(), |path| path.display().to_string()), expected);
    }

    #[test]
    fn state_directory_per_platform() {
        check(&[("HOME", "/home/ann")], false, "/home/ann/.local/state/jitney");
        check(&[("HOME", "/home/ann"), ("XDG_STATE_HOME", "/s")], false, "/s/jitney");
        check(
            &[("HOME", "/home/ann"), ("XDG_STATE_HOME", "s")],
            false,
            "/home/ann/.local/state/jitney",
        );
        check(&[("HOME", "/home/ann")], true, "/var/lib/jitney");
        check(&[("STATE_DIRECTORY", "/var/lib/ci:/var/lib/two")], true, "/var/lib/ci");
        check(&[("STATE_DIRECTORY", ""), ("HOME", "/h")], false, "/h/.local/state/jitney");
        check(&[], false, "none");
    }
}
