//! What somebody probably meant who wrote something that is not there.

/// The candidate that was probably meant, if one is near enough to say so.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let near = |candidate: &str| strsim::damerau_levenshtein(word, candidate);
    let best = candidates.iter().min_by_key(|candidate| near(candidate))?;
    let distance = near(best);
    (distance <= (word.len() / 3).max(1) && distance < word.len()).then_some(*best)
}
