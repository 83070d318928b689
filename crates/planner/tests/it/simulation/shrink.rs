//! The shortest story of a failing seed: less and less of it is kept, as long as the same promise
//! breaks. Bounded by a number of runs, so that it ends soon and always in the same way.

use std::collections::BTreeSet;
use std::time::Duration;

use planner::Timestamp;

use super::invariants::Promise;
use super::keep::Keep;
use super::run::{Ran, Setting, run};
use super::world::BASE;

/// The least of a failing run that still fails.
pub(crate) struct Short {
    setting: Setting,
    runs: u32,
    ran: Ran,
    /// What the whole seed had of jobs and strikes.
    jobs: u64,
    strikes: u64,
}

/// So many happenings in all: a few seconds, without optimisation.
const HAPPENINGS_MOST: u64 = 1_000_000;
/// What is taken out changes all luck after it, so some throws are tried for the same end.
const THROWS: u64 = 10;
/// One job alone meets less bad luck, and is told fastest.
const THROWS_ALONE: u64 = 100;
/// Calm is put no nearer than this.
const STEP: Duration = Duration::from_secs(1);

struct Search<'a> {
    whole: &'a Setting,
    promise: Promise,
    keep: Keep,
    runs: u32,
    happenings: u64,
    /// In the last run that failed: whose promise broke, and when.
    concerned: Option<u64>,
    broken_at: Duration,
}

/// What becomes of the setting, which has to be one that fails.
pub(crate) fn shortest(whole: &Setting) -> Short {
    let ran = run(whole, false);
    let promise = ran.broken.as_ref().expect("only what fails is told in short").promise;
    let mut search = Search {
        whole,
        promise,
        keep: whole.keep.clone(),
        runs: 1,
        happenings: ran.happenings,
        concerned: None,
        broken_at: Duration::ZERO,
    };
    search.fails(&ran);
    // Fewer of one thing may do without another, so all are gone through until nothing changes.
    loop {
        let before = search.keep.clone();
        search.jobs();
        search.kinds();
        search.calm();
        search.strikes();
        if search.keep == before || search.is_over() {
            break;
        }
    }
    let setting = whole.keeping(&search.keep);
    let runs = search.runs;
    let (jobs, strikes) = (whole.scene.jobs, ran.strikes);
    Short { ran: run(&setting, true), setting, runs, jobs, strikes }
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.happenings >= HAPPENINGS_MOST
    }

    fn fails(&mut self, ran: &Ran) -> bool {
        let Some(broken) = ran.broken.as_ref().filter(|broken| broken.promise == self.promise)
        else {
            return false;
        };
        self.concerned = ran.concerned;
        self.broken_at = broken.at.since(Timestamp::from_millis(BASE));
        true
    }

    /// Keeps only this, if the same promise still breaks.
    fn keeps(&mut self, keep: Keep) -> bool {
        if self.is_over() || keep == self.keep {
            return false;
        }
        let ran = run(&self.whole.keeping(&keep), false);
        self.runs += 1;
        self.happenings += ran.happenings;
        let fails = self.fails(&ran);
        if fails {
            self.keep = keep;
        }
        fails
    }

    /// The same with a few throws of the dice. Strikes have their numbers by one throw only.
    fn keeps_with_luck(&mut self, keep: &Keep, throws: u64) -> bool {
        let others = if keep.strikes.is_none() { 0..throws } else { 0..0 };
        self.keeps(keep.clone())
            || others.into_iter().any(|throw| self.keeps(Keep { throw, ..keep.clone() }))
    }

    fn kinds(&mut self) {
        for kind in self.whole.keeping(&self.keep).kinds() {
            let mut kinds: BTreeSet<_> =
                self.whole.keeping(&self.keep).kinds().into_iter().collect();
            kinds.remove(&kind);
            let keep = Keep { faults: Some(kinds), ..self.keep.clone() };
            self.keeps_with_luck(&keep, THROWS);
        }
    }

    /// The job whose promise breaks may be enough; else as few as possible.
    fn jobs(&mut self) {
        let all = (0..self.whole.scene.jobs).collect();
        let jobs = self.keep.jobs.clone().unwrap_or(all);
        if let Some(job) = self.concerned
            && jobs.len() > 1
        {
            let alone = Some(BTreeSet::from([job]));
            let keep = Keep { jobs: alone, ..self.keep.clone() };
            if self.keeps_with_luck(&keep, THROWS_ALONE) {
                return;
            }
        }
        self.fewer(jobs, |keep, jobs| keep.jobs = Some(jobs));
    }

    /// Calm as early as may be.
    fn calm(&mut self) {
        let busy = self.keep.until.unwrap_or(self.whole.scene.busy).min(self.broken_at);
        let (mut low, mut high) = (Duration::ZERO, busy);
        while high.saturating_sub(low) > STEP {
            let middle = low + (high - low) / 2;
            let until = Duration::from_millis(u64::try_from(middle.as_millis()).expect("short"));
            if self.keeps(Keep { until: Some(until), ..self.keep.clone() }) {
                high = middle;
            } else {
                low = middle;
            }
        }
    }

    /// The strikes up to some moment, since what happened before it stays as it is; then single ones.
    fn strikes(&mut self) {
        let count = run(&self.whole.keeping(&self.keep), false).strikes;
        let strikes = self.keep.strikes.clone().unwrap_or_else(|| (0..count).collect());
        let (mut low, mut high) = (0, strikes.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let first = strikes.iter().copied().take(middle).collect();
            if self.keeps(Keep { strikes: Some(first), ..self.keep.clone() }) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let strikes = self.keep.strikes.clone().unwrap_or(strikes);
        self.fewer(strikes, |keep, strikes| keep.strikes = Some(strikes));
    }

    /// Takes out what can be taken out: halves first, then smaller parts, then one by one.
    fn fewer<T: Copy + Ord>(&mut self, mut all: BTreeSet<T>, set: impl Fn(&mut Keep, BTreeSet<T>)) {
        let mut part = all.len().div_ceil(2);
        while part > 0 {
            let items: Vec<T> = all.iter().copied().collect();
            for out in items.chunks(part) {
                let rest: BTreeSet<T> =
                    all.iter().copied().filter(|item| !out.contains(item)).collect();
                let mut keep = self.keep.clone();
                set(&mut keep, rest.clone());
                if self.keeps(keep) {
                    all = rest;
                }
            }
            part /= 2;
        }
    }
}

impl Short {
    /// For whoever has to find out why: the promise, what is left, the story, and how to see it again.
    pub(crate) fn told(&self, seed: u64) -> String {
        let Self { setting, ran, runs, jobs, strikes } = self;
        let broken = ran.broken.as_ref().expect("what is told in short fails");
        let names: Vec<String> = setting.kinds().iter().map(|kind| format!("{kind:?}")).collect();
        let faults = if names.is_empty() { "no faults".to_owned() } else { names.join(", ") };
        let kept = setting.keep.jobs.as_ref().map_or(*jobs, count);
        let struck = setting.keep.strikes.as_ref().map_or(*strikes, count);
        let keep = setting.keep.to_string();
        let keep = if keep.is_empty() { keep } else { format!(" KEEP={keep}") };
        format!(
            "seed {seed} breaks {broken}\n\
             told with {faults}, {kept} of {jobs} jobs, {struck} of {strikes} strikes ({runs} runs):\n\
             {}\n\
             again: make simulate SEEDS=1 FIRST={seed}{keep}",
            ran.told()
        )
    }
}

fn count<T>(set: &BTreeSet<T>) -> u64 {
    u64::try_from(set.len()).expect("few enough to count")
}
