//! A whole day of a large organisation, at full size: jobs come as people work, on a cloud whose
//! zones run out of families in waves, whose quotas change, and which takes spot machines away. The
//! world, the bad luck and the promises are those of every other run; this only makes it large, and
//! keeps the books. What is done with leaves the world, so that a day costs what it has at once.

mod again;
mod books;
mod closing;
mod cloud;
mod jobs;
mod told;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use planner::{JobId, Ledger, Observation, Policy, Timestamp, decide};

use self::again::LostOn;
use self::books::Books;
use self::cloud::Cloud;
use self::jobs::Mix;
use super::audit::Audit;
use super::dice::Dice;
use super::faults::{Faults, Kind};
use super::invariants::Broken;
use super::mask::Mask;
use super::scene::{Pace, Scene};
use super::world::{BASE, Happening, Sim, Window};

/// How large a day is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) seed: u64,
    /// At once.
    pub(crate) machines: u32,
    /// The curve of a day is pressed into so many.
    pub(crate) hours: u32,
}

const MACHINES: u32 = 1250;
const HOURS: u32 = 24;
/// From the create to the agent's getting its job.
const START_TIMEOUT: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);
/// Rounds and looks are as rare as they may be without anybody's waiting for them, so that a day
/// takes minutes; the cloud is as slow as a real one.
const PACE: Pace = Pace {
    between_rounds: Duration::from_secs(1),
    queue: [1_000, 1_000],
    backend: [2_000, 5_000],
    watched: false,
    paced: "gce",
    creates: [300, 15],
    provisions: [2_000, 8_000],
    boots: [15_000, 45_000],
    goes: [10_000, 45_000],
};
/// What goes wrong beside stockouts, quotas and preemptions, and how much rarer than in the runs
/// that are there to show that everything can go wrong at once.
const KINDS: [Kind; 18] = [
    Kind::LostBefore,
    Kind::LostAfter,
    Kind::ServerError,
    Kind::TooMany,
    Kind::Delay,
    Kind::StaleQueue,
    Kind::StaleMachines,
    Kind::HalfListing,
    Kind::PartialListing,
    Kind::NeverStarts,
    Kind::DiesBefore,
    Kind::DiesAfter,
    Kind::PreemptedWithNotice,
    Kind::Preempted,
    Kind::Lingers,
    Kind::CrashLoop,
    Kind::BuildkiteOutage,
    Kind::BackendOutage,
];
const RARER: u64 = 100;
/// When our process dies, in thousandths of the day.
const CRASHES: [u64; 4] = [205, 431, 622, 810];
/// When Buildkite or the cloud's API cannot be reached, from when on and for how many seconds.
const OUTAGES: [(Window, u64, u64); 3] =
    [(Window::Buildkite, 353, 90), (Window::Backend, 552, 120), (Window::Buildkite, 704, 40)];

/// What a day has beyond any other run.
#[derive(Debug)]
pub(crate) struct Day {
    size: Size,
    mix: Mix,
    cloud: Cloud,
    books: Books,
    /// How many jobs came so far.
    came: u64,
    /// By the jobs that take the places of lost ones.
    lost_on: BTreeMap<JobId, LostOn>,
    /// Machines that will be taken back, unless they end before.
    taken: BTreeMap<u64, Timestamp>,
}

/// What a day came to.
pub(crate) struct Came {
    pub(crate) told: String,
    pub(crate) broken: Option<Broken>,
    books: Books,
}

/// How far a day has come.
pub(crate) struct Progress {
    pub(crate) simulated: Duration,
    pub(crate) jobs: u64,
    pub(crate) machines: usize,
}

impl Size {
    /// Of words like `DAY=7 MACHINES=100 HOURS=2`; nothing: they ask for no day.
    pub(crate) fn asked(words: &[String]) -> Option<Result<Self, String>> {
        words.iter().any(|word| word.starts_with("DAY=")).then(|| Self::read(words))
    }

