//! What must hold at every moment, measured on the truth and not on what anybody believes: the
//! promises G1, G2, G3 and G5, bounded numbers of calls and rounds, and a clean end. The others have
//! files of their own: G4 `cost`, G6 `silence`, G7 `notices`, G8 `limits`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use planner::{Alarm, Event, JobId, JobState, MachineName, Timestamp};

use super::backends::Order;
use super::calls::Call;
use super::faults::Kind;
use super::key::Key;
use super::notices::Notices;
use super::silence::Silence;
use super::story::{clock, short};
use super::world::{Happening, Sim};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// A job is run at most once, and nothing is made for one that an agent had.
    G1,
    /// At most one machine for each attempt and for each job; no name twice.
    G2,
    /// No machine stays.
    G3,
    /// What a crash costs is not more than what was said.
    G4,
    /// No machine is deleted under a running job.
    G5,
    /// No job is stuck in silence.
    G6,
    /// A job that waits says why.
    G7,
    /// Limits hold.
    G8,
    /// Calls and rounds are bounded.
    Bounded,
    /// Only lost jobs are retried, within the budget of their builds.
    Retries,
    /// Nothing new is begun where it must not be: a full journal, a paused queue, a drain.
    Standstill,
    /// In calm everything comes to its end.
    End,
}

#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) promise: Promise,
    pub(crate) job: Option<JobId>,
    pub(crate) text: String,
    pub(crate) at: Timestamp,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let job = self.job.map_or_else(|| "no single job".to_owned(), short);
        write!(f, "{:?} at {} ({job}): {}", self.promise, clock(self.at), self.text)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) silence: Silence,
    pub(crate) notices: Notices,
    calls: BTreeMap<(usize, Key), VecDeque<Timestamp>>,
    /// When each machine was first about to be asked for, and by which journals.
    asked: BTreeMap<(JobId, u32), (Timestamp, BTreeSet<u64>)>,
    idle_rounds: VecDeque<Timestamp>,
    /// When something was last down.
    pub(crate) disturbed_at: Timestamp,
    clean_since: Option<Timestamp>,
    /// Machines whose agents were given their job and did not hear of it.
    pub(crate) given_in_vain: BTreeSet<u64>,
    pub(crate) done: bool,
}

