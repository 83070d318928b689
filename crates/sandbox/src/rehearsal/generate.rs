//! Makes up a day from a seed: builds that come by the hour as people push, some of which fan out
//! into dozens of jobs at once, in sizes and lengths as they are usual. The same recipe makes the
//! same day everywhere.

use std::time::Duration;

use super::Arrival;
use crate::dice::Dice;

/// What a day is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub jobs: u32,
    pub length: Duration,
    pub seed: u64,
    pub queue: String,
}

/// How busy each twentieth of the day is: it begins slowly, pauses at noon, and thins out.
const BUSY: [(u32, u32); 20] = [
    (2, 0),
    (4, 1),
    (6, 2),
    (9, 3),
    (10, 4),
    (10, 5),
    (9, 6),
    (8, 7),
    (4, 8),
    (4, 9),
    (8, 10),
    (10, 11),
    (10, 12),
    (10, 13),
    (9, 14),
    (8, 15),
    (6, 16),
    (4, 17),
    (3, 18),
    (2, 19),
];
/// How many jobs a build has at once, from and to.
const FAN: [(u32, (u32, u32)); 3] = [(50, (1, 3)), (35, (4, 12)), (15, (20, 60))];
/// vCPU and memory.
const SIZES: [(u32, (&str, &str)); 4] =
    [(60, ("2", "4G")), (25, ("4", "8G")), (10, ("8", "32G")), (5, ("16", "64G"))];
/// Pipelines, with the branches that people work on.
const PIPELINES: [(u32, &str); 4] = [(40, "web"), (30, "api"), (20, "mobile"), (10, "tools")];
/// Which share of jobs takes at most so many seconds; in between it rises evenly.
const LENGTHS: [(f64, f64); 7] = [
    (0.0, 5.0),
    (0.25, 35.0),
    (0.5, 90.0),
    (0.75, 240.0),
    (0.9, 600.0),
    (0.99, 1_800.0),
    (1.0, 2_700.0),
];
/// The jobs of one build come within so many milliseconds.
const SPREAD_MS: u32 = 2_000;
/// One job in so many fails, is cancelled, or is urgent.
const FAILS: u32 = 20;
const CANCELLED: u32 = 50;
const URGENT: u32 = 10;

/// A day in the order of arrival.
#[must_use]
pub fn generate(recipe: &Recipe) -> Vec<Arrival> {
    let mut dice = Dice(recipe.seed);
    let mut day = Vec::new();
    let mut left = recipe.jobs;
    while left > 0 {
        let (least, most) = *dice.pick(&FAN);
        let jobs = dice.between(least, most).min(left);
        left -= jobs;
        build(recipe, jobs, &mut dice, &mut day);
    }
    day.sort_by_key(|arrival| arrival.at);
    day
}

fn build(recipe: &Recipe, jobs: u32, dice: &mut Dice, day: &mut Vec<Arrival>) {
    let slots = u32::try_from(BUSY.len()).expect("a small constant fits");
    let slot = recipe.length / slots;
    let comes = slot * *dice.pick(&BUSY) + slot.mul_f64(dice.share());
    let pipeline = *dice.pick(&PIPELINES);
    let branch = match dice.one_in(4) {
        true => "main".to_owned(),
        false => format!("change-{}", dice.between(1, 400)),
    };
    let priority = if dice.one_in(URGENT) { 10 } else { 0 };
    for _ in 0..jobs {
        let (cpu, memory) = *dice.pick(&SIZES);
        let agents = [("cpu", cpu), ("memory", memory)];
        let at = comes + Duration::from_millis(dice.between(0, SPREAD_MS).into());
        let runs_for = length(dice);
        let cancel_after = dice.one_in(CANCELLED).then(|| tenths(runs_for.mul_f64(dice.share())));
        day.push(Arrival {
            at: tenths(at.min(recipe.length)),
            queue: recipe.queue.clone(),
            agents: agents.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            priority,
            runs_for,
            pipeline: pipeline.to_owned(),
            branch: branch.clone(),
            exit_status: i32::from(dice.one_in(FAILS)),
            cancel_after,
        });
    }
}

fn length(dice: &mut Dice) -> Duration {
    let share = dice.share();
    let after = LENGTHS.partition_point(|(up_to, _)| *up_to <= share).min(LENGTHS.len() - 1);
    let ((from, least), (to, most)) = (LENGTHS[after - 1], LENGTHS[after]);
    tenths(Duration::from_secs_f64(least + (most - least) * (share - from) / (to - from)))
}

/// Cut to tenths of a second, which people can read.
fn tenths(time: Duration) -> Duration {
    let millis = u64::try_from(time.as_millis()).expect("no day is that long");
    Duration::from_millis(millis / 100 * 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::{read, write};

    fn day(jobs: u32, seed: u64) -> Vec<Arrival> {
        let length = Duration::from_secs(10 * 3600);
        generate(&Recipe { jobs, length, seed, queue: "jit".to_owned() })
    }

    #[test]
    fn the_same_seed_makes_the_same_day_and_it_can_be_read() {
        let made = day(500, 1);
        assert_eq!(made, day(500, 1));
        assert_ne!(made, day(500, 2));
        assert_eq!(read(&write(&made)).unwrap(), made);
    }

    #[test]
    fn a_day_has_its_jobs_its_rush_its_bursts_and_its_sizes() {
        let made = day(5_000, 1);
        assert_eq!(made.len(), 5_000);
        let count = |which: &dyn Fn(&Arrival) -> bool| made.iter().filter(|a| which(a)).count();
        let hours = |from: u64, to: u64| count(&|a| (from..to).contains(&(a.at.as_secs() / 3600)));
        assert!(hours(2, 3) > 2 * hours(0, 1), "{} at first", hours(0, 1));
        assert!(hours(2, 3) > hours(4, 5), "{} at noon", hours(4, 5));
        let burst = made.windows(20).any(|w| w[19].at - w[0].at <= Duration::from_secs(2));
        assert!(burst, "no build fans out");
        let big = count(&|a| a.agents["cpu"] == "16");
        assert!((150..350).contains(&big), "{big} of 16 vCPU");
        let failed = count(&|a| a.exit_status != 0);
        assert!((150..350).contains(&failed), "{failed} fail");
        let cancelled = count(&|a| a.cancel_after.is_some());
        assert!((50..150).contains(&cancelled), "{cancelled} are cancelled");
        let mut lengths: Vec<Duration> = made.iter().map(|a| a.runs_for).collect();
        lengths.sort_unstable();
        let (median, longest) = (lengths[2_500].as_secs(), lengths[4_999].as_secs());
        assert!((75..105).contains(&median) && longest > 1_800, "{median} s, {longest} s");
    }
}
