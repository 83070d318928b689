//! The jobs of a day: what they ask for, how long they run, and how many come at which hour. Their
//! shapes are such that 1,250 machines have 10,000 vCPU and 30,000 GiB.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use planner::{
    BackendKind, BackendName, BackendPolicy, Bytes, Candidate, Cpu, FAMILIES, JobId, JobRow,
    JobState, Limits, Margins, PRICES, Policy, QueueKey, QueuePolicy, Shapes, Spot, Tables,
    Timestamp, UnknownTags, Verdict, Vms, assess,
};

use super::super::buildkite::Job;
use super::super::faults::Kind;
use super::super::losses::{Fate, PER_BUILD};
use super::super::world::{BASE, Happening, Sim};
use super::Size;

/// A kind of job: of a thousand so many, what it asks for, and how many minutes it runs on average.
struct Step {
    name: &'static str,
    of_thousand: u64,
    tags: &'static [&'static str],
    minutes: u64,
}

const STEPS: [Step; 9] = [
    step("lint", 225, &["cpu=2", "memory=4G"], 5),
    step("unit", 260, &["cpu=4", "memory=10G"], 12),
    step("test", 180, &["cpu=8", "memory=24G", "disk=100G"], 17),
    step("build", 80, &["cpu=16", "memory=48G", "local-ssd=1"], 25),
    step("browser", 100, &["cpu=8", "memory=24G", "family=n2,n2d,any", "spot=never"], 20),
    step("release", 15, &["cpu=32", "memory=64G", "spot=never"], 40),
    step("arm", 60, &["cpu=4", "memory=16G", "arch=arm64"], 14),
    step("deploy", 60, &["queue=deploy", "cpu=2", "memory=4G", "spot=never"], 4),
    step("data", 20, &["cpu=4", "memory=64G"], 25),
];

const fn step(
    name: &'static str,
    of_thousand: u64,
    tags: &'static [&'static str],
    minutes: u64,
) -> Step {
    Step { name, of_thousand, tags, minutes }
}

/// How much is wanted at each hour of the day, in hundredths of what is wanted at the peak: a
/// night with its nightly builds, a morning, two peaks with a lunch between them, an evening.
const CURVE: [u64; 24] = [
    18, 25, 30, 20, 12, 12, 18, 35, 60, 85, 100, 100, 75, 80, 100, 100, 95, 75, 55, 45, 38, 32, 26,
    20,
];
/// At the peak so many hundredths of what the limit lets in are wanted, on average: at times, and
/// where zones run out, some have to wait.
const WANTED: u64 = 98;
/// Beside its job's time a machine takes this long, from its create until it is gone.
const BESIDE: u64 = 80;
/// Steps of a build.
const PER_BUILD_JOBS: u64 = 20;
const ZONES: [&str; 6] = [
    "europe-west4-a",
    "europe-west4-b",
    "europe-west4-c",
    "europe-west1-b",
    "europe-west1-c",
    "europe-west1-d",
];
const FAMILIES_HERE: [&str; 8] = ["n2d", "n2", "e2", "c3", "n4", "c4a", "n4a", "t2d"];

/// What there is to ask for, resolved once: all jobs of a step share it.
#[derive(Debug)]
pub(super) struct Mix {
    steps: Vec<(Vec<String>, QueueKey, Verdict)>,
}

impl Mix {
    pub(super) fn of(size: Size, policy: &Policy) -> Self {
        let steps = STEPS.iter().map(|step| {
            let mut rules: Vec<String> = step.tags.iter().map(|tag| (*tag).to_owned()).collect();
            if !rules[0].starts_with("queue=") {
                rules.insert(0, "queue=linux".to_owned());
            }
            let queue = QueueKey::new(rules[0].trim_start_matches("queue="));
            let row = Arc::new(row(step.name, rules.clone(), queue.clone(), size));
            (rules, queue, assess(&row, policy))
        });
        Self { steps: steps.collect() }
    }
}

fn row(pipeline: &str, rules: Vec<String>, queue: QueueKey, size: Size) -> JobRow {
    JobRow {
        id: JobId(uuid::Uuid::from_u128(u128::from(size.seed))),
        queue,
        priority: 0,
        rules,
        scheduled_at: Timestamp::from_millis(BASE),
        runnable_at: None,
        pipeline: pipeline.into(),
        branch: "main".into(),
        build: 1,
        step: None,
    }
}

/// What the operator of such a day wants.
pub(super) fn policy(size: Size) -> Policy {
    let names = |list: &[&str]| list.iter().map(|name| Arc::from(*name)).collect();
    let tables = Tables {
        families: serde_saphyr::from_str(FAMILIES).expect("the families are sound"),
        prices: serde_saphyr::from_str(PRICES).expect("the prices are sound"),
    };
    let vms = Vms {
        zones: names(&ZONES),
        families: names(&FAMILIES_HERE),
        disk_type: None,
        tables: Arc::new(tables),
    };
    let gce = BackendPolicy {
        kind: BackendKind::Gce,
        limits: Limits::default(),
        capacity: Limits::default(),
        arch: None,
        listing_lag: Duration::from_secs(10),
        images: Vec::new(),
        vms: Some(Arc::new(vms)),
    };
    let limits = Limits {
        machines: Some(size.machines),
        cpu: Some(Cpu::from_millis(size.share(10_000).max(64) * 1000)),
        memory: Some(Bytes::gib(u64::from(size.share(30_000).max(192)))),
        cost_micros_per_hour: None,
    };
    Policy {
        name: "jitney".into(),
        queues: [
            (QueueKey::new("linux"), queue_policy(0)),
            (QueueKey::new("deploy"), queue_policy(10)),
        ]
        .into(),
        classes: BTreeMap::new(),
        rules: Vec::new(),
        retry_lost: Some(PER_BUILD),
        limits,
        backends: [(BackendName::new("gce"), gce)].into(),
        margins: Margins::default(),
    }
}