/// How long an ended machine may stay once nothing is broken any more.
const REMAINS: Duration = Duration::from_secs(90);
/// How long a clean world is watched for anything that stirs.
const STILL: Duration = Duration::from_secs(15);
/// After this the calm has to have brought everything to its end. Jobs that run to their machine's
/// deadline, and those that take their place, may have to wait for each other under a limit of one.
const CALM_AT_MOST: Duration = Duration::from_secs(4 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

impl Watch {
    pub(crate) fn first_asked(&self, job: JobId, attempt: u32) -> Timestamp {
        self.asked.get(&(job, attempt)).map(|(at, _)| *at).unwrap_or_default()
    }

    /// Nothing happens about these jobs any more.
    pub(crate) fn let_go(&mut self, jobs: &BTreeSet<JobId>) {
        self.calls.retain(|(_, key), _| !jobs.contains(&key.job()));
        self.asked.retain(|(job, _), _| !jobs.contains(job));
        self.silence.let_go(jobs);
        self.notices.let_go(jobs);
    }

    pub(crate) fn was_asked(&self, epoch: u64, job: JobId, attempt: u32) -> bool {
        self.asked.get(&(job, attempt)).is_some_and(|(_, epochs)| epochs.contains(&epoch))
    }
}

impl Sim<'_> {
    pub(crate) fn broke(&mut self, promise: Promise, job: Option<JobId>, text: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken { promise, job, text, at: self.now });
        }
    }

    pub(crate) fn two_installations(&self) -> bool {
        self.shells.len() > 1
    }

    pub(crate) fn check_acquire(&mut self, job: JobId, serial: u64) {
        let times = self.buildkite.jobs.get(&job).map_or(0, |job| job.acquires);
        if times > 1 {
            let text = format!("acquired {times} times, now by machine {serial}");
            self.broke(Promise::G1, Some(job), text);
        }
    }

    /// Before a machine is made.
    pub(crate) fn check_create(&mut self, call: &Call, order: &Order, late: bool) {
        let create = &order.create;
        let job = create.job;
        let acquired = self.buildkite.jobs.get(&job).and_then(|job| job.acquired);
        let before = acquired.filter(|(_, at)| call.sent_at > *at);
        if let Some((serial, at)) = before.filter(|_| !self.two_installations()) {
            let text = format!(
                "{} is asked for, but machine {serial} acquired the job at {}",
                create.name,
                clock(at)
            );
            self.broke(Promise::G1, Some(job), text);
        }
        let told = |state: JobState| state != JobState::Unknown;
        let word = call.word.filter(|word| told(word.state) && !word.state.is_open());
        if let Some(word) = word {
            let text = format!("{} is asked for, but Buildkite said {word:?}", create.name);
            self.broke(Promise::G1, Some(job), text);
        }
        self.check_deadline(order);
        if late {
            // Nobody could wait for this one: others may have been made, under other names.
            return self.check_names(order, late);
        }
        self.check_another(call, order);
        self.check_names(order, late);
        self.check_limits(order);
    }

    /// Another machine needs a word that was asked for after the end of those before it.
    fn check_another(&mut self, call: &Call, order: &Order) {
        let job = order.create.job;
        if call.repeated {
            // What allowed it was told when it was first asked for, perhaps to an earlier process.
            return;
        }
        let before = self.places.values().flat_map(|place| place.machines.values());
        let ends = before
            .filter(|machine| machine.seen.job == job && machine.epoch == order.epoch)
            .filter(|machine| machine.seen.name != order.create.name)
            .filter_map(|machine| {
                let end = machine.seen.ended.as_ref().map(|end| end.at);
                end.into_iter().chain(machine.gone_at).min()
            });
        let Some(end) = ends.max() else { return };
        if call.word.is_none_or(|word| word.asked_at < end) && !self.two_installations() {
            let text = format!(
                "{} is asked for on the word {:?}, but the one before ended at {}",
                order.create.name,
                call.word,
                clock(end)
            );
            self.broke(Promise::G1, Some(job), text);
        }
    }

    /// The machine ends by itself: not before its job has had its time, and not much later.
    fn check_deadline(&mut self, order: &Order) {
        let create = &order.create;
        let most = create.shape.time + self.scene.start_timeout + self.policy.margins.grace;
        let least = create.shape.time + self.least_start_timeout();
        if create.deadline < least || create.deadline > most {
            let text = format!(
                "{} would live for {:?}, and {least:?} to {most:?} is right",
                create.name, create.deadline
            );
            self.broke(Promise::G3, Some(create.job), text);
        }
    }

    fn check_names(&mut self, order: &Order, late: bool) {
        let create = &order.create;
        let two = self.two_installations();
        let mut wrong = None;
        for (serial, machine) in self.places.values().flat_map(|place| &place.machines) {
            if machine.seen.job != create.job {
                continue;
            }
            let same = machine.seen.name == create.name;
            let name = &create.name;
            // What bears another instance's mark and came about late is taken for another
            // installation's, and never was in this journal.
            let strangers = machine.seen.instance != order.instance && machine.late;
            let ours = machine.epoch == order.epoch && !strangers;
            // Of a call that takes effect minutes after it was given up, a journal that was begun
            // meanwhile cannot know.
            if same && machine.gone_at.is_none() && (ours || !(two || late)) {
                wrong = Some(format!("{name} lives on {} already", machine.backend));
            } else if !ours {
                // Another journal knew of that one, and what became of it.
            } else if same {
                wrong = Some(format!("the name {name} was machine {serial}'s, which is gone"));
            } else if machine.is_alive() && !two && !late && !machine.late {
                wrong = Some(format!("{name} is made while {} lives", machine.seen.name));
            }
        }
        if let Some(text) = wrong {
            self.broke(Promise::G2, Some(create.job), text);
        }
    }

    /// Before a machine is deleted.
    pub(crate) fn check_delete(&mut self, call: &Call, serial: u64) {
        let fresh = self.policy.margins.fresh;
        let Some(machine) = self.machine(serial).filter(|machine| machine.is_alive()) else {
            return;
        };
        let (job, name) = (machine.seen.job, machine.seen.name.clone());
        let (created_at, adopted) = (machine.seen.created_at, machine.adopted);
        let timeout = self.least_start_timeout();
        let Some(word) = call.word.filter(|word| word.state != JobState::Unknown) else {
            if call.knew_end && self.buildkite.state(job).is_terminal() {
                return;
            }
            let text = format!("{name} is deleted alive, without any word from Buildkite");
            return self.broke(Promise::G5, Some(job), text);
        };
        let up = created_at.plus(timeout);
        let early = call.gave_up && word.asked_at < up && !adopted;
        let before = call.known && !word.state.is_terminal() && word.asked_at < created_at;
        if early || before {
            let text = format!(
                "{name}, made at {}, is deleted on the word {:?}, asked at {}",
                clock(created_at),
                word.state,
                clock(word.asked_at)
            );
            return self.broke(Promise::G5, Some(job), text);
        }
        let state = self.buildkite.state(job);
        let runs = matches!(state, JobState::Accepted | JobState::Running);
        if !runs || !self.buildkite.holds_job(job, serial) {
            return;
        }
        let acquired = self.buildkite.jobs.get(&job).and_then(|job| job.acquired);
        let acquired_at = acquired.map_or(Timestamp::ZERO, |(_, at)| at);
        let old = call.sent_at.since(word.asked_at) > fresh;
        if acquired_at <= word.asked_at || old {
            let text = format!(
                "{name} is deleted while its agent runs the job since {}; the word was {:?}, asked at {}",
                clock(acquired_at),
                word.state,
                clock(word.asked_at)
            );
            self.broke(Promise::G5, Some(job), text);
        }
    }

    /// Whether something new is begun that must not be: it cannot be written down, the operator or
    /// the queue's owner does not want it.
    pub(crate) fn check_begun(&mut self, index: usize, event: &Event) {
        self.check_spot_again(event);
        if let Event::CreateIntended { job, attempt, .. } = event {
            let first = (self.now, BTreeSet::new());
            let (_, epochs) = self.watch.asked.entry((*job, *attempt)).or_insert(first);
            epochs.insert(self.shells[index].epoch);
        }
        let shell = &self.shells[index];
        let entry = shell.ledger.entry(event.job());
        let known = |number: u32| {
            entry.is_some_and(|entry| entry.attempts.iter().any(|known| known.number == number))
        };
        let mut blind = false;
        let (queue, taken) = match (event, entry) {
            (Event::Taken { row, .. }, _) => (&row.queue, true),
            (Event::CreateIntended { attempt, offer, .. }, Some(entry)) if !known(*attempt) => {
                blind = shell.is_blind(&offer.backend);
                (&entry.queue, false)
            }
            _ => return,
        };
        let paused = shell.seen.queues.get(queue).is_some_and(|queue| queue.paused);
        let why = if shell.seen.journal_full {
            "while the journal is full"
        } else if blind {
            "on a backend that was never listed"
        } else if paused {
            "in a paused queue"
        } else if taken && shell.seen.draining {
            "while all is drained"
        } else {
            return;
        };
        self.broke(Promise::Standstill, Some(event.job()), format!("begun {why}: {event:?}"));
    }

    /// What lived when this process began is no sign of another installation. Where our clock is
    /// behind the backend's, a listing's echo of what is gone may seem young, and alarm until it fades.
    pub(crate) fn check_alarms(&mut self, index: usize, alarms: &[Alarm]) {
        let born_at = self.shells[index].born_at;
        let behind = self.clock(index) < self.now || self.faults.had(Kind::OtherClocks);
        let earlier = |name: &MachineName| {
            let mut machines = self.places.values().flat_map(|place| place.machines.values());
            machines.any(|machine| {
                let echo = behind && machine.gone_at.is_some();
                machine.seen.name == *name && machine.seen.created_at < born_at && !echo
            })
        };
        let wrong = alarms.iter().find_map(|alarm| match alarm {
            Alarm::TwoInstallations { machine, .. } => earlier(machine).then_some(machine),
            Alarm::Denied { .. } | Alarm::ApiDenied { .. } => None,
        });
        if let Some(name) = wrong.filter(|_| !self.two_installations()) {
            let text = format!("{name} lived before, and is taken for another installation's");
            self.broke(Promise::Standstill, None, text);
        }
    }

    /// No storm of calls about one thing.
    pub(crate) fn check_call(&mut self, call: &Call) {
        let now = self.now;
        self.check_notice(call);
        self.check_work(call);
        for key in call.keys() {
            let (span, most) = match key {
                Key::Ask(_) => (Duration::from_secs(10), 25),
                Key::Create(..) | Key::Retry(_) => (MINUTE, 15),
                Key::Delete(..) | Key::Finish(_) => (MINUTE, 20),
                // Who starts anew has to look anew.
                Key::Mint(_) | Key::Record(_) => (MINUTE, 40),
                // A refused one each 5 s, and anew in each life.
                Key::Reserve(_) => (MINUTE, 25),
                // Five in each life of a process, and it may die fourteen times.
                Key::Look(_) => (MINUTE, 75),
                // Those have a promise of their own.
                Key::Notify(..) => continue,
            };
            let times = self.watch.calls.entry((call.shell, *key)).or_default();
            times.push_back(now);
            while times.front().is_some_and(|at| now.since(*at) > span) {
                times.pop_front();
            }
            if times.len() > most {
                let text = format!("{key:?}: {} times in {} s", times.len(), span.as_secs());
                self.broke(Promise::Bounded, Some(key.job()), text);
            }
        }
    }

    /// A round that changes nothing must not be followed by the next at once, again and again.
    pub(crate) fn check_round(&mut self, changed: bool) {
        let now = self.now;
        let rounds = &mut self.watch.idle_rounds;
        if changed {
            return rounds.clear();
        }
        rounds.push_back(now);
        while rounds.front().is_some_and(|at| now.since(*at) > Duration::from_secs(2)) {
            rounds.pop_front();
        }
        if rounds.len() > 150 {
            self.broke(Promise::Bounded, None, "150 rounds in 2 s that changed nothing".to_owned());
        }
    }

    /// Once a second.
    pub(crate) fn check(&mut self) {
        self.after(Duration::from_secs(1), Happening::Check);
        if self.is_disturbed() {
            self.watch.disturbed_at = self.now;
        }
        self.check_silence();
        self.check_cost();
        self.watch_the_day();
        self.check_overdue();
        self.check_remains();
        self.check_end();
    }

    /// Whether something is out of order that has an end.
    fn is_disturbed(&self) -> bool {
        self.faults.buildkite_down
            || !self.faults.backend_down.is_empty()
            || !self.shells[0].alive
            || self.shells[0].is_frozen(self.now)
    }

    /// In calm an ended machine is gone soon.
    fn check_remains(&mut self) {
        let Some(calm) = self.calm_since.filter(|_| !self.two_installations()) else { return };
        let (now, from) = (self.now, self.watch.disturbed_at.max(calm));
        let remains = self.places.values().flat_map(super::backends::Place::live).find(|machine| {
            // What bears another installation's mark is left to its own deadline.
            machine.seen.instance == self.shells[0].instance
                && machine
                    .seen
                    .ended
                    .as_ref()
                    .is_some_and(|end| now.since(end.at.max(from)) > REMAINS)
        });
        if let Some((job, name)) = remains.map(|found| (found.seen.job, found.seen.name.clone())) {
            let text = format!("{name} ended and is not removed");
            self.broke(Promise::G3, Some(job), text);
        }
    }

    fn check_end(&mut self) {
        let Some(calm) = self.calm_since else { return };
        let now = self.now;
        let Some((job, what)) = self.what_is_left() else {
            let since = *self.watch.clean_since.get_or_insert(now);
            self.watch.done = now.since(since) >= STILL;
            return;
        };
        self.watch.clean_since = None;
        let frozen = self.shells[0].frozen_until.unwrap_or(calm);
        if now.since(frozen.max(calm)) > CALM_AT_MOST {
            self.broke(Promise::End, Some(job), what);
        }
    }

    /// The first thing that has not come to its end.
    fn what_is_left(&self) -> Option<(JobId, String)> {
        let jobs = self.buildkite.jobs.iter().filter(|(_, job)| !job.state.is_terminal());
        let jobs = jobs.map(|(id, job)| (*id, format!("the job is still {:?}", job.state)));
        let machines = self.places.values().flat_map(super::backends::Place::live);
        let machines = machines.map(|machine| {
            (machine.seen.job, format!("{} is still {:?}", machine.seen.name, machine.seen.phase))
        });
        let shell = &self.shells[0];
        let entries =
            shell.ledger.entries().map(|entry| (entry.job, format!("still kept: {entry:?}")));
        let holds = shell.holds.iter().map(|(job, hold)| (*job, format!("still held: {hold:?}")));
        let calls = shell.in_flight.iter().map(|key| (key.job(), format!("in flight: {key:?}")));
        jobs.chain(machines).chain(entries).chain(calls).chain(holds).next()
    }
}
