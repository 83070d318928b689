//! Two places that make machines, as they truly are, and what becomes of each machine: it is
//! provisioned, boots, its agent registers, acquires its job, runs it and leaves; or something of
//! that goes wrong, as its fate says from the start. Its own deadline ends it in any case.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use planner::{
    BackendName, EndSeen, Failure, FailureClass, JobId, JobState, MachineName, MachineSeen, Offer,
    Phase, Timestamp,
};

use super::buildkite::Token;
use super::clocks::Skew;
use super::faults::{Kind, Side};
use super::world::{Happening, Sim};

const PREEMPTING: &str = "the machine is being preempted";
const PREEMPTED: &str = "the machine was preempted";

/// What will become of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Runs,
    /// It boots for ever.
    NeverStarts,
    /// It ends (or vanishes) while it boots.
    DiesBooting,
    /// Its place does not have it after all.
    Refused(FailureClass),
    /// Its agent dies so long after the acquire.
    DiesAfter(Duration),
    /// Its agent stays long after its job has ended.
    Lingers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Booting,
    Connects,
    Acquires,
    Dies,
    /// The cloud says that it will take the machine away.
    Warned,
    /// The guest has ended the job because of that.
    Yields,
    Preempted,
    Leaves,
    Deadline,
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) seen: MachineSeen,
    pub(crate) backend: BackendName,
    pub(crate) cost: u64,
    pub(crate) offer: Offer,
    pub(crate) policies: Vec<usize>,
    pub(crate) token: Token,
    pub(crate) fate: Fate,
    pub(crate) vanishes: bool,
    pub(crate) deleting: bool,
    pub(crate) gone_at: Option<Timestamp>,
    /// Which shell's which journal asked for it, and since when another may know of it.
    pub(crate) epoch: u64,
    pub(crate) known_since: Timestamp,
    pub(crate) adopted: bool,
    /// Its create took effect so late that no listing could be waited for.
    pub(crate) late: bool,
}

impl Machine {
    /// Whether its agent may still do something.
    pub(crate) fn is_alive(&self) -> bool {
        self.gone_at.is_none() && self.seen.ended.is_none()
    }
}

pub(crate) type Listing = BTreeMap<(JobId, u32), Arc<MachineSeen>>;

#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Those that are gone stay here: a name is not used again.
    pub(crate) machines: BTreeMap<u64, Machine>,
    /// How far the times are off that it tells.
    pub(crate) clock: Skew,
    earlier: VecDeque<(Timestamp, Listing)>,
}

/// How far behind a late listing may be; the core is told that ten seconds may pass.
const LATE_AT_MOST: u64 = 8_000;

impl Place {
    pub(crate) fn list(&mut self, now: Timestamp) -> Listing {
        let listing: Listing = self
            .machines
            .values()
            .filter(|machine| machine.gone_at.is_none())
            .map(|machine| {
                let seen = &machine.seen;
                ((seen.job, seen.attempt), Arc::new(told(seen, self.clock)))
            })
            .collect();
        self.earlier.push_back((now, listing.clone()));
        while self.earlier.len() > 40 {
            self.earlier.pop_front();
        }
        listing
    }

    /// What a listing said some seconds ago, where there was one.
    pub(crate) fn list_late(&self, now: Timestamp, lag: Duration) -> Option<Listing> {
        let (from, to) = (now.minus(Duration::from_millis(LATE_AT_MOST)), now.minus(lag));
        let in_time = |at: Timestamp| at >= from && at <= to;
        self.earlier.iter().rev().find(|(at, _)| in_time(*at)).map(|(_, listing)| listing.clone())
    }

    pub(crate) fn named(&self, name: &MachineName) -> Option<u64> {
        let there = |machine: &&Machine| machine.gone_at.is_none() && machine.seen.name == *name;
        self.machines.iter().find(|(_, machine)| there(machine)).map(|(serial, _)| *serial)
    }

    /// Whether there was such a machine at any time.
    pub(crate) fn ever(&self, name: &MachineName) -> bool {
        self.machines.values().any(|machine| machine.seen.name == *name)
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values().filter(|machine| machine.gone_at.is_none())
    }
}

/// The machine, with its times as the backend's clock shows them.
fn told(seen: &MachineSeen, clock: Skew) -> MachineSeen {
    let mut seen = seen.clone();
    if clock != Skew::default() {
        seen.created_at = clock.shows(seen.created_at);
        seen.deadline_at = clock.shows(seen.deadline_at);
        seen.connected_at = seen.connected_at.map(|at| clock.shows(at));
        if let Some(end) = &mut seen.ended {
            let at = clock.shows(end.at);
            Arc::make_mut(end).at = at;
        }
    }
    seen
}

