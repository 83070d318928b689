//! Tokens for machines that come in for them. Those that were ordered since this program began have
//! theirs; for one from before it another token is issued, as for a machine that is about to be
//! made.

use planner::{Action, JobId, Step};
use secrecy::SecretString;

use super::state::State;

impl State {
    /// The token of a machine that nobody has yet, as soon as there is one: whoever asked comes back.
    pub(super) fn token_for(&mut self, job: JobId, attempt: u32) -> Option<SecretString> {
        let now = self.clock.now();
        if let Some(secret) = self.executor.token(job, attempt) {
            return Some(secret);
        }
        let entry = self.ledger.entry(job)?;
        let waits = entry.attempts.iter().any(|known| {
            known.number == attempt && known.failed.is_none() && known.connected_at.is_none()
        });
        let ours = entry.lease.is_some_and(|lease| lease.until > now);
        let open = entry.ended.is_none() && entry.acquired_at.is_none();
        let pace = self.seen.queues.get(&entry.queue).map(|queue| queue.mint_not_before);
        if !(waits && ours && open && pace.is_none_or(|at| at <= now)) {
            return None;
        }
        let lifetime = self.settings.borrow().policy.lease(&entry.queue);
        let (queue, jobs) = (entry.queue.clone(), vec![(job, attempt)]);
        let action = Action::Mint { queue, jobs, lifetime };
        if let Some(step) = self.executor.admit(Step { intents: Vec::new(), action }) {
            tracing::info!(%job, attempt, "a machine from before this start asks for its token; another is issued");
            let dispatch = self.seen.dispatch.clone();
            self.executor.perform(step.action, &dispatch);
        }
        None
    }
}
