//! Every request that came in, for assertions such as "never listed more than ten times a second".
//! It keeps no bodies and no tokens, only what kind of token it was.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;

/// Older requests are forgotten; their counts stay.
const MAX_ENTRIES: usize = 200_000;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Request {
    pub at: Timestamp,
    pub method: String,
    /// The path's template, `/v3/jobs/{id}/acquire`; the path itself where nothing matched.
    pub route: String,
    pub path: String,
    /// `cluster`, `acquisition`, `session`, `job`, `api`, `none`, or `unknown`.
    pub token: &'static str,
    /// What was answered; absent where the connection was closed instead.
    pub status: Option<u16>,
    /// The scope of the limit that it counted for.
    pub scope: Option<&'static str>,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Request>,
    counts: BTreeMap<String, u64>,
}

impl Journal {
    pub(crate) fn push(&mut self, request: Request) {
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
        }
        let status = request.status.map_or_else(|| "dropped".to_owned(), |s| s.to_string());
        let key = format!("{} {} {status}", request.method, request.route);
        *self.counts.entry(key).or_default() += 1;
        self.entries.push_back(request);
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Request> {
        self.entries.iter()
    }

    /// How often each `METHOD route status` came.
    pub(crate) fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.counts.clear();
    }
}
