//! Jobs that Buildkite gives to an agent and takes back, because the agent never takes them up:
//! offered to one that polls, or acquired by one that does not hear of it.

use planner::{JobId, JobState};

use super::faults::Kind;
use super::world::{Happening, Sim};

impl Sim<'_> {
    /// A free job is offered to an agent that polls, which is not ours.
    pub(crate) fn offered(&mut self) {
        let jobs = self.buildkite.jobs.iter();
        let free = jobs.filter(|(_, job)| job.state == JobState::Scheduled).map(|(id, _)| *id);
        let free: Vec<JobId> = free.collect();
        if free.is_empty() || self.faults.is_calm() {
            return;
        }
        let job = free[self.dice.index(free.len())];
        self.faults.count(Kind::TakenBack);
        self.given_in_vain(job, JobState::Assigned);
    }

    /// Nobody works on the job from here on, whatever its state says.
    pub(crate) fn given_in_vain(&mut self, job: JobId, state: JobState) {
        self.buildkite.set(job, state);
        if let Some(known) = self.buildkite.jobs.get_mut(&job) {
            known.reservation = None;
        }
        self.tell(Some(job), || format!("Buildkite gives it to an agent in vain: {state:?}"));
        let span = self.dice.millis(2_000, 20_000);
        self.after(span, Happening::TakenBack(job));
    }

    pub(crate) fn taken_back(&mut self, job: JobId) {
        // What an agent has in truth is not taken back.
        let in_vain = self.buildkite.jobs.get(&job).is_some_and(|job| job.acquired.is_none());
        let state = match self.buildkite.state(job) {
            JobState::Assigned | JobState::Accepted if in_vain => JobState::Scheduled,
            JobState::Canceling if in_vain => JobState::Canceled,
            JobState::NotReady
            | JobState::Scheduled
            | JobState::Reserved
            | JobState::Assigned
            | JobState::Accepted
            | JobState::Running
            | JobState::Canceling
            | JobState::TimingOut
            | JobState::Finished
            | JobState::Canceled
            | JobState::TimedOut
            | JobState::Expired
            | JobState::NeverRun
            | JobState::Unknown => return,
        };
        self.buildkite.set(job, state);
        self.tell(Some(job), || format!("Buildkite takes it back from the agent: {state:?}"));
    }
}
