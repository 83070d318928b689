//! Calls that Buildkite takes for at most 1,000 items: cut, sent side by side, joined again.
//! One chunk's failure never hides what another achieved.

use std::collections::BTreeSet;
use std::future::Future;

use futures_util::future::join_all;
use uuid::Uuid;

use crate::error::Error;

/// The most items that one request may name (B.4, B.6, B.8, B.9).
pub(crate) const CHUNK: usize = 1_000;

/// What came of a call that may have been sent in several requests: the joined results of those
/// that were answered, and each that failed with its items (ids, or places in the argument).
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<T, K = Uuid> {
    pub value: T,
    pub failures: Vec<ChunkFailure<K>>,
}

/// One request of a batch that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkFailure<K = Uuid> {
    pub items: Vec<K>,
    pub error: Error,
}

impl<T, K> Batch<T, K> {
    /// All or nothing, for callers that sent one chunk or can repeat the whole: the first error.
    ///
    /// # Errors
    /// The first chunk's failure; what the others achieved is dropped.
    pub fn into_result(self) -> Result<T, Error> {
        match self.failures.into_iter().next() {
            None => Ok(self.value),
            Some(failure) => Err(failure.error),
        }
    }

    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Sends `items` in chunks and joins the replies in the order of the chunks.
pub(crate) async fn in_chunks<K, R, T, Fut>(
    items: Vec<K>,
    call: impl Fn(Vec<K>) -> Fut,
    join: impl Fn(&mut T, &[K], R),
) -> Batch<T, K>
where
    K: Clone,
    T: Default,
    Fut: Future<Output = Result<R, Error>>,
{
    let chunks: Vec<Vec<K>> = items.chunks(CHUNK).map(<[K]>::to_vec).collect();
    let replies = join_all(chunks.iter().cloned().map(call)).await;
    let mut batch = Batch { value: T::default(), failures: Vec::new() };
    for (items, reply) in chunks.into_iter().zip(replies) {
        match reply {
            Ok(reply) => join(&mut batch.value, &items, reply),
            Err(error) => batch.failures.push(ChunkFailure { items, error }),
        }
    }
    batch
}

/// The ids in their order, each once: what is named twice would be counted twice.
pub(crate) fn distinct(ids: &[Uuid]) -> Vec<Uuid> {
    let mut seen = BTreeSet::new();
    ids.iter().copied().filter(|id| seen.insert(*id)).collect()
}
