//! What is known of our machines: what was asked for, what lists have shown since, what operations
//! and guests have said. Pure; time comes with each call.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use super::refusal::{self, Asked};
use super::settings::Settings;
use super::stamp::Stamp;
use super::wire::{Instance, Operation, Status};
use crate::contract::{Error, Listing, Machine, MachineEnd, Phase};

/// How long a machine that was made may be missing in a list.
const LAG: Duration = Duration::from_secs(120);
/// How far back operations are looked up for a machine that is gone.
const LOOK_BACK: Duration = Duration::from_secs(600);
/// How long after its last moment nothing is kept of a machine any more.
const KEPT: Duration = Duration::from_secs(3_600);
const PREEMPTED: &str = "compute.instances.preempted";
/// Whoever ends machines that have run as long as they may.
const SYSTEM: &str = "system@google.com";

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) zone: String,
    pub(super) stamp: Stamp,
    pub(super) machine_type: String,
    pub(super) spot: bool,
    /// When we asked for it, or Google made it.
    pub(super) created_at: Timestamp,
    /// Google's own number of it.
    pub(super) id: Option<String>,
    pub(super) state: State,
    /// What its agent registers with, until that has happened.
    pub(super) token: Option<SecretString>,
    pub(super) connected_at: Option<Timestamp>,
    /// What its guest says of its end.
    pub(super) told: Option<MachineEnd>,
    /// What Google did to it.
    pub(super) taken: Option<(Timestamp, Taken)>,
    /// The tail of its serial port, once it was read.
    pub(super) serial: Option<String>,
    /// Whether that was when it was off, so that there is no more to come.
    pub(super) last_words: bool,
    /// Since when lists show it switched off.
    pub(super) off_at: Option<Timestamp>,
    pub(super) deleted_at: Option<Timestamp>,
}

/// How a machine went that we have not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was preempted.
    Back,
    AtDeadline,
    ByItself,
}

impl Taken {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Back => "Google took the spot machine back (preempted)",
            Self::AtDeadline => "the machine's deadline was reached",
            Self::ByItself => "the machine has deleted itself",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// Nobody knows whether Google has heard of it.
    Unanswered,
    /// Google makes it; when its operation ended well.
    Asked {
        settled: Option<Timestamp>,
    },
    Shown(Status),
    /// It was there and is not any more.
    Missing {
        since: Timestamp,
    },
    /// Google would not make it.
    Refused {
        error: Error,
        at: Timestamp,
    },
}

/// What an operation has to explain in a zone, and from when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) since: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Machines {
    all: BTreeMap<String, Known>,
    /// Machines of our mark that cannot be read, by zone.
    unreadable: BTreeMap<String, usize>,
}

