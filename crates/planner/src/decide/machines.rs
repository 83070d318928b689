//! The machines of a job in our hands: what a listing tells of them, and which has to go.
//!
//! A machine is deleted on a positive word only: its job has ended, or may still be acquired by
//! another while this machine has ended or used its time up. The word is always asked for after
//! the machine was known; no word means to wait.

use std::time::Duration;

use super::Round;
use crate::job::Standing;
use crate::ledger::doubled;
use crate::{
    Action, Attempt, CreateOutcome, Delete, EndSeen, Entry, Event, Failure, FailureClass, JobState,
    MachineSeen, Outcome, Timestamp,
};

/// A call whose outcome the executor has not reported after this long is taken for lost.
pub(super) const CALL_LOST: Duration = Duration::from_secs(120);
const DELETE_AGAIN_FIRST: Duration = Duration::from_millis(500);
const DELETE_AGAIN_MOST: Duration = Duration::from_secs(15);
/// Whatever a backend says: a minute's rate, and some more.
const DELETE_WAITS_MOST: Duration = Duration::from_secs(90);
/// A machine may take this long to go after its delete was confirmed.
const DELETE_TAKES: Duration = Duration::from_secs(10);

impl Round<'_> {
    pub(super) fn machine_facts(&mut self, entry: &Entry, attempt: &Attempt) {
        let machine = self.machine_of(attempt);
        if let Some(machine) = machine.filter(|machine| !self.took_its_name(attempt, machine)) {
            self.present(entry, attempt, machine);
        } else if let Some(listed_at) = self.backend(&attempt.backend).and_then(|of| of.listed_at) {
            self.absent(entry, attempt, listed_at);
        }
    }

    /// Whether the machine is another installation's with our name, made since ours was deleted.
    fn took_its_name(&self, attempt: &Attempt, machine: &MachineSeen) -> bool {
        let deleted = matches!(attempt.delete, Delete::Confirmed { .. });
        deleted && attempt.offer.is_some() && machine.instance != self.seen.instance
    }

    fn present(&mut self, entry: &Entry, attempt: &Attempt, machine: &MachineSeen) {
        let (job, number, at) = (entry.job, attempt.number, self.now);
        if !matches!(attempt.outcome, Outcome::Made { .. }) {
            let outcome = CreateOutcome::Listed;
            self.fact(Event::CreateEnded { job, attempt: number, outcome, at });
        }
        if attempt.connected_at.is_none()
            && let Some(at) = machine.connected_at
        {
            self.fact(Event::Connected { job, attempt: number, at });
        }
        if attempt.ended.is_none()
            && let Some(end) = machine.ended.clone()
            && !self.may_be_forgotten_ones(attempt)
        {
            self.fact(Event::MachineEnded { job, attempt: number, end, at });
        }
    }

    /// Whether the listing may show a machine of the same name that an earlier process had, and of
    /// which a journal that has just begun knows nothing.
    fn may_be_forgotten_ones(&self, attempt: &Attempt) -> bool {
        let settled = self.seen.journal_since.plus(self.listing_lag(&attempt.backend));
        let listed_at = self.backend(&attempt.backend).and_then(|seen| seen.listed_at);
        attempt.offer.is_some() && listed_at.is_some_and(|at| at < settled)
    }

    /// The listing does not show the machine. It may be behind its time.
    fn absent(&mut self, entry: &Entry, attempt: &Attempt, listed_at: Timestamp) {
        let lag = self.listing_lag(&attempt.backend);
        // What an earlier process knew may be later than it says: the clock may have been set since.
        if listed_at < self.seen.started_at.plus(lag) {
            return;
        }
        let gone = match (&attempt.delete, &attempt.outcome) {
            // A listing that is behind may show the time before the machine was made.
            (Delete::Confirmed { at }, Outcome::Made { at: made_at }) => {
                listed_at >= *at && listed_at >= made_at.plus(lag)
            }
            (Delete::Confirmed { at }, _) | (_, Outcome::NotMade { at } | Outcome::Made { at }) => {
                listed_at >= at.plus(lag)
            }
            (
                Delete::No | Delete::Intended { .. } | Delete::Refused { .. },
                Outcome::Asked { .. } | Outcome::Again { .. },
            ) => false,
        };
        if !gone {
            return;
        }
        let (job, number, at) = (entry.job, attempt.number, self.now);
        let nobody_had_it = entry.acquired_at.is_none();
        let open = attempt.failed.is_none() && entry.ended.is_none();
        if open && (attempt.ended.is_none() || nobody_had_it) {
            let failure = match &attempt.ended {
                Some(end) => ended(end, end.refused.unwrap_or(FailureClass::EndedEarly)),
                None => failure(FailureClass::Lost, "the machine vanished"),
            };
            let charged = self.counts(attempt) && nobody_had_it;
            self.fact(Event::AttemptFailed { job, attempt: number, failure, charged, at });
        }
        self.fact(Event::Gone { job, attempt: number, at });
    }

    pub(super) fn machine(&mut self, entry: &Entry, attempt: &Attempt) {
        self.tell_cut_short(entry, attempt);
        if !self.is_anothers(attempt) && self.has_to_go(entry, attempt) {
            self.delete(entry, attempt);
        }
    }

    /// Whether what the listing shows under the name is another installation's.
    fn is_anothers(&self, attempt: &Attempt) -> bool {
        let machine = self.machine_of(attempt);
        machine.is_some_and(|machine| self.took_its_name(attempt, machine))
    }

    fn has_to_go(&mut self, entry: &Entry, attempt: &Attempt) -> bool {
        // A call under way could make it anew after the delete: first it is known what came of it.
        if attempt.call_at.is_some_and(|at| !self.due(at.plus(CALL_LOST))) {
            return false;
        }
        let known_at = match attempt.outcome {
            Outcome::Made { at } | Outcome::NotMade { at } => at,
            Outcome::Again { .. } | Outcome::Asked { .. } => attempt.intended_at,
        };
        if let Some((state, at)) = entry.ended {
            return attempt.ended.is_some() || self.left_behind(state, at, attempt);
        }
        if let Some(end_seen_at) = attempt.end_seen_at {
            return self.ended_machine(entry, attempt, end_seen_at);
        }
        if let Some(failed) = &attempt.failed {
            // A machine that came about late may have an agent that nobody was asked about yet.
            let word = self.word_or_ask(entry, failed.at.max(known_at));
            return word.is_some_and(|standing| !has_agent(standing));
        }
        self.waiting_machine(entry, attempt, known_at)
    }

    /// The job has ended. If it ran, the agent has some time to leave by itself.
    fn left_behind(&mut self, state: JobState, ended_at: Timestamp, attempt: &Attempt) -> bool {
        let nobody = attempt.failed.is_some() || !matches!(attempt.outcome, Outcome::Made { .. });
        !state.is_done() || nobody || self.due(ended_at.plus(self.policy.margins.linger))
    }

    /// The agent has left, and the job has not ended as far as we know.
    fn ended_machine(&mut self, entry: &Entry, attempt: &Attempt, seen_at: Timestamp) -> bool {
        let Some(standing) = self.word_or_ask(entry, seen_at) else { return false };
        if standing == Standing::Open && attempt.failed.is_none() {
            const EARLY: &str = "the machine ended before its agent had the job";
            let failure = match &attempt.ended {
                Some(end) => match end.refused {
                    Some(class) => ended(end, class),
                    None => failure(FailureClass::EndedEarly, &format!("{EARLY}: {}", end.cause)),
                },
                None => failure(FailureClass::EndedEarly, EARLY),
            };
            // Where an agent was said to have the job meanwhile, this one could not get it.
            let charged = self.counts(attempt) && entry.acquired_at.is_none();
            let (job, number, at) = (entry.job, attempt.number, self.now);
            self.fact(Event::AttemptFailed { job, attempt: number, failure, charged, at });
        }
        true
    }

    /// The machine is on its way up, or its agent works.
    fn waiting_machine(&mut self, entry: &Entry, attempt: &Attempt, known_at: Timestamp) -> bool {
        let Some((standing, _)) = self.word(known_at) else { return false };
        match standing {
            // Asked to stop before any agent can have had it: nobody is there to stop.
            Standing::Stopping => entry.acquired_at.is_none() && attempt.connected_at.is_none(),
            Standing::Open => {
                self.check_start(entry, attempt);
                false
            }
            Standing::Acquired
            | Standing::Done
            | Standing::Void
            | Standing::Parked
            | Standing::Unknown => false,
        }
    }

    /// Gives the attempt up if no agent has got the job in time. No time runs while Buildkite
    /// cannot be reached, and the word that nobody has the job is asked for after the time is up.
    fn check_start(&mut self, entry: &Entry, attempt: &Attempt) {
        let Outcome::Made { at: made_at } = attempt.outcome else { return };
        if self.seen.buildkite.failing_since.is_some() {
            return;
        }
        let timeout = self.policy.start_timeout(&entry.queue);
        let from = made_at.max(self.seen.buildkite.reachable_since);
        let time_up = from.plus(timeout);
        if !self.due(time_up) || self.word_or_ask(entry, time_up) != Some(Standing::Open) {
            return;
        }
        let allowed = crate::spell_duration(timeout);
        let words = match attempt.connected_at {
            Some(_) => format!("its agent connected and did not get the job within {allowed}"),
            None => format!("no agent connected within {allowed}"),
        };
        let note = self.machine_of(attempt).and_then(|machine| machine.note.as_deref());
        let words = match note.filter(|_| attempt.connected_at.is_none()) {
            Some(note) => format!("{words}; {note}"),
            None => words,
        };
        let failure = failure(FailureClass::StartTimeout, &words);
        let charged = self.counts(attempt);
        let (job, number, at) = (entry.job, attempt.number, self.now);
        self.fact(Event::AttemptFailed { job, attempt: number, failure, charged, at });
    }

    /// Whether a failure of this attempt counts: not where Buildkite was out of reach meanwhile, nor
    /// where the place would not have the machine.
    fn counts(&self, attempt: &Attempt) -> bool {
        if attempt.ended.as_ref().is_some_and(|end| end.refused.is_some()) {
            return false;
        }
        let buildkite = &self.seen.buildkite;
        buildkite.failing_since.is_none() && buildkite.reachable_since <= attempt.intended_at
    }

    fn delete(&mut self, entry: &Entry, attempt: &Attempt) {
        let lag = self.listing_lag(&attempt.backend).max(DELETE_TAKES);
        let now = match attempt.delete {
            Delete::No => true,
            Delete::Intended { at, .. } => self.due(at.plus(CALL_LOST)),
            Delete::Refused { at, tries, retry_after } => {
                let doubled =
                    doubled(DELETE_AGAIN_FIRST, tries.saturating_sub(1), DELETE_AGAIN_MOST);
                let wait =
                    retry_after.map_or(doubled, |wait| doubled.max(wait.min(DELETE_WAITS_MOST)));
                self.due(at.plus(wait))
            }
            // Confirmed, and a listing that cannot be behind still shows it.
            Delete::Confirmed { at } => {
                let listed_at = self.backend(&attempt.backend).and_then(|seen| seen.listed_at);
                let shown = self.machine_of(attempt).is_some();
                shown && listed_at.is_some_and(|listed| listed >= at.plus(lag))
            }
        };
        if !now {
            return;
        }
        let (job, number) = (entry.job, attempt.number);
        let intent = Event::DeleteIntended { job, attempt: number, at: self.now };
        let action = Action::Delete {
            backend: attempt.backend.clone(),
            name: attempt.name.clone(),
            job,
            attempt: number,
        };
        self.step(vec![intent], action);
    }
}

/// Whether an agent may be at work on the job.
const fn has_agent(standing: Standing) -> bool {
    match standing {
        Standing::Acquired | Standing::Stopping | Standing::Unknown => true,
        Standing::Open | Standing::Done | Standing::Void | Standing::Parked => false,
    }
}

fn ended(end: &EndSeen, class: FailureClass) -> Failure {
    Failure { shortage: end.shortage.clone(), ..failure(class, &end.cause) }
}

fn failure(class: FailureClass, words: &str) -> Failure {
    Failure { class, words: words.into(), retry_after: None, shortage: None }
}
