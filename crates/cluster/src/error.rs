//! What can go wrong with a control plane and its nodes; there is no remedy but to read it.

use std::io;

/// Whatever this crate gives.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a control plane or a node does not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "parts of a control plane are absent ({0}): run `export $(tools/real-parts control-plane)`"
    )]
    Absent(String),
    #[error("nodes run containers in namespaces, which takes root")]
    NotRoot,
    #[error("failed to {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("failed to {what}: {source}")]
    Api { what: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{program} has ended; the end of its log:\n{log}")]
    Ended { program: &'static str, log: String },
    #[error("{what} is not there within {seconds} s")]
    Late { what: String, seconds: u64 },
    #[error("after {seconds} s there is still {left}")]
    Left { left: String, seconds: u64 },
    #[error("no pod {0} runs on this node")]
    NoSuchPod(String),
}

/// For `map_err`: an error of the operating system, with what was tried.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// For `map_err`: an error of a call to the API server, with what was tried.
pub(crate) fn api<E>(what: impl Into<String>) -> impl FnOnce(E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    let what = what.into();
    move |source| Error::Api { what, source: Box::new(source) }
}
