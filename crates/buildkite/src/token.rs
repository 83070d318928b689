//! Where a token comes from: a fixed secret, or a file that is read again when it changes.
//! It does not know what the token may do.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// A token is a few hundred bytes; a file of more is not one.
const LONGEST: u64 = 16 * 1024;
/// A file that takes longer is on a server that does not answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The agent token of a cluster, or an API access token.
#[derive(Clone)]
pub enum TokenSource {
    Fixed(SecretString),
    /// The file's content less the white space around it, read again whenever the file's time,
    /// length or inode changed, so that a rotated token is used by the very next call.
    File(PathBuf),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed([redacted])"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// The word before the token: which API it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scheme {
    /// The agent and Stacks APIs.
    Token,
    /// REST.
    Bearer,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Token => "Token",
            Self::Bearer => "Bearer",
        }
    }
}

/// The token as it stands, ready for the header.
pub(crate) struct Token {
    source: TokenSource,
    scheme: Scheme,
    read: Mutex<Option<(Stamp, Ready)>>,
    /// Whose turn it is to look at the file: at most one thread waits for it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// One reading of the token.
#[derive(Clone)]
pub(crate) struct Ready {
    /// `Token …` or `Bearer …`, marked sensitive: it prints as such.
    pub(crate) header: HeaderValue,
    secret: SecretString,
}

impl Ready {
    pub(crate) fn secret(self) -> SecretString {
        self.secret
    }

    /// Takes the token out of a text, should a server or a proxy have echoed it.
    pub(crate) fn redact(&self, text: &str) -> String {
        text.replace(self.secret.expose_secret(), "[redacted]")
    }
}

/// What tells that a file is another one than before.
#[derive(Clone, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Token {
    pub(crate) fn new(source: TokenSource, scheme: Scheme) -> Self {
        Self { source, scheme, read: Mutex::new(None), turn: Arc::default() }
    }

    /// As `ready`, and never longer than `ANSWER`: a file may be on a server that is gone, and
    /// whoever waits for it in a thread of the runtime stops everything else too.
    ///
    /// # Errors
    /// The same, in words.
    pub(crate) async fn soon(self: &Arc<Self>) -> Result<Ready, String> {
        let TokenSource::File(path) = &self.source else { return self.ready() };
        let look = async {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            let token = Arc::clone(self);
            let looked = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                token.ready()
            });
            looked.await.map_err(|error| error.to_string()).flatten()
        };
        let answer = tokio::time::timeout(ANSWER, look).await;
        answer.unwrap_or_else(|_| {
            let (path, seconds) = (path.display(), ANSWER.as_secs());
            Err(format!("token file {path}: no answer within {seconds} s"))
        })
    }

    /// The token now. A look at the file's metadata per call is what this costs.
    ///
    /// # Errors
    /// In words, which name the file and never its content.
    pub(crate) fn ready(&self) -> Result<Ready, String> {
        let path = match &self.source {
            TokenSource::Fixed(secret) => return prepare(secret, self.scheme, "the token"),
            TokenSource::File(path) => path,
        };
        let place = format!("token file {}", path.display());
        let stamp = stamp(path).map_err(|error| format!("{place}: {error}"))?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, ready)) = read.as_ref()
            && *before == stamp
        {
            return Ok(ready.clone());
        }
        let secret = load(path).map_err(|error| format!("{place}: {error}"))?;
        let ready = prepare(&secret, self.scheme, &place)?;
        *read = Some((stamp, ready.clone()));
        Ok(ready)
    }

    /// Reads the file again at the next call, whatever its stamp: after a 401, in case that it
    /// was written twice within the grain of the file system's clock.
    pub(crate) fn forget(&self) {
        // Whoever reads it just now has it afresh.
        if let Ok(mut read) = self.read.try_lock() {
            *read = None;
        }
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(std::io::Error::other("is a directory"));
    }
    Ok(Stamp {
        modified: metadata.modified().ok(),
        length: metadata.len(),
        inode: inode(&metadata),
    })
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

fn load(path: &Path) -> std::io::Result<SecretString> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() > usize::try_from(LONGEST).expect("a small constant fits") {
        return Err(std::io::Error::other("is too long to be a token"));
    }
    Ok(SecretString::from(text))
}

fn prepare(secret: &SecretString, scheme: Scheme, place: &str) -> Result<Ready, String> {
    let token = secret.expose_secret().trim();
    if token.is_empty() {
        return Err(format!("{place} is empty"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{place} holds characters that no token has (a space, a control)"));
    }
    let mut header = HeaderValue::from_str(&format!("{} {token}", scheme.name()))
        .expect("graphic ASCII and one space are a valid header");
    header.set_sensitive(true);
    Ok(Ready { header, secret: SecretString::from(token) })
}
