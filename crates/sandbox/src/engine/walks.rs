//! Random walks through the engine: whatever is called in whatever order, its indexes stay true
//! and a job runs at most once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use buildkite::wire;
use jiff::Timestamp;
use uuid::Uuid;

use super::*;

const SEEDS: u64 = 150;
const STEPS: usize = 250;

/// A small generator: the walk is the seed's, on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick(&mut self, from: &[Uuid]) -> Uuid {
        if from.is_empty() { Uuid::nil() } else { from[self.roll(from.len())] }
    }
}

struct Walk {
    engine: Engine,
    dice: Dice,
    now: Timestamp,
    agents: Vec<Uuid>,
    tokens: Vec<String>,
    terminal: BTreeMap<Uuid, State>,
    acquired: BTreeSet<Uuid>,
}

#[test]
fn indexes_stay_true_and_jobs_run_once() {
    let mut ran = 0;
    for seed in 1..=SEEDS {
        let mut walk = Walk::new(seed);
        for step in 0..STEPS {
            walk.step();
            walk.check(&format!("seed {seed}, step {step}"));
        }
        ran += walk.acquired.len();
    }
    assert!(ran > 1_000, "the walks are too tame: {ran} jobs were acquired");
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut settings = Settings::with_token("bkct_walk");
        settings.seed = Some(seed);
        settings.timing.job_expiry = Duration::from_secs(3_000);
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let mut engine = Engine::new(settings, now);
        for key in ["a", "b"] {
            let new = wire::RegisterStack {
                key: key.to_owned(),
                kind: "custom".to_owned(),
                queue_key: "default".to_owned(),
                metadata: BTreeMap::new(),
            };
            engine.register_stack(0, new, now).unwrap();
        }
        Self {
            engine,
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now,
            agents: Vec::new(),
            tokens: Vec::new(),
            terminal: BTreeMap::new(),
            acquired: BTreeSet::new(),
        }
    }

    /// Jobs in an order that depends on the seed alone.
    fn jobs(&self) -> Vec<Uuid> {
        self.engine.builds().iter().flat_map(Build::jobs).collect()
    }

    fn step(&mut self) {
        let far = [0, 1, 20, 70, 200][self.dice.roll(5)];
        self.now += Duration::from_secs(far);
        self.engine.advance(self.now);
        let jobs = self.jobs();
        let job = self.dice.pick(&jobs);
        let agent = self.dice.pick(&self.agents.clone());
        let stack = ["a", "b"][self.dice.roll(2)];
        let now = self.now;
        match self.dice.roll(16) {
            0 => self.create_build(),
            1..=3 => self.reserve(stack, &jobs),
            4 => self.mint(stack, job),
            5 => self.register(),
            6 | 7 => self.acquire(agent),
            8 | 9 => drop(self.engine.start(job, agent, now)),
            10 => self.finish(job),
            11 => drop(self.engine.disconnect(agent, now)),
            12 => drop(self.engine.cancel_job(job, now)),
            13 => self.stack_finish(stack, job),
            14 => drop(self.engine.heartbeat(agent, now)),
            _ => self.rare(job),
        }
    }

    fn rare(&mut self, job: Uuid) {
        let now = self.now;
        let Some(build) = self.engine.job(job).map(|job| self.engine.builds()[job.build].id) else {
            return;
        };
        match self.dice.roll(4) {
            0 => drop(self.engine.cancel_build(build, now)),
            1 => drop(self.engine.unblock(build, BlockedStep::First, &Answers::default(), now)),
            2 => drop(self.engine.retry_job(job, now)),
            _ => {
                let upload = Uuid::from_u128(self.engine.next_sequence().into());
                let mut steps = vec![NewStep::command("up"), NewStep::wait()];
                self.group_some(&mut steps);
                drop(self.engine.upload_steps(job, upload, steps, now));
            }
        }
    }

    fn create_build(&mut self) {
        let count = 1 + self.dice.roll(5);
        let mut steps: Vec<NewStep> = (0..count).map(|_| self.any_step()).collect();
        self.group_some(&mut steps);
        let new = NewBuild { pipeline: "walk".to_owned(), steps, ..NewBuild::default() };
        self.engine.create_build(new, self.now).unwrap();
    }

    /// Puts steps that stand together into a group, half of the time.
    fn group_some(&mut self, steps: &mut [NewStep]) {
        if self.dice.roll(2) == 0 {
            return;
        }
        let depends_on = (self.dice.roll(3) == 0).then(|| {
            vec![Dependency { step: "x".to_owned(), allow_failure: self.dice.roll(2) == 0 }]
        });
        let key = (self.dice.roll(3) == 0).then(|| "z".to_owned());
        let label = "group".to_owned();
        let group = Arc::new(NewGroup { key, label, depends_on, ..NewGroup::default() });
        let from = self.dice.roll(steps.len());
        steps[from..].iter_mut().for_each(|step| step.group = Some(Arc::clone(&group)));
    }

    fn any_step(&mut self) -> NewStep {
        let kind = match self.dice.roll(10) {
            0 => StepKind::Wait { continue_on_failure: self.dice.roll(2) == 0 },
            1 => StepKind::Block(Form::default()),
            2 => StepKind::Input(Form::default()),
            _ => StepKind::Command(Box::new(self.any_command())),
        };
        let depends_on = (self.dice.roll(4) == 0).then(|| {
            let step = ["x", "y", "z"][self.dice.roll(3)].to_owned();
            vec![Dependency { step, allow_failure: self.dice.roll(2) == 0 }]
        });
        let key = (self.dice.roll(2) == 0).then(|| ["x", "y"][self.dice.roll(2)].to_owned());
        let allow_dependency_failure = self.dice.roll(6) == 0;
        let skip = (self.dice.roll(8) == 0).then(String::new);
        let filter = Filter { skip, only: None };
        NewStep { key, kind, depends_on, allow_dependency_failure, filter, ..NewStep::wait() }
    }

    fn any_command(&mut self) -> Command {
        let any = RetryRule {
            exit_status: ExitMatch::Unsaid,
            signal: None,
            signal_reason: None,
            limit: 1,
        };
        let method = [ConcurrencyMethod::Ordered, ConcurrencyMethod::Eager][self.dice.roll(2)];
        let group = || Concurrency { group: "walk".to_owned(), limit: 2, method };
        Command {
            command: "true".to_owned(),
            retry: if self.dice.roll(3) == 0 { vec![any] } else { Vec::new() },
            timeout: (self.dice.roll(4) == 0).then_some(Duration::from_secs(50)),
            concurrency: (self.dice.roll(4) == 0).then(group),
            soft_fail: if self.dice.roll(4) == 0 { SoftFail::Always } else { SoftFail::Never },
            ..Command::default()
        }
    }

    fn reserve(&mut self, stack: &str, jobs: &[Uuid]) {
        let some = (0..4).map(|_| self.dice.pick(jobs)).collect();
        let request = wire::BatchReserve { job_uuids: some, reservation_expiry_seconds: Some(60) };
        self.engine.batch_reserve(0, stack, &request, self.now).unwrap();
    }

    fn mint(&mut self, stack: &str, job: Uuid) {
        let request = wire::IssueTokens { job_uuids: vec![job], token_lifetime_seconds: None };
        let issued = self.engine.issue_tokens(0, stack, &request, self.now).unwrap();
        let tokens = issued.job_acquisition_tokens.into_iter();
        self.tokens.extend(tokens.map(|token| token.job_acquisition_token));
    }

    fn register(&mut self) {
        let token = match self.dice.roll(2) {
            0 => "bkct_walk".to_owned(),
            _ if self.tokens.is_empty() => return,
            _ => self.tokens[self.dice.roll(self.tokens.len())].clone(),
        };
        let Ok(credential) = self.engine.credential(&token, self.now) else { return };
        let agent = self.engine.register_agent(&credential, NewAgent::default(), self.now).unwrap();
        self.engine.connect(agent.id, self.now).unwrap();
        self.agents.push(agent.id);
    }

    fn acquire(&mut self, agent: Uuid) {
        // The job that the agent is for, if it is for one, else any that can be had.
        let bound = self.engine.agent(agent).and_then(|agent| agent.bound.as_ref());
        let open = |job: &&Uuid| {
            matches!(self.engine.job(**job).unwrap().state, State::Scheduled | State::Reserved)
        };
        let jobs = self.jobs();
        let Some(job) = bound.map(|bound| bound.0).or_else(|| jobs.iter().find(open).copied())
        else {
            return;
        };
        if self.engine.acquire(job, agent, self.now).is_ok() {
            assert!(self.acquired.insert(job), "{job} was acquired twice");
        }
    }

    fn finish(&mut self, job: Uuid) {
        let exit_status = Some(if self.dice.roll(3) == 0 { 1 } else { 0 });
        let outcome = Outcome { exit_status, ..Outcome::default() };
        let finish = AgentFinish { outcome, chunks_failed_count: 0 };
        drop(self.engine.finish(job, finish, self.now));
    }

    fn stack_finish(&mut self, stack: &str, job: Uuid) {
        let finish = wire::FinishJob { exit_status: -1, detail: "no machine".to_owned() };
        drop(self.engine.stack_finish(0, stack, job, finish, self.now));
    }

    fn check(&mut self, at: &str) {
        let queue = &self.engine.queues[0];
        let mut scheduled = BTreeSet::new();
        let mut counts = wire::JobCounts::default();
        for job in self.engine.jobs.values() {
            match job.state.count() {
                Some(job::Count::Scheduled) => counts.scheduled += 1,
                Some(job::Count::Running) => counts.running += 1,
                Some(job::Count::Waiting) => counts.waiting += 1,
                None => {}
            }
            if job.state == State::Scheduled {
                scheduled.insert(job.place());
            }
            assert_eq!(job.reservation.is_some(), job.state == State::Reserved, "{at}");
            assert_eq!(job.finished_at.is_some(), job.state.is_terminal(), "{at}: {job:?}");
            if let Some(before) = self.terminal.get(&job.id) {
                assert_eq!(*before, job.state, "{at}: a job changed after its end");
            }
            if job.state.is_terminal() {
                self.terminal.insert(job.id, job.state);
            }
        }
        assert_eq!(queue.scheduled, scheduled, "{at}");
        counts.total = counts.scheduled + counts.running + counts.waiting;
        assert_eq!(self.engine.queue_metrics(0).1, counts, "{at}");
        self.check_lines(at);
        for build in self.engine.builds() {
            self.check_build(build, at);
        }
    }

    /// At most as many as the limit are let go, and each job that has not ended and may be in its
    /// line is there once.
    fn check_lines(&self, at: &str) {
        let active = self.engine.jobs.values().filter(|job| {
            let open = !job.state.is_terminal() && job.state != State::Waiting;
            job.command.concurrency.is_some() && open && job.state != State::Limited
        });
        assert!(active.count() <= 2, "{at}: the group is overfull");
        let Some(line) = self.engine.lines.get("walk") else { return };
        let out: BTreeSet<Uuid> =
            self.engine.builds().iter().flat_map(|build| build.out_of_line.clone()).collect();
        let open = self.engine.jobs.values().filter(|job| {
            job.command.concurrency.is_some() && !job.state.is_terminal() && !out.contains(&job.id)
        });
        let open: BTreeSet<Uuid> = open.map(|job| job.id).collect();
        let in_line = line.idle.values().chain(line.active.values()).copied();
        assert_eq!(in_line.collect::<BTreeSet<_>>(), open, "{at}");
        // Whoever is limited has somebody before it or beside it who is not.
        let limited = self.engine.jobs.values().any(|job| job.state == State::Limited);
        assert!(!limited || open.len() > 1, "{at}: a job is held back by nobody");
    }

    fn check_build(&self, build: &Build, at: &str) {
        let in_state = |state| build.steps.iter().filter(|step| step.state == state).count();
        assert_eq!(build.waiting, in_state(StepState::Waiting), "{at}");
        assert_eq!(build.blocked, in_state(StepState::Blocked), "{at}");
        assert_eq!(build.started, in_state(StepState::Started), "{at}");
        let open = build.jobs().any(|job| !self.engine.jobs[&job].state.is_terminal());
        if build.state.is_terminal() {
            assert!(!open, "{at}: an ended build has an open job");
        }
        // The steps of a group stand together.
        let groups: Vec<usize> = build.steps.iter().filter_map(|step| step.group).collect();
        let mut runs: Vec<Option<usize>> = build.steps.iter().map(|step| step.group).collect();
        runs.dedup();
        let distinct: BTreeSet<usize> = groups.into_iter().collect();
        assert_eq!(runs.iter().flatten().count(), distinct.len(), "{at}: a group is parted");
        for (index, step) in build.steps.iter().enumerate() {
            for job in &step.jobs {
                assert_eq!(self.engine.jobs[job].step, index, "{at}");
            }
            let last = step.jobs.last().map(|job| self.engine.jobs[job].state);
            if let Some(last) = last {
                let ended = !matches!(step.state, StepState::Waiting | StepState::Started);
                assert_eq!(last.is_terminal(), ended, "{at}: {:?} and {last:?}", step.state);
            }
        }
    }
}
