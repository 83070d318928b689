//! What no plan may say, given what was known when it was made. The invariants look at the truth;
//! this looks at promises that the truth alone does not show: at most one `finish`, nothing taken
//! beside another installation or from others, a deadline on every machine, no storm of creates.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use planner::{
    Action, Answer, BackendSeen, Create, Entry, Event, Finish, FinishOutcome, JobId, JobState,
    Ledger, MachineSeen, Observation, Plan, Policy, Step, Timestamp, Verdict,
};

use super::invariants::Promise;

type Found = (Promise, JobId, String);

#[derive(Debug, Default)]
pub(crate) struct Audit {
    found: Option<Found>,
    creates: BTreeMap<(Arc<str>, JobId, u32), VecDeque<Timestamp>>,
}

const STORM: Duration = Duration::from_secs(10);
/// A create that is not sent is proposed again; so often within that time it is a loop.
const STORM_MOST: usize = 50;

impl Audit {
    /// The first thing that was wrong, once.
    pub(crate) fn found(&mut self) -> Option<Found> {
        self.found.take()
    }

    pub(crate) fn look(
        &mut self,
        ledger: &Ledger,
        seen: &Observation,
        policy: &Policy,
        now: Timestamp,
        plan: &Plan,
    ) {
        for step in &plan.steps {
            let intents = step.intents.iter();
            let wrong = intents.filter_map(|event| begun(ledger, seen, policy, now, event)).next();
            let wrong = wrong.or_else(|| match &step.action {
                Action::Finish { job, .. } => finished(ledger.entry(*job)?, seen, step),
                Action::Notify { job, .. } => {
                    let written = |event: &Event| matches!(event, Event::Told { .. });
                    let unwritten = !step.intents.iter().any(written);
                    let text = "the developer is told, and it is not written down before";
                    unwritten.then(|| (Promise::Bounded, *job, text.to_owned()))
                }
                Action::Retry { job } => {
                    let written = step.intents.iter().any(Event::outlives_its_job);
                    let text = "a retry is asked for, and it is not written down before";
                    (!written).then(|| (Promise::Retries, *job, text.to_owned()))
                }
                Action::Create(create) => {
                    lasting(ledger, policy, create).or_else(|| self.storm(seen, now, create))
                }
                Action::Delete { job, .. } => unfounded(ledger.entry(*job)?, seen, policy, now),
                Action::Ask { .. }
                | Action::Look { .. }
                | Action::ReadRecord { .. }
                | Action::Reserve { .. }
                | Action::Mint { .. } => None,
            });
            self.found = self.found.take().or(wrong);
        }
    }

    fn storm(&mut self, seen: &Observation, now: Timestamp, create: &Create) -> Option<Found> {
        let key = (Arc::clone(&seen.instance), create.job, create.attempt);
        let times = self.creates.entry(key).or_default();
        times.push_back(now);
        while times.front().is_some_and(|at| now.since(*at) > STORM) {
            times.pop_front();
        }
        (times.len() > STORM_MOST).then(|| {
            let text = format!("{} is asked for {} times in 10 s", create.name, times.len());
            (Promise::Bounded, create.job, text)
        })
    }
}

