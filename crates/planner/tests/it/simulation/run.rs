//! One run of the simulation: what it begins with, the run itself, and what it came to.

use std::cell::RefCell;

use planner::{Ledger, Observation, Policy, Timestamp, decide};

use super::audit::Audit;
use super::dice::Dice;
use super::faults::{CrashAt, Faults, Kind};
use super::invariants::{Broken, Promise};
use super::keep::Keep;
use super::mask::Mask;
use super::mutants::Mutant;
use super::scene::Scene;
use super::story::Story;
use super::tally::Tally;
use super::world::{Decide, Happening, Sim};

/// What a run came to.
pub(crate) struct Ran {
    pub(crate) broken: Option<Broken>,
    /// The number that the scene gave the job whose promise is broken.
    pub(crate) concerned: Option<u64>,
    pub(crate) story: Story,
    pub(crate) tally: Tally,
    /// How many actions were carried out.
    pub(crate) steps: u64,
    /// How much there was to do.
    pub(crate) happenings: u64,
    /// How many strikes of bad luck there were, let through or not.
    pub(crate) strikes: u64,
    pub(crate) machines: usize,
}

/// What a run begins with.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    seed: u64,
    dice: Dice,
    pub(crate) scene: Scene,
    faults: Faults,
    pub(crate) keep: Keep,
    /// What is wrong with the core, on purpose.
    mutant: Option<&'static Mutant>,
}

/// After so many happenings a run will not come to its end: the longest that do need a tenth.
const HAPPENINGS_MOST: u64 = 3_000_000;

impl Setting {
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let faults = Faults::of(seed, &mut dice);
        let scene = Scene::of(&mut dice);
        Self { seed, dice, scene, faults, keep: Keep::default(), mutant: None }
    }

    /// A seed's scene, with these faults instead of its own.
    pub(crate) fn with(seed: u64, kinds: &[Kind]) -> Self {
        let mut dice = Dice::new(seed);
        let scene = Scene::of(&mut dice);
        Self { seed, dice, scene, faults: Faults::only(kinds), keep: Keep::default(), mutant: None }
    }

    pub(crate) fn small(crash_at: Option<CrashAt>) -> Self {
        let (scene, faults) = (Scene::small(), Faults::none(crash_at));
        Self { seed: 7, dice: Dice::new(7), scene, faults, keep: Keep::default(), mutant: None }
    }

    pub(crate) fn keeping(&self, keep: &Keep) -> Self {
        Self { keep: keep.clone(), ..self.clone() }
    }

    pub(crate) fn planting(self, mutant: &'static Mutant) -> Self {
        Self { mutant: Some(mutant), ..self }
    }

    /// The kinds of fault that are kept.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.faults.kinds().into_iter().filter(|kind| self.keep.has(*kind)).collect()
    }

    fn faults(&self) -> Faults {
        let mut faults = Faults::only(&self.kinds());
        faults.crash_at = self.faults.crash_at;
        faults.crashes_left = self.faults.crashes_left;
        faults.mask =
            Mask::of(self.seed ^ self.keep.throw.rotate_left(32), self.keep.strikes.clone());
        faults
    }
}

impl Ran {
    /// What led to the end, where it is a bad one: about that job, and about all.
    pub(crate) fn told(&self) -> String {
        self.story.in_short(self.broken.as_ref().and_then(|broken| broken.job))
    }
}

/// Aloud: the whole story is kept, instead of nothing.
pub(crate) fn run(setting: &Setting, aloud: bool) -> Ran {
    run_with(setting, aloud, &mut |ledger, seen, policy, now| match setting.mutant {
        Some(mutant) => mutant.decide(ledger, seen, policy, now),
        None => decide(ledger, seen, policy, now),
    })
}

/// The same with a core of the caller's, who can look at each round.
pub(crate) fn run_with(setting: &Setting, aloud: bool, decide: &mut Decide<'_>) -> Ran {
    let audit = RefCell::new(Audit::default());
    let mut watched = |ledger: &Ledger, seen: &Observation, policy: &Policy, now: Timestamp| {
        let plan = decide(ledger, seen, policy, now);
        audit.borrow_mut().look(ledger, seen, policy, now, &plan);
        plan
    };
    let (dice, scene) = (setting.dice.clone(), setting.scene.clone());
    let mut sim = Sim::new(dice, scene, setting.faults(), aloud, &mut watched);
    if let Some(hears) = setting.mutant.and_then(Mutant::hears) {
        sim.shells[0].hears = hears;
    }
    sim.set_the_scene();
    sim.leave_out(&setting.keep);
    let mut happenings = 0_u64;
    while sim.broken.is_none() && !sim.watch.done && sim.step() {
        if let Some((promise, job, text)) = audit.borrow_mut().found() {
            sim.broke(promise, Some(job), text);
        }
        happenings += 1;
        if happenings > HAPPENINGS_MOST {
            let text = format!("{HAPPENINGS_MOST} things happened, and there is no end");
            sim.broke(Promise::Bounded, None, text);
        }
    }
    let concerned = sim.broken.as_ref().and_then(|broken| sim.buildkite.jobs.get(&broken.job?));
    Ran {
        concerned: concerned.map(|job| job.row().build),
        tally: Tally::of(&sim, &setting.kinds()),
        steps: sim.steps,
        happenings,
        strikes: sim.faults.mask.count(),
        machines: sim.places.values().map(|place| place.machines.len()).sum(),
        broken: sim.broken,
        story: sim.story,
    }
}

impl Sim<'_> {
    /// The scene is set as ever, so that the rest of it stays as it is; then some of it is taken out.
    fn leave_out(&mut self, keep: &Keep) {
        if let Some(jobs) = &keep.jobs {
            self.buildkite.jobs.retain(|_, job| jobs.contains(&job.row().build));
        }
        if let Some(until) = keep.until {
            self.after(until, Happening::Calm);
        }
        if keep.throw > 0 {
            self.dice = Dice::new(self.dice.next() ^ keep.throw);
        }
    }
}