    fn read(words: &[String]) -> Result<Self, String> {
        let mut size = Self { seed: 1, machines: MACHINES, hours: HOURS };
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let wrong = |_| format!("{key}: `{value}` is no whole number");
            match key {
                "DAY" => size.seed = value.parse().map_err(wrong)?,
                "MACHINES" => size.machines = value.parse().map_err(wrong)?,
                "HOURS" => size.hours = value.parse().map_err(wrong)?,
                _ => {
                    let there = "beside DAY= there are MACHINES= and HOURS=";
                    return Err(format!("`{word}` says nothing: {there}"));
                }
            }
        }
        if !(20..=20_000).contains(&size.machines) || !(1..=240).contains(&size.hours) {
            return Err("MACHINES is from 20 to 20000, HOURS from 1 to 240".to_owned());
        }
        Ok(size)
    }

    fn millis(self) -> u64 {
        u64::from(self.hours) * 3_600_000
    }

    /// What belongs to a day of full size, as it is in this one; never nothing.
    fn share(self, full: u32) -> u32 {
        (full.saturating_mul(self.machines) / MACHINES).max(1)
    }

    /// Runs the day; `progress` is told how far it has come, each ten minutes of the day.
    pub(crate) fn run(self, mut progress: impl FnMut(&Progress)) -> Came {
        let begun = Instant::now();
        let audit = RefCell::new(Audit::default());
        let mut watched = |ledger: &Ledger, seen: &Observation, policy: &Policy, now: Timestamp| {
            let plan = decide(ledger, seen, policy, now);
            audit.borrow_mut().look(ledger, seen, policy, now, &plan);
            plan
        };
        let policy = Arc::new(jobs::policy(self));
        let mut sim = self.sim(&policy, &mut watched);
        sim.set_the_day();
        let mut told_at = sim.now;
        while sim.broken.is_none() && !sim.watch.done && sim.step() {
            if let Some((promise, job, text)) = audit.borrow_mut().found() {
                sim.broke(promise, Some(job), text);
            }
            if sim.now.since(told_at) >= MINUTE * 10 {
                told_at = sim.now;
                progress(&sim.progress());
            }
        }
        let broken = sim.broken.take();
        sim.close_the_day();
        let told = sim.summary(begun.elapsed(), broken.as_ref());
        let books = sim.day.take().map(|day| day.books).unwrap_or_default();
        Came { told, broken, books }
    }

    fn sim<'d>(self, policy: &Arc<Policy>, decide: &'d mut super::world::Decide<'d>) -> Sim<'d> {
        let mut dice = Dice::new(self.seed);
        let scene = Scene {
            jobs: 0,
            busy: Duration::from_millis(self.millis()),
            start_timeout: START_TIMEOUT,
            jobs_alike: false,
            pace: PACE,
            policy: Some(Arc::clone(policy)),
        };
        let mut faults = Faults::only(&KINDS);
        faults.crashes_left = 0;
        faults.rarer = RARER;
        faults.mask = Mask::of(self.seed, None);
        let cloud = Cloud::of(self, policy, &mut dice);
        let mut sim = Sim::new(dice, scene, faults, false, decide);
        sim.day = Some(Box::new(Day {
            size: self,
            mix: Mix::of(self, policy),
            cloud,
            books: Books::default(),
            came: 0,
            lost_on: BTreeMap::new(),
            taken: BTreeMap::new(),
        }));
        sim
    }
}

impl Sim<'_> {
    fn set_the_day(&mut self) {
        let millis = self.scene.busy.as_millis();
        let part =
            |thousandths: u64| u64::try_from(millis).expect("a short time") * thousandths / 1000;
        for crash in CRASHES {
            self.at(part(crash), Happening::CrashAgain(0));
        }
        for (window, from, seconds) in OUTAGES {
            self.at(part(from), Happening::Window(window, true));
            self.at(part(from) + seconds * 1000, Happening::Window(window, false));
        }
        self.after(self.scene.busy, Happening::Calm);
        self.after(Duration::ZERO, Happening::Minute);
        self.after(Duration::from_secs(1), Happening::Check);
        self.start_shell(0);
    }

    /// The jobs of the next minute come, and what is done with leaves.
    pub(crate) fn minute(&mut self) {
        self.close_books();
        if !self.faults.is_calm() {
            self.come();
        }
        self.after(MINUTE, Happening::Minute);
    }

    fn progress(&self) -> Progress {
        let machines = self.places.values().flat_map(super::backends::Place::live).count();
        let jobs = self.day.as_ref().map_or(0, |day| day.came);
        Progress { simulated: self.now.since(Timestamp::from_millis(BASE)), jobs, machines }
    }
}

#[cfg(test)]
mod tests;
