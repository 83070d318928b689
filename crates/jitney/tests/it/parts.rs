//! The real programs that only some tests need. Where they are is told by the environment
//! (`tools/real-parts` prints it); one that is absent is told of loudly, and missed where `CI=true`.

use std::path::PathBuf;

pub(crate) fn part(variable: &str, what: &str, remedy: &str) -> Option<PathBuf> {
    let found = var(variable).map(PathBuf::from).filter(|path| path.exists());
    if found.is_none() {
        assert!(var("CI").as_deref() != Some("true"), "{what} is not here");
        eprintln!("NOT TESTED: {what} is not here; `{remedy}` tells what to put into {variable}");
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "where the real parts are is told from outside")]
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
