//! G6: no job is stuck in silence. What waits, somebody works on or says why not, and that is true:
//! a reason that names a moment ends then, and one that names a call is followed by that call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use planner::{JobId, JobState, Reason, Timestamp};

use super::buildkite::{Job, Reservation, Stack};
use super::calls::Call;
use super::faults::Kind;
use super::invariants::Promise;
use super::key::Key;
use super::shell::Shell;
use super::story::clock;
use super::world::Sim;

#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// Since when nobody says anything about a job that waits.
    since: BTreeMap<JobId, Timestamp>,
    /// When a call was last made that brings a job forward.
    worked_at: BTreeMap<(usize, JobId), Timestamp>,
}

/// How long a job may be in nobody's mind once nothing is broken any more.
const SILENCE: Duration = Duration::from_secs(60);
/// These keep single jobs from moving for as long as they last.
const HOLD_BACK: [Kind; 7] = [
    Kind::AnswerOmits,
    Kind::Refused,
    Kind::NotIssued,
    Kind::TokenDiesEarly,
    Kind::ShortLease,
    Kind::OtherStack,
    Kind::TakenBack,
];

impl Silence {
    pub(crate) fn let_go(&mut self, jobs: &BTreeSet<JobId>) {
        self.since.retain(|job, _| !jobs.contains(job));
        self.worked_at.retain(|(_, job), _| !jobs.contains(job));
    }
}

impl Sim<'_> {
    /// Remembers what is done for a job. To ask and to tell moves nothing.
    pub(crate) fn check_work(&mut self, call: &Call) {
        for key in call.keys() {
            if brings_forward(key) {
                self.watch.silence.worked_at.insert((call.shell, key.job()), self.now);
            }
        }
    }

    pub(crate) fn check_silence(&mut self) {
        let now = self.now;
        let mut silent = BTreeMap::new();
        for (id, job) in &self.buildkite.jobs {
            if self.is_silent(*id, job) {
                silent.insert(*id, *self.watch.silence.since.get(id).unwrap_or(&now));
            }
        }
        let from = self.watch.disturbed_at;
        let stuck = silent.iter().find(|(_, since)| now.since((**since).max(from)) > SILENCE);
        if let Some((job, since)) = stuck.map(|(job, since)| (*job, *since)) {
            let state = self.buildkite.state(job);
            let said: Vec<_> =
                self.shells.iter().filter_map(|shell| shell.holds.get(&job)).collect();
            let text = format!(
                "{state:?}, and since {} nobody works on it or says why not: {said:?}",
                clock(since)
            );
            self.broke(Promise::G6, Some(job), text);
        }
        self.watch.silence.since = silent;
    }

    fn is_silent(&self, id: JobId, job: &Job) -> bool {
        let ours = |held: Reservation| {
            held.by == Stack::Ours
                && self.shells.iter().any(|shell| shell.alive && shell.epoch == held.epoch)
        };
        // Who lost an answer and is refused the next call cannot know what is its own: then the
        // reservation lapses. So it is where another had the job for a moment, and the lost call
        // takes effect when that one is done.
        let had = |kind| self.faults.had(kind);
        let others = had(Kind::OtherStack) || had(Kind::TakenBack);
        let late = had(Kind::LateArrival) && others;
        let known = !had(Kind::Refused) && !late;
        let claimed = job.state == JobState::Reserved && job.reservation.is_some_and(ours);
        let waits = job.state == JobState::Scheduled || (claimed && known);
        waits && !(0..self.shells.len()).any(|index| self.speaks(index, id, job.state))
    }

    /// Whether this process works on the job, or says why it does not.
    fn speaks(&self, index: usize, job: JobId, state: JobState) -> bool {
        let shell = &self.shells[index];
        let works = |key: &Key| key.job() == job && brings_forward(key);
        // A question that is answered after a minute is a fault that lasts as long.
        let late = |key: &Key| key.job() == job && self.faults.had(Kind::LongDelay);
        if shell.in_flight.iter().any(|key| works(key) || late(key)) {
            return true;
        }
        let Some(hold) = shell.holds.get(&job) else { return false };
        if self.now.since(shell.last_round) > SILENCE {
            return false;
        }
        match &hold.reason {
            Reason::CoolingDown { until, .. } | Reason::BackingOff { until, .. } => {
                self.clock(index) <= until.plus(SILENCE)
            }
            Reason::Reserving
            | Reason::Creating { .. }
            | Reason::Failing
            | Reason::LookingUp { .. } => self.worked_within(shell, index, job, SILENCE),
            Reason::Removing { .. } | Reason::Starting { .. } | Reason::AgentConnected { .. } => {
                self.worked_within(shell, index, job, self.scene.start_timeout + SILENCE)
            }
            Reason::LeaseLapsing => state == JobState::Reserved,
            Reason::Limit { .. }
            | Reason::CreateRate { .. }
            | Reason::QueuePaused
            | Reason::Draining
            | Reason::JournalFull
            | Reason::BuildkiteUnreachable
            | Reason::BackendUnreachable { .. }
            | Reason::TwoInstallations { .. }
            | Reason::Foreign { .. } => true,
        }
    }

    /// Whether the job was brought forward lately, where nothing keeps it back.
    fn worked_within(&self, shell: &Shell, index: usize, job: JobId, span: Duration) -> bool {
        let worked_at = self.watch.silence.worked_at.get(&(index, job)).copied();
        let kept_back = HOLD_BACK.iter().any(|kind| self.faults.has(*kind));
        let from = worked_at.unwrap_or_default().max(shell.born_at).max(self.watch.disturbed_at);
        let from = from.max(self.calm_since.unwrap_or_default());
        kept_back || self.now.since(from) <= span
    }
}

const fn brings_forward(key: &Key) -> bool {
    match key {
        Key::Look(_)
        | Key::Record(_)
        | Key::Retry(_)
        | Key::Reserve(_)
        | Key::Mint(_)
        | Key::Create(..)
        | Key::Delete(..)
        | Key::Finish(_) => true,
        Key::Ask(_) | Key::Notify(..) => false,
    }
}
