//! G7: a job that waits says why, within 2 s of the round that first knew it; it gets 100 words at
//! most, and none of the last three is spent on waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use planner::{Action, Event, FailureClass, JobId, Notice, Reason, Timestamp};

use super::calls::Call;
use super::invariants::Promise;
use super::shell::Shell;
use super::story::clock;
use super::world::Sim;

#[derive(Debug, Default)]
pub(crate) struct Notices {
    count: BTreeMap<JobId, u32>,
    /// What a job's developer has heard from this process of why it waits.
    told: BTreeMap<(usize, JobId), Vec<Story>>,
    /// When a developer heard again what was told before.
    again: BTreeMap<(usize, JobId), VecDeque<Timestamp>>,
    /// What the developer has to hear, known since then.
    due: BTreeMap<(usize, JobId), (Story, Timestamp)>,
}

/// A reason to wait, without what changes while it lasts.
#[derive(Clone, Debug, PartialEq)]
enum Story {
    Limit,
    Paused,
    Draining,
    Unreachable(String),
    Cooling(String, FailureClass),
    JournalFull,
    TwoInstallations,
    Foreign,
    Starting,
    LookingUp,
}

const WITHIN: Duration = Duration::from_secs(2);
const MOST: u32 = 100;
const KEPT_FOR_THE_END: u32 = 3;
/// More words than these within that time about what was told before are a flood.
const AGAIN_MOST: usize = 10;
const AGAIN_SPAN: Duration = Duration::from_secs(600);

/// What of a reason a developer has to hear; none where it only tells that we are at work.
fn story(reason: &Reason) -> Option<Story> {
    match reason {
        Reason::Limit { .. } => Some(Story::Limit),
        Reason::QueuePaused => Some(Story::Paused),
        Reason::Draining => Some(Story::Draining),
        Reason::BackendUnreachable { backend, .. } => Some(Story::Unreachable(backend.to_string())),
        Reason::CoolingDown { backend, failure, .. } => {
            Some(Story::Cooling(backend.to_string(), failure.class))
        }
        Reason::JournalFull => Some(Story::JournalFull),
        Reason::TwoInstallations { .. } => Some(Story::TwoInstallations),
        Reason::Foreign { nearest: Some(_), .. } => Some(Story::Foreign),
        Reason::Starting { note: Some(_), .. } => Some(Story::Starting),
        Reason::LookingUp { words: Some(_), .. } => Some(Story::LookingUp),
        Reason::CreateRate { .. }
        | Reason::BuildkiteUnreachable
        | Reason::BackingOff { .. }
        | Reason::LookingUp { words: None, .. }
        | Reason::Reserving
        | Reason::Creating { .. }
        | Reason::Starting { note: None, .. }
        | Reason::AgentConnected { .. }
        | Reason::Removing { .. }
        | Reason::LeaseLapsing
        | Reason::Failing
        | Reason::Foreign { nearest: None, .. } => None,
    }
}

impl Notices {
    /// Whether the developer had heard that before.
    fn heard(&mut self, index: usize, job: JobId, notice: &Notice) -> bool {
        let story = match notice {
            Notice::Waiting { reason, .. } => story(reason),
            Notice::Made { .. }
            | Notice::Retrying { .. }
            | Notice::CutShort { .. }
            | Notice::Replaced { .. }
            | Notice::NotRetried { .. }
            | Notice::Assumed { .. } => None,
        };
        let Some(story) = story else { return false };
        let told = self.told.entry((index, job)).or_default();
        let again = told.contains(&story);
        if !again {
            told.push(story);
        }
        again
    }

    /// How often the developer was told again within the last ten minutes, with this word.
    fn told_again(&mut self, index: usize, job: JobId, now: Timestamp) -> usize {
        let times = self.again.entry((index, job)).or_default();
        times.push_back(now);
        while times.front().is_some_and(|at| now.since(*at) > AGAIN_SPAN) {
            times.pop_front();
        }
        times.len()
    }

    pub(crate) fn let_go(&mut self, jobs: &BTreeSet<JobId>) {
        self.count.retain(|job, _| !jobs.contains(job));
        self.told.retain(|(_, job), _| !jobs.contains(job));
        self.again.retain(|(_, job), _| !jobs.contains(job));
        self.due.retain(|(_, job), _| !jobs.contains(job));
    }

