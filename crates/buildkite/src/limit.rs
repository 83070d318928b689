//! Which limits a call counts for, and what its reply says of them in its headers.
//! How they are kept is in `limiter`.

use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::exchange::{number, seconds};
use crate::limiter::{Permit, Quotas, Told, Windows};
use crate::wire::Scope;

/// How long a 429 that names no time stops its scope.
const UNTOLD_BLOCK: Duration = Duration::from_secs(1);
/// The headers of the Stacks API's window, and of an organisation's in the REST API.
const SHARED: &str = "ratelimit";
/// The headers of a user's window in the REST API.
const USER: &str = "ratelimit-user";

/// What a call counts for.
#[derive(Clone, Copy)]
pub(crate) enum Limit<'a> {
    None,
    Stack(&'a Windows, Scope),
    Rest(&'a Quotas),
}

/// The leave to send one request. Drop it when the reply's head has come (or nothing will).
pub(crate) enum Permits {
    None,
    Stack { _permit: Permit },
    Rest { _permits: [Permit; 2] },
}

impl Limit<'_> {
    pub(crate) fn scope(self) -> Option<Scope> {
        match self {
            Self::Stack(_, scope) => Some(scope),
            Self::None | Self::Rest(_) => None,
        }
    }

    /// Waits for the call's turn.
    pub(crate) async fn acquire(self) -> Permits {
        match self {
            Self::None => Permits::None,
            Self::Stack(windows, scope) => {
                Permits::Stack { _permit: windows.of(scope).acquire().await }
            }
            Self::Rest(quotas) => Permits::Rest { _permits: quotas.acquire().await },
        }
    }

    /// How long a 429 without `Retry-After` asks to wait: as its body says, else as the window
    /// says that is used up.
    pub(crate) fn refused_for(self, headers: &HeaderMap, body: Option<f64>) -> Duration {
        let families: &[&str] = match self {
            Self::None | Self::Stack(..) => &[SHARED],
            Self::Rest(_) => &[SHARED, USER],
        };
        let all = || families.iter().map(|family| told(headers, family));
        let used_up = all().filter(|told| told.remaining == Some(0)).filter_map(|told| told.reset);
        body.and_then(seconds)
            .or_else(|| used_up.max())
            .or_else(|| all().filter_map(|told| told.reset).max())
            .unwrap_or(UNTOLD_BLOCK)
    }

    /// Hands the reply's limits to the windows that they belong to, and holds the call's own one
    /// for as long as `block` says.
    pub(crate) fn take_in(self, headers: &HeaderMap, block: Option<Duration>) {
        let block = Told { block, ..Told::default() };
        match self {
            Self::None => {}
            Self::Stack(windows, scope) => {
                let named = headers.get("ratelimit-scope").and_then(|value| value.to_str().ok());
                let told_scope = named
                    .and_then(|name| Scope::ALL.into_iter().find(|scope| scope.name() == name))
                    .unwrap_or(scope);
                windows.of(told_scope).told(&told(headers, SHARED));
                windows.of(scope).told(&block);
            }
            Self::Rest(quotas) => {
                quotas.organization.told(&told(headers, SHARED));
                quotas.user.told(&told(headers, USER));
                // Every call needs both, so that one of them holds all.
                quotas.user.told(&block);
            }
        }
    }
}

fn told(headers: &HeaderMap, family: &str) -> Told {
    let count = |name: &str| -> Option<u32> {
        headers.get(format!("{family}-{name}"))?.to_str().ok()?.trim().parse().ok()
    };
    Told {
        limit: count("limit"),
        remaining: count("remaining"),
        reset: number(headers, &format!("{family}-reset")).and_then(seconds),
        block: None,
    }
}
