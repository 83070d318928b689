//! Where Jitney listens and who may ask, how it speaks to Buildkite, and where it keeps things.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::problem::Complaint;
use super::reading::Section;
use super::values::{boolean, duration_above_zero, listen, one_of, path, shown, text, url, whole};

/// What `listen` serves, and how it is reached.
#[derive(Clone, Debug)]
pub struct Server {
    pub listen: SocketAddr,
    pub tls: Option<Tls>,
    pub public_url: Option<String>,
    pub access: Access,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Who may ask: nobody has to prove anything on loopback, unless one of these is set.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub token: Option<SecretString>,
    /// The header in which an authenticating proxy says who it is.
    pub proxy_header: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Buildkite {
    pub endpoint: String,
    pub token: TokenSource,
    pub job_tokens: JobTokens,
    /// The REST API's address.
    pub api_endpoint: String,
    pub api_token: Option<SecretString>,
    pub organization: Option<String>,
    pub retry_lost: RetryLost,
    pub webhook_secret: Option<SecretString>,
    pub poll: Poll,
}

/// Where the cluster's agent token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    Value(SecretString),
    /// Read again when it changes.
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobTokens {
    /// Without job acquisition tokens Jitney refuses to start.
    Required,
    /// Without them machines get the cluster's token, knowingly.
    Optional,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryLost {
    pub jobs: bool,
    pub per_build: u32,
}

/// How long to wait between two walks of a queue's listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    pub idle: Duration,
    pub busy: Duration,
}

#[derive(Clone, Debug)]
pub struct Store {
    /// None: `jitney.db` in the state directory.
    pub journal: Option<PathBuf>,
    /// An address, and often a password in it.
    pub redis: Option<SecretString>,
    pub keep: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    pub lease: LeaseKind,
    pub duration: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseKind {
    None,
    Kubernetes,
    Redis,
}

impl Server {
    pub(super) fn read(root: &Section<'_>) -> Self {
        let server = Self {
            listen: root.or("listen", "127.0.0.1:8780", listen),
            tls: root.maybe("tls", |tls| Tls {
                certificate: tls.needed("certificate", "name a PEM file", PathBuf::new(), path),
                key: tls.needed("key", "name a PEM file", PathBuf::new(), path),
            }),
            public_url: root.get("public_url", url),
            access: root.within("access", |access| Access {
                token: access.secret("token"),
                proxy_header: access.get("proxy_header", header),
            }),
        };
        let open = server.access.token.is_none() && server.access.proxy_header.is_none();
        if open && !server.listen.ip().is_loopback() {
            root.complain(
                "listen",
                Complaint::new(
                    format!("{} can be reached from elsewhere, and nobody would have to prove who they are", server.listen),
                    "set access.token or access.proxy_header, or listen on 127.0.0.1",
                ),
            );
        }
        server
    }
}

fn header(text: &str) -> Result<String, Complaint> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(
        format!("{} is not a header's name", shown(text)),
        "write X-Forwarded-Email",
    ))
}

impl Buildkite {
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self {
            endpoint: section.or("endpoint", "https://agent.buildkite.com/v3", url),
            token: TokenSource::read(section),
            job_tokens: section.or(
                "job_tokens",
                "required",
                one_of([("required", JobTokens::Required), ("optional", JobTokens::Optional)]),
            ),
            api_endpoint: section.or("api_endpoint", "https://api.buildkite.com/v2", url),
            api_token: section.secret("api_token"),
            organization: section.get("organization", text),
            retry_lost: section.within("retry_lost", |retry| RetryLost {
                jobs: retry.or("jobs", "false", boolean),
                per_build: retry.or("per_build", "5", whole(1, 1000)),
            }),
            webhook_secret: section.secret("webhook_secret"),
            poll: section.within("poll", |poll| Poll {
                idle: poll.or("idle", "250ms", listing_pause),
                busy: poll.or("busy", "150ms", listing_pause),
            }),
        }
    }
}

/// Buildkite allows 10 lists a second for a stack.
fn listing_pause(text: &str) -> Result<Duration, Complaint> {
    const LEAST: Duration = Duration::from_millis(100);
    let pause = duration_above_zero(text)?;
    if pause >= LEAST {
        return Ok(pause);
    }
    Err(Complaint::new(
        format!("{} is more often than Buildkite's 10 lists a second for a stack", shown(text)),
        "write 100ms or more",
    ))
}

impl TokenSource {
    fn read(section: &Section<'_>) -> Self {
        match (section.secret("token"), section.get("token_file", path)) {
            (Some(_), Some(_)) => {
                let complaint = Complaint::new(
                    "stands beside token, and only one of the two can be meant",
                    "take out token or token_file",
                );
                section.complain("token_file", complaint);
                Self::Value(SecretString::default())
            }
            (Some(token), None) => Self::Value(token),
            (None, Some(file)) => Self::File(file),
            (None, None) => {
                if section.is_empty("token") && section.is_empty("token_file") {
                    section.missing(
                    "token",
                    "set buildkite.token to ${BUILDKITE_AGENT_TOKEN}, or token_file to a file with the cluster's agent token",
                  );
                }
                Self::Value(SecretString::default())
            }
        }
    }
}

/// Why a token file gave no token; never with what is in the file.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TokenFileError {
    #[error("failed to read the token file {}: {source}", path.display())]
    #[diagnostic(help("check buildkite.token_file, the file and its permissions"))]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the token file {} does not hold one token", .0.display())]
    #[diagnostic(help("put the cluster's agent token into the file, and nothing else"))]
    NotAToken(PathBuf),
}

impl TokenSource {
    /// The token as it is now; of a file, the spaces and line breaks around it are left out.
    pub fn read_now(&self) -> Result<SecretString, TokenFileError> {
        /// Nobody's token is longer.
        const LONGEST: u64 = 4096;
        let path = match self {
            Self::Value(token) => return Ok(token.clone()),
            Self::File(path) => path,
        };
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
            .map_err(|source| TokenFileError::Unreadable { path: path.clone(), source })?;
        let token = text.trim();
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(TokenFileError::NotAToken(path.clone()));
        }
        Ok(SecretString::from(token))
    }
}

impl Store {
    /// Where the journal is: a relative path is meant from the state directory.
    #[must_use]
    pub fn journal_path(&self, state: &Path) -> PathBuf {
        state.join(self.journal.as_deref().unwrap_or(Path::new("jitney.db")))
    }

    pub(super) fn read(section: &Section<'_>) -> Self {
        Self {
            journal: section.get("journal", path),
            redis: section.secret("redis"),
            keep: section.or("keep", "30d", duration_above_zero),
        }
    }
}

impl Replicas {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let leases = [
            ("none", LeaseKind::None),
            ("kubernetes", LeaseKind::Kubernetes),
            ("redis", LeaseKind::Redis),
        ];
        Self {
            lease: section.or("lease", "none", one_of(leases)),
            duration: section.or("duration", "15s", duration_above_zero),
        }
    }
}