    /// A process begins with what its journal says was told.
    pub(crate) fn start(&mut self, index: usize, journal: &[Event]) {
        self.told.retain(|(shell, _), _| *shell != index);
        self.due.retain(|(shell, _), _| *shell != index);
        for event in journal {
            if let Event::Told { job, notice, .. } = event {
                self.heard(index, *job, notice);
            } else if let Event::Forgotten { job, .. } = event {
                self.told.remove(&(index, *job));
            }
        }
    }
}

impl Sim<'_> {
    /// A word is on its way to a developer.
    pub(crate) fn check_notice(&mut self, call: &Call) {
        let Action::Notify { job, notice, .. } = &call.action else { return };
        if self.watch.notices.heard(call.shell, *job, notice) {
            let times = self.watch.notices.told_again(call.shell, *job, self.now);
            if times > AGAIN_MOST {
                let text = format!("{notice:?} is word {times} in ten minutes of what was told");
                self.broke(Promise::G7, Some(*job), text);
            }
        }
        if let Notice::CutShort { attempt, .. } = notice
            && !self.ran_on(*job, *attempt)
            && !self.came_late(*job)
            && !self.two_installations()
        {
            let text = format!("{notice:?} is told, but no agent had the job on that machine");
            self.broke(Promise::G7, Some(*job), text);
        }
        let count = self.watch.notices.count.entry(*job).or_default();
        *count += 1;
        let waiting = matches!(notice, Notice::Waiting { .. });
        let most = if waiting { MOST - KEPT_FOR_THE_END } else { MOST };
        if *count > most {
            let text = format!("notification {count} is {notice:?}, and {most} are the most");
            self.broke(Promise::G7, Some(*job), text);
        }
    }

    /// Whether a machine of the job came about after its delete: whose agent then has the job cannot
    /// be told from what the next one's says.
    fn came_late(&self, job: JobId) -> bool {
        let mut machines = self.places.values().flat_map(|place| place.machines.values());
        machines.any(|machine| machine.seen.job == job && machine.late)
    }

    fn ran_on(&self, job: JobId, attempt: u32) -> bool {
        let acquired = self.buildkite.jobs.get(&job).and_then(|job| job.acquired);
        let machines = self.places.values().flat_map(|place| &place.machines);
        let mut of_attempt = machines
            .filter(|(_, machine)| machine.seen.job == job && machine.seen.attempt == attempt);
        of_attempt.any(|(serial, _)| {
            let winner = acquired.is_some_and(|(winner, _)| winner == *serial);
            winner || self.watch.given_in_vain.contains(serial)
        })
    }

    /// After a round: what it knows, a developer has heard or is about to hear.
    pub(crate) fn check_told(&mut self, index: usize) {
        let (now, shell) = (self.now, &self.shells[index]);
        let mute = is_mute(shell);
        let Notices { count, told, due, .. } = &mut self.watch.notices;
        due.retain(|(of, job), _| *of != index || shell.holds.contains_key(job));
        for (job, hold) in &shell.holds {
            let key = (index, *job);
            let spent = count.get(job).is_some_and(|count| *count >= MOST - KEPT_FOR_THE_END);
            let story = story(&hold.reason).filter(|_| !spent);
            let news = |story: &Story| told.get(&key).is_none_or(|told| !told.contains(story));
            let Some(story) = story.filter(news) else {
                due.remove(&key);
                continue;
            };
            // Where one reason follows another, the developer still waits for the first word.
            let (known, since) = due.entry(key).or_insert_with(|| (story.clone(), now));
            *known = story;
            if mute {
                *since = now;
            }
        }
        self.check_overdue();
    }

    pub(crate) fn check_overdue(&mut self) {
        let within = WITHIN + self.policy.margins.tell_after;
        let listens = |index: usize| {
            let shell = &self.shells[index];
            shell.alive && !shell.is_frozen(self.now) && !is_mute(shell)
        };
        let overdue =
            self.watch.notices.due.iter().find(|((index, _), (_, since))| {
                listens(*index) && self.now.since(*since) > within
            });
        let Some(((_, job), (story, since))) = overdue else { return };
        let (job, text) =
            (*job, format!("{story:?} is known since {} and not told", clock(*since)));
        self.broke(Promise::G7, Some(job), text);
    }
}

/// Nothing can be told while Buildkite cannot be reached.
fn is_mute(shell: &Shell) -> bool {
    shell.seen.buildkite.failing_since.is_some()
}
