//! Why a lost job is left as it is.

use std::fmt;

use crate::NotRetried;

use super::open_ended;

/// The end of a sentence, with the remedy where there is one.
impl fmt::Display for NotRetried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLost => f.write_str("Buildkite says that it ended otherwise"),
            Self::Budget { per_build } => write!(
                f,
                "the build has had all of its {per_build} retries of lost jobs \
                 (buildkite.retry_lost.per_build). Retry it by hand"
            ),
            Self::Denied { words } => write!(
                f,
                "Buildkite's REST API refuses Jitney's token: {}. Retry it by hand",
                open_ended(words)
            ),
            Self::Refused { words } => write!(f, "Buildkite refuses: {}", open_ended(words)),
            Self::NoBuild => f.write_str("it is not known which build it is of. Retry it by hand"),
            Self::NoAnswer => {
                f.write_str("Buildkite's REST API gave no clear answer. Retry it by hand")
            }
        }
    }
}