/// Nothing is begun that is not ours, nor beside another installation under our name.
fn begun(
    ledger: &Ledger,
    seen: &Observation,
    policy: &Policy,
    now: Timestamp,
    event: &Event,
) -> Option<Found> {
    let job = event.job();
    match event {
        Event::Taken { row, .. } => {
            let queue = seen.queues.get(&row.queue)?;
            let old = queue.listed_at.is_none_or(|at| now.since(at) > policy.margins.fresh);
            if old {
                let text = format!("a job is taken from a listing of {:?}", queue.listed_at);
                return Some((Promise::Standstill, job, text));
            }
            let candidates = &queue.candidates;
            let candidate = candidates.iter().find(|candidate| candidate.row.id == job);
            let foreign =
                candidate.is_some_and(|found| matches!(found.verdict, Verdict::Foreign(_)));
            if foreign {
                let text = "a job is taken that is not for us".to_owned();
                return Some((Promise::Standstill, job, text));
            }
        }
        Event::CreateIntended { attempt, .. } => {
            let entry = ledger.entry(job)?;
            if entry.attempts.iter().any(|known| known.number == *attempt) {
                return None;
            }
            if let (Some(failed), false) = (&entry.last_failure, entry.attempts.is_empty())
                && failed.at.plus(policy.margins.backoff) > now
            {
                let text = format!("attempt {attempt} follows a failed one without a pause");
                return Some((Promise::Bounded, job, text));
            }
        }
        Event::Reserved { .. }
        | Event::NotReserved { .. }
        | Event::NotIssued { .. }
        | Event::CreateEnded { .. }
        | Event::Connected { .. }
        | Event::Acquired { .. }
        | Event::Released { .. }
        | Event::JobStopping { .. }
        | Event::Loss { .. }
        | Event::JobEnded { .. }
        | Event::MachineEnded { .. }
        | Event::AttemptFailed { .. }
        | Event::DeleteIntended { .. }
        | Event::DeleteEnded { .. }
        | Event::Gone { .. }
        | Event::Doomed { .. }
        | Event::FinishIntended { .. }
        | Event::FinishEnded { .. }
        | Event::Told { .. }
        | Event::Adopted(_)
        | Event::Forgotten { .. } => return None,
    }
    // What was there when this process began to look, or was adopted then, is no stranger's.
    let settled = |backend: &&BackendSeen| {
        let first = backend.first_listed_at;
        first.is_some_and(|at| backend.listed_at >= Some(at.plus(Duration::from_secs(10))))
    };
    let adopted = |machine: &MachineSeen| {
        let entry = ledger.entry(machine.job);
        let attempts = entry.into_iter().flat_map(|entry| &entry.attempts);
        attempts.into_iter().any(|it| it.number == machine.attempt && it.offer.is_none())
    };
    let machines = seen.backends.values().filter(settled);
    let stranger = machines.flat_map(|backend| backend.machines.values()).find(|machine| {
        let foreign = machine.instance != seen.instance && !adopted(machine);
        foreign && machine.created_at > seen.started_at
    })?;
    let text = format!("begun beside {}, which made {}", stranger.instance, stranger.name);
    Some((Promise::Standstill, job, text))
}

/// A job is failed once: again only where no answer came, and on a word since then that it is open.
fn finished(entry: &Entry, seen: &Observation, step: &Step) -> Option<Found> {
    let wrong = |text: &str| Some((Promise::Bounded, entry.job, text.to_owned()));
    if !step.intents.iter().any(|event| matches!(event, Event::FinishIntended { .. })) {
        return wrong("the job is failed, and it is not written down before");
    }
    match entry.finish {
        Finish::No => None,
        Finish::Ended { outcome: FinishOutcome::Taken, .. } => {
            wrong("the job is failed again, and Buildkite took it the first time")
        }
        Finish::Intended { at, .. } | Finish::Ended { at, .. } => {
            let word = seen.answers.get(&entry.job).filter(|word| word.asked_at >= at);
            let open = word.is_some_and(|word| word.state.is_open());
            if open { None } else { wrong("the job is failed again, and nobody says it is open") }
        }
    }
}

/// Where the job's end is not known, only a fresh word lets its machine go.
fn unfounded(entry: &Entry, seen: &Observation, policy: &Policy, now: Timestamp) -> Option<Found> {
    let fresh = |word: &&Answer| now.since(word.asked_at) <= policy.margins.fresh;
    let word = seen.answers.get(&entry.job).filter(|word| word.state != JobState::Unknown);
    if entry.ended.is_some() || word.is_some_and(|word| word.state.is_terminal()) {
        return None;
    }
    word.filter(fresh).is_none().then(|| {
        let text = format!("a machine is to go, and the last word is {word:?}");
        (Promise::G5, entry.job, text)
    })
}

/// The machine ends by itself as soon as it can be of no use any more.
fn lasting(ledger: &Ledger, policy: &Policy, create: &Create) -> Option<Found> {
    let starts = policy.queues.get(&create.queue)?.start_timeout;
    let today = create.shape.time + starts + policy.margins.grace;
    let mut attempts = ledger.entry(create.job).into_iter().flat_map(|entry| &entry.attempts);
    let known = attempts.find(|attempt| attempt.number == create.attempt);
    let most = known.and_then(|attempt| attempt.lifetime).unwrap_or(today);
    (create.deadline > most).then(|| {
        let text = format!("{} may live for {:?}, not {most:?}", create.name, create.deadline);
        (Promise::G3, create.job, text)
    })
}
