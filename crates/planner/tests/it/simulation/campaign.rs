//! Many seeds, on all cores: how many is asked for in words (`SEEDS=20000 FIRST=0 HOURS=0.5`), and
//! what they came to is summed. The first seed that fails ends it, with its shortest story.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::keep::Keep;
use super::mutants::Mutant;
use super::run::{Setting, run};
use super::shrink::shortest;
use super::tally::Tally;

#[derive(Clone, Debug, Default)]
pub(crate) struct Campaign {
    first: u64,
    /// None: until the time is over.
    seeds: Option<u64>,
    time: Option<Duration>,
    /// What is kept of each seed.
    keep: Keep,
    mutant: Option<&'static Mutant>,
}

/// Where nothing is said.
const SEEDS: u64 = 2000;

/// What a campaign came to.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) took: Duration,
    /// The lowest seed that failed.
    pub(crate) failed: Option<u64>,
}

/// What a thread did.
enum Did {
    Ran(Box<Tally>),
    Failed(u64),
}

impl Campaign {
    /// Of words like `SEEDS=500`.
    pub(crate) fn asked(words: &[String]) -> Result<Self, String> {
        let mut asked = Self::default();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let whole =
                || value.parse().map_err(|_| format!("{key}: `{value}` is no whole number"));
            match key {
                "SEEDS" => asked.seeds = Some(whole()?),
                "FIRST" => asked.first = whole()?,
                "HOURS" => asked.time = Some(hours(value)?),
                "KEEP" => asked.keep = value.parse().map_err(|why| format!("KEEP: {why}"))?,
                _ => {
                    return Err(format!(
                        "`{word}` says nothing: there are SEEDS=, FIRST=, HOURS= and KEEP="
                    ));
                }
            }
        }
        if asked.seeds == Some(0) {
            return Err("SEEDS: 0 seeds show nothing".to_owned());
        }
        if asked.time.is_none() {
            asked.seeds = asked.seeds.or(Some(SEEDS));
        }
        Ok(asked)
    }

    /// The one seed, where its whole story is asked for.
    pub(crate) fn single(&self) -> Option<u64> {
        (self.seeds == Some(1)).then_some(self.first)
    }

    fn setting(&self, seed: u64) -> Setting {
        let setting = Setting::of_seed(seed).keeping(&self.keep);
        match self.mutant {
            Some(mutant) => setting.planting(mutant),
            None => setting,
        }
    }

    /// The whole story of a seed, and whether it has a good end.
    pub(crate) fn story(&self, seed: u64) -> (String, bool) {
        let ran = run(&self.setting(seed), true);
        let story = ran.story.of(None);
        match ran.broken {
            Some(broken) => (format!("{story}seed {seed} breaks {broken}\n"), false),
            None => (format!("{story}seed {seed} keeps all promises\n"), true),
        }
    }

    pub(crate) fn shortest(&self, seed: u64) -> String {
        shortest(&self.setting(seed)).told(seed)
    }

    /// Runs the seeds; `progress` is told of what there is so far, now and then.
    pub(crate) fn run(&self, mut progress: impl FnMut(&Tally, Duration)) -> Outcome {
        let begun = Instant::now();
        let (next, stop) = (AtomicU64::new(self.first), AtomicBool::new(false));
        let (tell, told) = channel();
        let (mut tally, mut failed) = (Tally::default(), None);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads {
                let (tell, next, stop) = (tell.clone(), &next, &stop);
                scope.spawn(move || self.work(begun, next, stop, &tell));
            }
            drop(tell);
            loop {
                match told.recv_timeout(Duration::from_millis(500)) {
                    Ok(Did::Ran(ran)) => tally.add(&ran),
                    Ok(Did::Failed(seed)) => {
                        failed = Some(failed.map_or(seed, |lowest: u64| lowest.min(seed)));
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                progress(&tally, begun.elapsed());
            }
        });
        Outcome { tally, took: begun.elapsed(), failed }
    }

    /// Seeds are taken in order, and what was taken is run to its end: so the lowest that fails is
    /// the same with any number of threads.
    fn work(&self, begun: Instant, next: &AtomicU64, stop: &AtomicBool, tell: &Sender<Did>) {
        loop {
            let over = self.time.is_some_and(|time| begun.elapsed() >= time);
            if over || stop.load(Ordering::Relaxed) {
                return;
            }
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if self.seeds.is_some_and(|seeds| seed - self.first >= seeds) {
                return;
            }
            let _named = Named(seed);
            let ran = run(&self.setting(seed), false);
            let mut did = vec![Did::Ran(Box::new(ran.tally))];
            if ran.broken.is_some() {
                stop.store(true, Ordering::Relaxed);
                did.push(Did::Failed(seed));
            }
            if did.into_iter().any(|did| tell.send(did).is_err()) {
                return;
            }
        }
    }
}

