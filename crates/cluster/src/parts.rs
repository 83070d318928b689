//! Where the real programs are, as told by the environment (`tools/real-parts control-plane`
//! prints it). Nothing is looked for anywhere else, and nothing is built.

use std::path::PathBuf;

use crate::{Error, Result};

#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) etcd: PathBuf,
    pub(crate) api_server: PathBuf,
    pub(crate) controllers: PathBuf,
    pub(crate) scheduler: PathBuf,
    pub(crate) kubectl: PathBuf,
}

impl Parts {
    /// All of them, or an error that says what is absent.
    pub(crate) fn find() -> Result<Self> {
        let mut absent = Vec::new();
        let mut part = |variable| {
            let path = var(variable).map(PathBuf::from).filter(|path| path.is_file());
            if path.is_none() {
                absent.push(variable);
            }
            path.unwrap_or_default()
        };
        let parts = Self {
            etcd: part("JITNEY_ETCD"),
            api_server: part("JITNEY_KUBE_APISERVER"),
            controllers: part("JITNEY_KUBE_CONTROLLER_MANAGER"),
            scheduler: part("JITNEY_KUBE_SCHEDULER"),
            kubectl: part("JITNEY_KUBECTL"),
        };
        if !absent.is_empty() {
            return Err(Error::Absent(absent.join(", ")));
        }
        // What cannot make namespaces could only run half of what is here.
        if rustix::process::geteuid().is_root() { Ok(parts) } else { Err(Error::NotRoot) }
    }

    /// As `find`, for tests: absent parts are said on standard error, and panic where `CI=true`.
    pub(crate) fn for_tests() -> Option<Self> {
        Self::find()
            .inspect_err(|error| {
                assert!(var("CI").as_deref() != Some("true"), "{error}");
                eprintln!("NOT TESTED: {error}");
            })
            .ok()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the real parts are is told by the environment"
)]
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