impl Machines {
    pub(super) fn get(&self, name: &str) -> Option<&Known> {
        self.all.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Known> {
        self.all.get_mut(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Known)> {
        self.all.iter()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.all.remove(name);
    }

    /// We are about to ask for it. What is known of an earlier try of the same request stays.
    pub(super) fn ask(&mut self, name: &str, known: Known) {
        match self.all.get_mut(name) {
            Some(earlier) => earlier.token = known.token,
            None => {
                self.all.insert(name.to_owned(), known);
            }
        }
    }

    /// Google has taken the request.
    pub(super) fn answered(&mut self, name: &str, operation: &Operation) {
        let Some(known) = self.all.get_mut(name) else { return };
        if known.id.is_none() && !operation.target_id.is_empty() {
            known.id = Some(operation.target_id.clone());
        }
        if matches!(known.state, State::Unanswered) {
            let settled = operation.is_done().then_some(operation.end_time).flatten();
            known.state = State::Asked { settled };
        }
    }

    /// All machines of a zone, as a list that was begun then shows them; answers what operations
    /// have to explain.
    pub(super) fn shown(
        &mut self,
        zone: &str,
        instances: Vec<Instance>,
        begun: Timestamp,
    ) -> Option<Question> {
        let mut there = BTreeMap::new();
        let mut unreadable = 0;
        for instance in instances {
            match Stamp::read(&instance.description) {
                Ok(stamp) => {
                    there.insert(instance.name.clone(), (instance, stamp));
                }
                Err(error) => {
                    let machine = instance.name;
                    tracing::warn!(%error, machine, zone, "cannot read what a machine bears");
                    unreadable += 1;
                }
            }
        }
        self.unreadable.insert(zone.to_owned(), unreadable);
        for (name, known) in self.all.iter_mut().filter(|(_, known)| known.zone == zone) {
            match there.remove(name) {
                Some((instance, _)) => known.is_shown(instance, begun),
                None => known.is_absent(begun),
            }
        }
        for (name, (instance, stamp)) in there {
            // Of the same name in two zones one is a leftover; both are of one attempt.
            self.all.entry(name).or_insert_with(|| Known::found(zone, instance, stamp));
        }
        self.all.retain(|_, known| known.zone != zone || !known.is_over(begun));
        self.question(zone, begun)
    }

    fn question(&self, zone: &str, now: Timestamp) -> Option<Question> {
        let here = self.all.values().filter(|known| known.zone == zone);
        let since = here.filter_map(|known| match &known.state {
            State::Asked { settled: None } => {
                Some(before(known.created_at, Duration::from_secs(60)))
            }
            State::Missing { since } => Some(before(*since, LOOK_BACK)),
            State::Shown(Status::Stopping | Status::Off)
                if known.taken.is_none() && known.deleted_at.is_none() && known.told.is_none() =>
            {
                Some(before(now, LOOK_BACK).max(known.created_at))
            }
            State::Unanswered
            | State::Asked { settled: Some(_) }
            | State::Shown(_)
            | State::Refused { .. } => None,
        });
        since.min().map(|since| Question { since })
    }

    /// What the zone's operations say of it. What nobody can explain any more is gone.
    pub(super) fn operations(&mut self, zone: &str, operations: &[Operation], settings: &Settings) {
        // What is being deleted may be gone before its operation has ended.
        let told = |operation: &&Operation| operation.is_done() || operation.deletes();
        for operation in operations.iter().filter(told) {
            let Some(known) = self.all.get_mut(operation.target()) else { continue };
            let same = known.id.as_ref().is_none_or(|id| *id == operation.target_id);
            if known.zone != zone || !same {
                continue;
            }
            known.is_told_of(operation, settings);
        }
        let unexplained = |known: &Known| {
            matches!(known.state, State::Missing { .. })
                && known.taken.is_none()
                && known.told.is_none()
        };
        self.all.retain(|_, known| known.zone != zone || !unexplained(known));
    }

    /// All that is there, and what became of what is not.
    pub(super) fn listing(&self, reached_all: bool) -> Listing {
        let readable = self.unreadable.values().all(|count| *count == 0);
        let machines = self.all.iter().filter_map(|(name, known)| known.machine(name)).collect();
        Listing { machines, complete: reached_all && readable }
    }

    /// The zones in which there is anything.
    pub(super) fn zones(&self) -> impl Iterator<Item = &str> {
        self.all.values().map(|known| known.zone.as_str())
    }

    /// Whether anything is to be expected soon.
    pub(super) fn moves(&self) -> bool {
        self.all.values().any(|known| match &known.state {
            State::Shown(Status::Running) => {
                known.connected_at.is_none() || known.told.is_some() || known.deleted_at.is_some()
            }
            State::Unanswered
            | State::Asked { .. }
            | State::Shown(_)
            | State::Missing { .. }
            | State::Refused { .. } => true,
        })
    }
}

fn before(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

impl Known {
    fn found(zone: &str, instance: Instance, stamp: Stamp) -> Self {
        let state = State::Shown(instance.status);
        let id = Some(instance.id);
        Self { id, ..Self::new(zone, stamp, state, instance.creation_timestamp) }
    }

    pub(super) fn new(zone: &str, stamp: Stamp, state: State, created_at: Timestamp) -> Self {
        Self {
            zone: zone.to_owned(),
            stamp,
            machine_type: String::new(),
            spot: false,
            created_at,
            id: None,
            state,
            token: None,
            connected_at: None,
            told: None,
            taken: None,
            serial: None,
            last_words: false,
            off_at: None,
            deleted_at: None,
        }
    }

    fn is_shown(&mut self, instance: Instance, begun: Timestamp) {
        if matches!(self.state, State::Refused { .. }) {
            // A leftover, which nobody may take for a machine.
            return;
        }
        // A machine of the same name that somebody has made since is another one.
        if self.id.as_ref().is_none_or(|id| *id == instance.id) {
            self.id = Some(instance.id);
            if instance.status == Status::Off {
                self.off_at.get_or_insert(begun);
            }
            self.state = State::Shown(instance.status);
        }
    }

    fn is_absent(&mut self, begun: Timestamp) {
        match &self.state {
            State::Shown(_) => self.state = State::Missing { since: begun },
            State::Asked { settled: Some(at) } if *at + LAG < begun => {
                self.state = State::Missing { since: *at };
            }
            State::Unanswered
            | State::Asked { .. }
            | State::Missing { .. }
            | State::Refused { .. } => {}
        }
    }

    /// Whether nobody has to know of it any more.
    fn is_over(&self, now: Timestamp) -> bool {
        let gone = matches!(self.state, State::Missing { .. } | State::Refused { .. });
        let life = Duration::from_secs(self.stamp.deadline_s).saturating_add(KEPT);
        let last = self.created_at.checked_add(life).unwrap_or(Timestamp::MAX);
        let there = matches!(self.state, State::Shown(_));
        (gone && self.deleted_at.is_some()) || (!there && now > last)
    }

    fn is_told_of(&mut self, operation: &Operation, settings: &Settings) {
        let at = operation.end_time.or(operation.insert_time).unwrap_or(self.created_at);
        match operation.operation_type.as_str() {
            PREEMPTED => self.taken = Some((at, Taken::Back)),
            "delete" | "stop" if operation.user.starts_with(SYSTEM) => {
                self.taken.get_or_insert((at, Taken::AtDeadline));
            }
            "delete" if settings.deletes_itself_as() == Some(operation.user.as_str()) => {
                self.taken.get_or_insert((at, Taken::ByItself));
            }
            "insert" => {
                let asked = Asked {
                    project: &settings.project,
                    zone: &self.zone,
                    machine_type: &self.machine_type,
                    spot: self.spot,
                };
                let refused = refusal::of_operation(operation.error.as_ref(), asked);
                match (refused, &mut self.state) {
                    (Some(refusal), _) => {
                        self.state = State::Refused { error: refusal.error, at };
                    }
                    (None, State::Asked { settled }) => *settled = Some(at),
                    (None, _) => {}
                }
            }
            _ => {}
        }
    }

    fn machine(&self, name: &str) -> Option<Machine> {
        let ended = self.end();
        let phase = match (&self.state, &ended) {
            // It is in no list, and may never have been asked for.
            (State::Unanswered, _) => return None,
            (_, Some(_)) => Phase::Ended,
            (State::Asked { settled: None }, None) => Phase::Requested,
            (State::Asked { settled: Some(_) } | State::Shown(Status::Making), None) => {
                Phase::Provisioning
            }
            (_, None) if self.connected_at.is_some() => Phase::Connected,
            (State::Shown(_) | State::Missing { .. } | State::Refused { .. }, None) => {
                Phase::Booting
            }
        };
        let life = Duration::from_secs(self.stamp.deadline_s);
        Some(Machine {
            name: name.to_owned(),
            labels: self.stamp.labels.clone(),
            phase,
            created_at: self.created_at,
            connected_at: self.connected_at,
            deadline_at: self.created_at.checked_add(life).unwrap_or(Timestamp::MAX),
            leaving: self.leaving().filter(|_| ended.is_none()).map(str::to_owned),
            ended: ended.map(Box::new),
            note: self.note(),
            silent: None,
        })
    }

    /// Google has begun to take it back, and it is not off yet.
    fn leaving(&self) -> Option<&'static str> {
        self.taken.filter(|(_, taken)| *taken == Taken::Back).map(|(_, taken)| taken.words())
    }

    fn note(&self) -> Option<String> {
        let words = self.serial.as_deref()?;
        let last = words.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        let never = self.connected_at.is_none();
        never.then(|| format!("its serial port said last: {last}"))
    }

    fn end(&self) -> Option<MachineEnd> {
        let end = |at: Timestamp, cause: &str| MachineEnd {
            at,
            cause: cause.to_owned(),
            log_tail: self.serial.clone().unwrap_or_default(),
            cpu_seconds: None,
            peak_memory_bytes: None,
            oom_killed: false,
            ran: None,
            deadline_reached: false,
            taken: false,
            refused: None,
            fields: BTreeMap::new(),
        };
        if let State::Refused { error, at } = &self.state {
            return Some(MachineEnd {
                refused: Some(error.class),
                fields: error.fields.clone(),
                ..end(*at, &error.words)
            });
        }
        if let Some(told) = &self.told {
            return Some(told.clone());
        }
        let off = matches!(self.state, State::Shown(Status::Off) | State::Missing { .. });
        match self.taken {
            Some((at, taken)) if off => Some(MachineEnd {
                deadline_reached: taken == Taken::AtDeadline,
                taken: taken == Taken::Back,
                ..end(at, taken.words())
            }),
            None if matches!(self.state, State::Shown(Status::Off)) => {
                Some(end(self.off_at.unwrap_or(self.created_at), "the machine switched itself off"))
            }
            Some(_) | None => None,
        }
    }
}