/// A core that panics does not say in which seed.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("seed {} ends in a panic", self.0);
        }
    }
}

fn hours(text: &str) -> Result<Duration, String> {
    let hours = text.parse::<f64>().ok().map(|hours| hours * 3600.0);
    let time = hours.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| format!("HOURS: `{text}` is no time: write 0.5 for half an hour"))
}

#[cfg(test)]
mod tests {
    use super::super::mutants;
    use super::*;

    fn asked(text: &str) -> Result<Campaign, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Campaign::asked(&words)
    }

    #[test]
    fn words_say_how_many_seeds_from_where_and_for_how_long() {
        let asked_for = |text| {
            let campaign = asked(text).unwrap();
            (campaign.first, campaign.seeds, campaign.time)
        };
        let half_an_hour = Some(Duration::from_secs(1800));
        assert_eq!(asked_for(""), (0, Some(2000), None));
        assert_eq!(asked_for("SEEDS=5 FIRST=17"), (17, Some(5), None));
        assert_eq!(asked_for("HOURS=0.5"), (0, None, half_an_hour));
        assert_eq!(asked_for("HOURS=0.5 SEEDS=9"), (0, Some(9), half_an_hour));
        assert_eq!(asked("SEEDS=1 FIRST=17").unwrap().single(), Some(17));
    }

    fn check_wrong(text: &str, problem: &str) {
        assert_eq!(asked(text).unwrap_err(), problem);
    }

    #[test]
    fn words_that_say_nothing_are_refused() {
        check_wrong("SEEDS=many", "SEEDS: `many` is no whole number");
        check_wrong("SEEDS=0", "SEEDS: 0 seeds show nothing");
        check_wrong("HOURS=-1", "HOURS: `-1` is no time: write 0.5 for half an hour");
        check_wrong("KEEP=jobs=x", "KEEP: `x` is no number: write 3+7 or 0-5+9");
        check_wrong("SEED=1", "`SEED=1` says nothing: there are SEEDS=, FIRST=, HOURS= and KEEP=");
    }

    #[test]
    fn seeds_are_summed_and_a_good_end_is_none_that_failed() {
        let outcome = asked("SEEDS=6 FIRST=60").unwrap().run(|_, _| ());
        assert_eq!((outcome.failed, outcome.tally.seeds), (None, 6));
        let told = outcome.tally.told(outcome.took);
        for part in ["seeds       6 in ", "jobs        ", "visible → agent has it   p50 "] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
    }

    #[test]
    fn the_lowest_seed_that_fails_is_named_and_its_shortest_story_fails_again() {
        let name = "an unanswered create counts as not made";
        let mutant = mutants::all().find(|mutant| mutant.name == name);
        let campaign = Campaign { mutant, ..asked("SEEDS=300").unwrap() };
        let first = (0..300).find(|seed| run(&campaign.setting(*seed), false).broken.is_some());
        assert_eq!(campaign.run(|_, _| ()).failed, first);
        let seed = first.unwrap();
        let told = campaign.shortest(seed);
        println!("{told}");
        let keep = told.rsplit_once(" KEEP=").unwrap().1;
        let again = asked(&format!("SEEDS=1 FIRST={seed} KEEP={keep}")).unwrap();
        assert!(again.keep.jobs.as_ref().is_some_and(|jobs| jobs.len() == 1), "{keep}");
        let (story, good) = Campaign { mutant, ..again }.story(seed);
        assert!(!good, "{story}");
    }
}