/// What a create asks for, as it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) create: planner::Create,
    pub(crate) dispatch: Arc<str>,
    pub(crate) instance: Arc<str>,
    pub(crate) token: Token,
    pub(crate) epoch: u64,
}

impl Sim<'_> {
    /// The backend makes the machine and lets its life begin.
    pub(crate) fn make(&mut self, order: &Order, late: bool) -> u64 {
        let serial = self.serial();
        let create = &order.create;
        let short = self.is_short_of(&create.offer);
        let fate = if short { Fate::Refused(FailureClass::Capacity) } else { self.fate() };
        let seen = MachineSeen {
            job: create.job,
            attempt: create.attempt,
            name: create.name.clone(),
            instance: order.instance.clone(),
            queue: create.queue.clone(),
            dispatch: order.dispatch.clone(),
            cpu: create.offer.cpu,
            memory: create.offer.memory,
            phase: Phase::Provisioning,
            created_at: self.now,
            connected_at: None,
            deadline_at: self.now.plus(create.deadline),
            ended: None,
            note: None,
            silent: None,
            leaving: None,
        };
        let request = self.buildkite.jobs.get(&create.job).and_then(|job| job.request().cloned());
        let machine = Machine {
            seen,
            backend: create.offer.backend.clone(),
            cost: create.offer.price_micros_per_hour,
            offer: create.offer.clone(),
            policies: request.map(|request| request.policies.clone()).unwrap_or_default(),
            token: order.token,
            fate,
            vanishes: self.strikes(Kind::Vanishes, 400),
            deleting: false,
            gone_at: None,
            epoch: order.epoch,
            known_since: self.now,
            adopted: false,
            late,
        };
        let job = create.job;
        self.tell(Some(job), || {
            let seen = &machine.seen;
            format!("machine {} is made on {}, fate {fate:?}", seen.name, machine.backend)
        });
        self.places.entry(machine.backend.clone()).or_default().machines.insert(serial, machine);
        if self.day.is_none() {
            // Of a day's many machines that is looked at once a second.
            self.check_cost();
        }
        self.after(create.deadline, Happening::Machine(serial, Stage::Deadline));
        let provisioned = self.dice.within(self.scene.pace.provisions);
        self.after(provisioned, Happening::Machine(serial, Stage::Booting));
        if self.day.is_some() {
            self.may_be_preempted(serial);
            return serial;
        }
        for (kind, stage) in
            [(Kind::PreemptedWithNotice, Stage::Warned), (Kind::Preempted, Stage::Preempted)]
        {
            if self.looms(kind, 300) {
                let soon = self.dice.millis(100, 25_000);
                self.after(soon, Happening::Machine(serial, stage));
            }
        }
        serial
    }

    fn fate(&mut self) -> Fate {
        if self.strikes(Kind::NeverStarts, 300) {
            return Fate::NeverStarts;
        }
        if self.strikes(Kind::DiesBefore, 300) {
            return Fate::DiesBooting;
        }
        if self.strikes(Kind::RefusedLater, 300) {
            let classes = [FailureClass::Quota, FailureClass::Capacity, FailureClass::Denied];
            let rarely = self.dice.chance(50).then_some(FailureClass::Rejected);
            return Fate::Refused(rarely.unwrap_or(classes[self.dice.index(classes.len())]));
        }
        if self.strikes(Kind::DiesAfter, 300) {
            return Fate::DiesAfter(self.dice.millis(10, 8_000));
        }
        if self.strikes(Kind::Lingers, 400) {
            return Fate::Lingers;
        }
        Fate::Runs
    }

    pub(crate) fn machine(&mut self, serial: u64) -> Option<&mut Machine> {
        self.places.values_mut().find_map(|place| place.machines.get_mut(&serial))
    }

    /// The next thing happens to a machine, unless it is past that.
    pub(crate) fn stage(&mut self, serial: u64, stage: Stage) {
        let Some(machine) = self.machine(serial).filter(|machine| machine.gone_at.is_none()) else {
            return;
        };
        let (alive, fate) = (machine.is_alive(), machine.fate);
        match stage {
            Stage::Booting if alive => self.boots(serial, fate),
            Stage::Connects if alive => self.connects(serial),
            Stage::Acquires if alive => self.acquires(serial, fate),
            Stage::Dies if alive => self.agent_leaves(serial, "the machine died"),
            Stage::Leaves if alive => self.agent_leaves(serial, "the agent exited with 0"),
            Stage::Warned if alive => self.warned(serial),
            Stage::Yields if alive => self.yields(serial),
            Stage::Preempted if alive => self.preempted(serial),
            Stage::Deadline => self.removed(serial, "its own deadline"),
            Stage::Gone => self.removed(serial, "it was deleted"),
            Stage::Booting
            | Stage::Connects
            | Stage::Acquires
            | Stage::Dies
            | Stage::Leaves
            | Stage::Warned
            | Stage::Yields
            | Stage::Preempted => {}
        }
    }

    /// The guest stops the agent, which ends its job within seconds.
    fn warned(&mut self, serial: u64) {
        self.faults.count(Kind::PreemptedWithNotice);
        self.change(serial, |machine| machine.seen.leaving = Some(PREEMPTING.into()));
        let stops = self.dice.millis(500, 5_000);
        self.after(stops, Happening::Machine(serial, Stage::Yields));
    }

    fn yields(&mut self, serial: u64) {
        let Some(job) = self.machine(serial).map(|machine| machine.seen.job) else { return };
        let state = self.buildkite.state(job);
        let runs = matches!(state, JobState::Accepted | JobState::Running);
        if runs && self.buildkite.holds_job(job, serial) && !self.is_down(&Side::Buildkite) {
            self.buildkite.set(job, JobState::Finished);
            self.tell(Some(job), || "the job is ended before the machine is taken".to_owned());
            self.is_lost(job);
        }
        self.agent_leaves(serial, PREEMPTING);
    }

    /// Some clouds show what they took away for a while, others do not.
    fn preempted(&mut self, serial: u64) {
        self.faults.count(Kind::Preempted);
        if self.dice.chance(500) {
            return self.removed(serial, "it was preempted");
        }
        self.agent_leaves(serial, PREEMPTED);
    }

    /// It never comes up: nobody was started.
    fn refused(&mut self, serial: u64, class: FailureClass) {
        self.agent_leaves(serial, "its place does not have it");
        let shortage = self.machine(serial).map(|machine| machine.offer.clone());
        let shortage = shortage.and_then(|offer| self.shortage_of(&offer));
        self.change(serial, |machine| {
            if let Some(end) = &mut machine.seen.ended {
                let end = Arc::make_mut(end);
                end.refused = Some(class);
                end.shortage = shortage;
            }
        });
    }

    fn boots(&mut self, serial: u64, fate: Fate) {
        if let Fate::Refused(class) = fate {
            return self.refused(serial, class);
        }
        self.change(serial, |machine| machine.seen.phase = Phase::Booting);
        if fate == Fate::NeverStarts {
            return;
        }
        if fate == Fate::DiesBooting {
            let dies = self.dice.millis(10, 5_000);
            return self.after(dies, Happening::Machine(serial, Stage::Dies));
        }
        let mut boots = self.dice.within(self.scene.pace.boots);
        if self.strikes(Kind::StartsAtTheTimeout, 400) {
            // The very second at which the core gives the machine up.
            let now = self.now;
            let created = self.machine(serial).map_or(now, |machine| machine.seen.created_at);
            let timeout = created.plus(self.scene.start_timeout);
            boots = timeout.since(self.now).saturating_sub(Duration::from_secs(1))
                + self.dice.millis(0, 2_500);
        }
        self.after(boots, Happening::Machine(serial, Stage::Connects));
    }

    fn connects(&mut self, serial: u64) {
        let now = self.now;
        self.change(serial, |machine| {
            machine.seen.phase = Phase::Connected;
            machine.seen.connected_at = Some(now);
        });
        let acquires = self.dice.millis(5, 300);
        self.after(acquires, Happening::Machine(serial, Stage::Acquires));
    }

    /// The agent asks for its one job. While Buildkite cannot be reached it tries again.
    fn acquires(&mut self, serial: u64, fate: Fate) {
        if self.is_down(&Side::Buildkite) {
            return self.after(Duration::from_secs(2), Happening::Machine(serial, Stage::Acquires));
        }
        let Some(token) = self.machine(serial).map(|machine| machine.token) else { return };
        let (job, now) = (token.job, self.now);
        let state = self.buildkite.state(job);
        if self.buildkite.may_acquire(token, now) && self.strikes(Kind::TakenBack, 300) {
            self.watch.given_in_vain.insert(serial);
            self.given_in_vain(job, JobState::Accepted);
            return self.agent_leaves(serial, "the agent did not hear that it got the job");
        }
        if !self.buildkite.acquire(token, serial, now) {
            self.tell(Some(job), || format!("the agent does not get the job: {state:?}"));
            return self.agent_leaves(serial, "the agent exited with 27");
        }
        self.tell(Some(job), || "the agent acquired the job".to_owned());
        self.check_acquire(job, serial);
        let runs = self.dice.millis(20, 300);
        self.after(runs, Happening::JobRuns(job, serial));
        if let Fate::DiesAfter(span) = fate {
            self.after(span, Happening::Machine(serial, Stage::Dies));
        }
    }

    /// The agent is no more, in peace or not. A job that it held is lost.
    pub(crate) fn agent_leaves(&mut self, serial: u64, cause: &str) {
        let (now, Some(machine)) = (self.now, self.machine(serial)) else { return };
        let (job, vanishes) = (machine.seen.job, machine.vanishes);
        self.change(serial, |machine| {
            machine.seen.phase = Phase::Ended;
            machine.seen.ended = Some(Arc::new(EndSeen {
                at: now,
                cause: cause.into(),
                log_tail: "".into(),
                cpu_millis_used: None,
                peak_memory: None,
                oom_killed: false,
                ran: None,
                deadline_reached: false,
                taken: matches!(cause, PREEMPTING | PREEMPTED),
                refused: None,
                shortage: None,
            }));
        });
        self.tell(Some(job), || format!("the agent is gone: {cause}"));
        self.orphan(job, serial);
        if vanishes {
            // Some places tidy up by themselves, but never within an instant.
            let gone = self.dice.millis(3_000, 20_000);
            self.after(gone, Happening::Machine(serial, Stage::Gone));
        }
    }

    /// The machine is no more, and no listing that begins from now on has it.
    fn removed(&mut self, serial: u64, cause: &str) {
        let now = self.now;
        let Some(machine) = self.machine(serial) else { return };
        let (job, name) = (machine.seen.job, machine.seen.name.clone());
        self.change(serial, |machine| machine.gone_at = Some(now));
        self.tell(Some(job), || format!("machine {name} is gone: {cause}"));
        self.orphan(job, serial);
    }

    /// If this machine's agent held the job, Buildkite finds that out in its own time.
    fn orphan(&mut self, job: JobId, serial: u64) {
        if !self.buildkite.holds_job(job, serial) {
            return;
        }
        let lost = self.dice.millis(180_000, 240_000);
        match self.buildkite.state(job) {
            JobState::Canceling | JobState::TimingOut => {
                self.after(Duration::from_secs(60), Happening::StopSeen(job));
            }
            JobState::NotReady
            | JobState::Scheduled
            | JobState::Reserved
            | JobState::Assigned
            | JobState::Accepted
            | JobState::Running
            | JobState::Finished
            | JobState::Canceled
            | JobState::TimedOut
            | JobState::Expired
            | JobState::NeverRun
            | JobState::Unknown => self.after(lost, Happening::AgentLost(job)),
        }
    }

    /// What keeps a place from making a machine, now and then.
    pub(crate) fn refusal(&mut self, offer: &Offer) -> Option<Failure> {
        if self.day.is_some() {
            return self.over_quota(offer);
        }
        let failure = |class, words: &str| Failure {
            class,
            words: words.into(),
            retry_after: None,
            shortage: None,
        };
        if &*offer.place != "zone-b" && self.strikes(Kind::Capacity, 500) {
            return Some(failure(FailureClass::Capacity, "no such machines are left here"));
        }
        if self.strikes(Kind::Quota, 300) {
            return Some(failure(FailureClass::Quota, "the quota of vCPU is used up"));
        }
        if self.strikes(Kind::Rejected, 100) {
            return Some(failure(FailureClass::Rejected, "no image of that name"));
        }
        if self.strikes(Kind::Denied, 150) {
            return Some(failure(FailureClass::Denied, "the account may not create machines"));
        }
        None
    }

    /// A delete takes effect: at once for the agent, a little later for the listing.
    pub(crate) fn unmake(&mut self, serial: u64) {
        let Some(machine) = self.machine(serial) else { return };
        if machine.deleting {
            return;
        }
        let alive = machine.is_alive();
        machine.deleting = true;
        let slow = self.strikes(Kind::SlowDelete, 500);
        let span = if slow { [2_000, 20_000] } else { self.scene.pace.goes };
        let gone = self.dice.within(span);
        if alive {
            self.agent_leaves(serial, "its machine was deleted");
        }
        self.after(gone, Happening::Machine(serial, Stage::Gone));
    }

    /// Changes a machine, and lets the watches know.
    fn change(&mut self, serial: u64, change: impl FnOnce(&mut Machine)) {
        let Some(machine) = self.machine(serial) else { return };
        change(machine);
        let backend = machine.backend.clone();
        self.nudge(&backend);
    }
}