fn queue_policy(priority: i64) -> QueuePolicy {
    let defaults = Shapes { time: Some(Duration::from_secs(2 * 3600)), ..Shapes::default() };
    QueuePolicy {
        backends: vec!["gce".into()],
        tags: BTreeMap::new(),
        unknown_tags: UnknownTags::Wait,
        defaults,
        largest: Shapes::default(),
        images: Vec::new(),
        spot: Spot::Allow,
        attempts: 5,
        start_timeout: super::START_TIMEOUT,
        priority,
        share: 1,
        limits: Limits::default(),
    }
}

impl Size {
    /// Hundredths of the peak that are wanted so many milliseconds after the beginning.
    fn wanted(self, at: u64) -> u64 {
        let hour = self.millis() / 24;
        let (from, into) = (at / hour % 24, at % hour);
        let of = |hour: u64| CURVE[usize::try_from(hour % 24).expect("an hour")];
        (of(from) * (hour - into) + of(from + 1) * into) / hour
    }

    /// Jobs of a day of an hour do not run for half of it.
    fn runs_for(self, minutes: u64) -> u64 {
        (minutes * 60_000 * u64::from(self.hours) / 24).max(minutes * 6_000)
    }

    /// Thousandths of a job that come in a minute at the peak.
    fn at_the_peak(self) -> u64 {
        let mean: u64 =
            STEPS.iter().map(|step| step.of_thousand * self.runs_for(step.minutes)).sum();
        let machine = mean / 1000 + BESIDE * 1000;
        u64::from(self.machines) * WANTED * 10 * 60_000 / machine
    }
}

impl Sim<'_> {
    /// The jobs of the next minute.
    pub(super) fn come(&mut self) {
        let Some(size) = self.day.as_ref().map(|day| day.size) else { return };
        let at = self.now.millis() - BASE;
        let thousandths = size.at_the_peak() * size.wanted(at) / 100;
        // Builds come in bursts.
        let thousandths = thousandths * self.dice.between(60, 140) / 100;
        let count = thousandths / 1000 + u64::from(self.dice.chance(thousandths % 1000));
        for _ in 0..count {
            let offset = self.dice.between(0, 59_999);
            self.comes(size, at + offset);
        }
    }

    fn comes(&mut self, size: Size, at: u64) {
        let id = JobId(self.dice.uuid());
        let mut lot = self.dice.between(0, 999);
        let step = STEPS.iter().position(|step| {
            let here = lot < step.of_thousand;
            lot = lot.saturating_sub(step.of_thousand);
            here
        });
        let step = step.expect("their shares are a thousand");
        let Some(day) = &mut self.day else { return };
        day.came += 1;
        let (rules, queue, verdict) = day.mix.steps[step].clone();
        let mut row = row(STEPS[step].name, rules, queue, size);
        row.id = id;
        row.scheduled_at = Timestamp::from_millis(BASE + at);
        row.build = 1 + day.came / PER_BUILD_JOBS;
        // Most are shorter than the mean, some twice as long.
        let lot = self.dice.between(0, 1000);
        let runs_for = size.runs_for(STEPS[step].minutes) * (400 + lot * lot * 9 / 5000) / 1000;
        let job = Job {
            candidate: Arc::new(Candidate { row: Arc::new(row), verdict }),
            hidden: None,
            state: JobState::NotReady,
            reservation: None,
            acquired: None,
            acquires: 0,
            runs_for: Duration::from_millis(runs_for),
            failed_by_us: false,
            fate: Fate::default(),
        };
        self.buildkite.jobs.insert(id, job);
        self.at(at, Happening::Arrives(id));
        if self.dice.chance(20) {
            self.faults.count(Kind::Cancels);
            let later = at + self.dice.between(0, 1_200_000);
            self.at(later, Happening::Cancel(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_thousand_jobs_each_is_of_one_kind() {
        assert_eq!(STEPS.iter().map(|step| step.of_thousand).sum::<u64>(), 1000);
    }

    #[test]
    fn what_is_wanted_follows_the_curve_from_hour_to_hour() {
        let size = Size { seed: 1, machines: 1250, hours: 24 };
        let hour = 3_600_000;
        assert_eq!((size.wanted(0), size.wanted(hour), size.wanted(10 * hour)), (18, 25, 100));
        assert_eq!(size.wanted(7 * hour + hour / 2), 47, "between 35 and 60");
        let short = Size { hours: 1, ..size };
        assert_eq!(short.wanted(hour * 10 / 24), 100);
    }
}
