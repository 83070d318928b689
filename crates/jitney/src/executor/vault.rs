//! Keeps the tokens that machines are to register with, until they are used or have lapsed. What
//! others see of a token is that it is there and for how long; a dropped secret is zeroed.

use std::collections::BTreeMap;

use planner::{JobId, Timestamp, TokenSeen};
use secrecy::SecretString;

#[derive(Debug, Default)]
pub(crate) struct Vault {
    secrets: BTreeMap<JobId, SecretString>,
    seen: BTreeMap<JobId, TokenSeen>,
}

impl Vault {
    pub(crate) fn put(&mut self, job: JobId, token: TokenSeen, secret: SecretString) {
        self.secrets.insert(job, secret);
        self.seen.insert(job, token);
    }

    pub(super) fn get(&self, job: JobId, attempt: u32, now: Timestamp) -> Option<SecretString> {
        let token = self.seen.get(&job)?;
        (token.attempt == attempt && token.expires_at > now)
            .then(|| self.secrets.get(&job).cloned())?
    }

    pub(crate) fn drop_job(&mut self, job: JobId) {
        self.secrets.remove(&job);
        self.seen.remove(&job);
    }

    /// Drops those that nobody can use any more.
    pub(crate) fn drop_lapsed(&mut self, now: Timestamp) {
        self.seen.retain(|_, token| token.expires_at > now);
        let Self { secrets, seen } = self;
        secrets.retain(|job, _| seen.contains_key(job));
    }

    pub(super) fn seen(&self) -> &BTreeMap<JobId, TokenSeen> {
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use planner::JobId;
    use secrecy::ExposeSecret;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_token_is_for_one_attempt_and_one_time() {
        let (job, at) = (JobId(Uuid::from_u128(1)), Timestamp::from_millis);
        let mut vault = Vault::default();
        vault.put(
            job,
            TokenSeen { attempt: 2, issued_at: at(1), expires_at: at(100) },
            "bkjat_planted".into(),
        );
        assert!(vault.get(job, 1, at(50)).is_none());
        assert!(vault.get(job, 2, at(100)).is_none());
        assert_eq!(vault.get(job, 2, at(99)).unwrap().expose_secret(), "bkjat_planted");
        assert!(!format!("{vault:?}").contains("planted"));
        vault.drop_lapsed(at(100));
        assert!(vault.seen().is_empty() && vault.secrets.is_empty());
    }
}
