//! Images by name. None is pulled: a container's file system is this computer's own, with what
//! its image has over that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::played::{Outcome, Played, Player};

/// What is behind the names of images. A name that is not told of is this computer's own files.
#[derive(Clone, Debug, Default)]
pub struct Images(BTreeMap<String, Image>);

#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    /// Instead of this computer's own `/`.
    pub(super) root: Option<PathBuf>,
    /// What is on this computer, and where the container finds it.
    pub(super) over: Vec<(PathBuf, PathBuf)>,
    /// Its containers are no processes.
    pub(super) player: Option<Player>,
    fails: Option<PullFailure>,
}

/// Why an image cannot be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullFailure {
    NotFound,
    Denied,
    Unreachable,
}

/// Why a container of an image waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    InvalidName(String),
    Pull(String),
}

impl Images {
    /// The image has this file or folder at that path.
    #[must_use]
    pub fn with(mut self, image: &str, source: impl AsRef<Path>, at: impl AsRef<Path>) -> Self {
        let over = (source.as_ref().to_owned(), at.as_ref().to_owned());
        self.0.entry(image.to_owned()).or_default().over.push(over);
        self
    }

    /// The image's whole file system is this folder. The container writes beside it, not into it.
    #[must_use]
    pub fn root(mut self, image: &str, folder: impl AsRef<Path>) -> Self {
        self.0.entry(image.to_owned()).or_default().root = Some(folder.as_ref().to_owned());
        self
    }

    /// The image's containers are no processes: each is played by this, until it gives an outcome.
    #[must_use]
    pub fn played<F>(
        mut self,
        image: &str,
        play: impl Fn(Played) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.0.entry(image.to_owned()).or_default().player = Some(Player::new(play));
        self
    }

    #[must_use]
    pub fn fails(mut self, image: &str, failure: PullFailure) -> Self {
        self.0.entry(image.to_owned()).or_default().fails = Some(failure);
        self
    }

    pub(super) fn pull(&self, name: &str) -> Result<Image, Refusal> {
        if !is_reference(name) {
            let words = format!(
                "Failed to apply default image tag \"{name}\": couldn't parse image name \
                 \"{name}\": invalid reference format"
            );
            return Err(Refusal::InvalidName(words));
        }
        let image = self.0.get(name).cloned().unwrap_or_default();
        let Some(failure) = image.fails else { return Ok(image) };
        let cause = match failure {
            PullFailure::NotFound => format!(
                "rpc error: code = NotFound desc = failed to pull and unpack image \"{name}\": \
                 failed to resolve reference \"{name}\": {name}: not found"
            ),
            PullFailure::Denied => format!(
                "failed to pull and unpack image \"{name}\": failed to resolve reference \
                 \"{name}\": pull access denied, repository does not exist or may require \
                 authorization: server message: insufficient_scope: authorization failed"
            ),
            PullFailure::Unreachable => format!(
                "failed to pull and unpack image \"{name}\": failed to resolve reference \
                 \"{name}\": failed to do request: dial tcp: i/o timeout"
            ),
        };
        Err(Refusal::Pull(cause))
    }
}

/// Whether a name can be one of an image: `[host[:port]/]path[:tag][@digest]`, roughly.
fn is_reference(name: &str) -> bool {
    let (name, digest) = name.split_once('@').map_or((name, None), |(a, b)| (a, Some(b)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (name, None),
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut parts = path.split('/').peekable();
    let first = parts.peek().copied().unwrap_or_default();
    if path.contains('/') && (first.contains(['.', ':']) || first == "localhost") {
        parts.next();
    }
    let is_part = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| is_word(c) && !c.is_ascii_uppercase())
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    parts.all(is_part)
        && tag.is_none_or(|tag| !tag.is_empty() && tag.len() <= 128 && tag.chars().all(is_word))
        && digest.is_none_or(|digest| digest.starts_with("sha256:") && digest.len() == 71)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        for good in [
            "alpine",
            "buildkite/agent:3.137.0",
            "localhost:5000/a/b",
            "europe-docker.pkg.dev/p/q/r:v1_2",
            "a__b/c",
        ] {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["", "Alpine", "a//b", "a:", "a b", "a:b c", "-a", "a@sha256:12"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
