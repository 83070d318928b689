//! Jobs on virtual machines, by the real agent, through the whole program: the sandbox's Google
//! makes them, as processes that run the startup script and come in by the program's own door.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sandbox::cloud::compute::{Capacity, Compute, Grants, Knobs, Settings, Timing};
use sandbox::cloud::{Cloud, Machines, Options, Processes};
use sandbox::engine::{Checkout, Job, NewApiToken};
use sandbox::{Repository, pipeline};
use uuid::Uuid;

use crate::shell_process::agents;
use crate::shell_support::{PATIENCE, Program, World, everything_in};

const A: &str = "us-central1-a";
const API_TOKEN: &str = "bkua_planted_secret";

/// Buildkite, Google, and a configuration that knows both.
struct Clouds {
    world: World,
    cloud: Cloud,
}

impl Clouds {
    /// Nothing where no real agent is here.
    async fn start() -> Option<Self> {
        let agent = agents().into_iter().next()?;
        let repository = Repository::create().expect("git is here");
        let url = repository.url();
        let mut world = World::with(|options| {
            options.settings.checkout = Checkout::Repository(url);
            options.settings.api_tokens = vec![NewApiToken::with_all_scopes(API_TOKEN)];
        })
        .await;
        world.repository = Some(repository);
        let machines = world.folder.path().join("machines");
        std::fs::create_dir(&machines).unwrap();
        let guest = PathBuf::from(env!("CARGO_BIN_EXE_jitney-guest"));
        let path = [agent, guest].map(|program| program.parent().unwrap().to_owned());
        let processes = Processes { folder: machines, path: path.into(), ..Processes::default() };
        let machines = Machines::Processes(processes);
        let settings = Settings { need_token: false, ..Settings::default() };
        let cloud =
            Cloud::start(Options { settings, machines, ..Options::default() }).await.unwrap();
        let fast = Timing { insert_ms: 200, failure_ms: 100, boot_ms: 20, ..Timing::default() };
        cloud.compute(|compute, _| compute.timing = fast);
        let port = free_port();
        world.listen = format!("127.0.0.1:{port}");
        world.more = format!("public_url: http://127.0.0.1:{port}");
        world.buildkite = format!(
            "  api_endpoint: {}\n  api_token: {API_TOKEN}\n  organization: demo",
            world.sandbox.api_endpoint()
        );
        world.queues = "{ default: { backends: [vms], defaults: { cpu: 2, memory: 4G, time: 10m }, start_timeout: 1m } }".into();
        world.backends = format!(
            "vms: {{ gce: {{ project: sandbox-project, zones: [{A}, us-central1-b, us-central1-c], families: [n2, e2], \
             image: projects/debian-cloud/global/images/family/debian-12, \
             service_account: ci-agent@sandbox-project.iam.gserviceaccount.com, \
             subnetworks: {{ us-central1: projects/sandbox-project/regions/us-central1/subnetworks/ci }}, \
             template: {{ scheduling: {{ preemptionNoticeDuration: {{ seconds: \"120\" }} }} }}, \
             credentials: anonymous, endpoint: \"{}\" }} }}",
            cloud.url()
        );
        Some(Self { world, cloud })
    }

    fn build(&self, yaml: &str) -> Vec<Uuid> {
        self.world.build_steps(pipeline::from_yaml(yaml).unwrap())
    }

    async fn until<T>(&self, what: &str, look: impl FnMut(&Compute) -> Option<T>) -> T {
        match tokio::time::timeout(PATIENCE, self.cloud.until(look)).await {
            Ok(found) => found,
            Err(_) => panic!("{what}: not within {PATIENCE:?}: {}", self.story()),
        }
    }

    /// Waits until all of them have ended, and gives them as they then are.
    async fn ended(&self, jobs: &[Uuid]) -> Vec<Job> {
        let all = |engine: &sandbox::engine::Engine| {
            let jobs: Vec<Job> = jobs.iter().filter_map(|id| engine.job(*id)).cloned().collect();
            jobs.iter().all(|job| job.state.is_terminal()).then_some(jobs)
        };
        if let Ok(jobs) = tokio::time::timeout(PATIENCE, self.world.sandbox.until(all)).await {
            return jobs;
        }
        let known = jobs.iter().map(|id| {
            self.world.sandbox.engine(|engine, _| {
                engine.job(*id).map(|job| (job.state, job.notifications.clone()))
            })
        });
        panic!("the jobs do not end: {:#?}\n{}", known.collect::<Vec<_>>(), self.story())
    }

    fn story(&self) -> String {
        self.cloud.compute(|compute, _| {
            let said = compute.instances().map(|it| format!("{}: {}", it.name, it.serial_output()));
            format!("{:#?}\n{}", compute.log(), said.collect::<Vec<_>>().join("\n"))
        })
    }

    /// Everything is over, and nothing is left: no machine, no disk, no token.
    async fn nothing_is_left(self, program: Program) {
        program.at_rest().await;
        self.until("nothing is left", |compute| {
            let none = compute.instances().next().is_none() && compute.disks().next().is_none();
            none.then_some(())
        })
        .await;
        program.stop().await;
        let kept = everything_in(self.world.folder.path());
        assert!(!String::from_utf8_lossy(&kept).contains("bkjat_"), "a token was written down");
        self.cloud.stop().await;
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn told(job: &Job, words: &str) -> bool {
    job.notifications.iter().any(|told| told.detail.contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_gets_the_machine_that_it_asks_for() {
    let Some(clouds) = Clouds::start().await else { return };
    let program = clouds.world.start().await;
    let jobs = clouds.build(
        "steps:\n  - { command: \"echo plain\", agents: { spot: never } }\n  \
         - { command: \"buildkite-agent meta-data set a b\", agents: { cpu: 4, memory: 16G, family: n2, spot: require } }\n  \
         - wait\n  - { command: \"exit 3\", soft_fail: true, agents: { cpu: 16, memory: 64G, local-ssd: 1, disk: 100G } }\n",
    );
    let ended = clouds.ended(&jobs).await;
    let exits: Vec<_> = ended.iter().map(|job| job.outcome.exit_status).collect();
    assert_eq!(exits, [Some(0), Some(0), Some(3)], "{}", clouds.story());
    assert!(ended[0].log.text().contains("plain"));
    let history = program.history().await;
    assert!(history.values().all(|closed| closed.attempts == 1), "{history:#?}");
    let requests = clouds.cloud.requests();
    let gets = requests.iter().filter(|request| request.route.ends_with(".get")).count();
    assert_eq!(gets, 0, "machines are looked at zone by zone");
    clouds.nothing_is_left(program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_zones_without_room_and_a_quota_are_gone_round() {
    let Some(clouds) = Clouds::start().await else { return };
    clouds.cloud.compute(|compute, _| {
        let none = |zone: &str| Capacity { zone: Some(zone.to_owned()), ..Capacity::default() };
        compute.capacity = vec![none(A), none("us-central1-b")];
        let quotas = BTreeMap::from([("N2_CPUS".to_owned(), 0.0)]);
        compute.set_quotas([("us-central1".to_owned(), quotas)].into());
    });
    let program = clouds.world.start().await;
    let jobs = clouds.build("steps: [{ command: echo hello, agents: { family: \"n2,any\" } }]");
    let ended = clouds.ended(&jobs).await;
    assert!(ended[0].outcome.is_success(), "{}", clouds.story());
    let places: Vec<(String, String)> = clouds.cloud.compute(|compute, _| {
        let log = compute.log().iter().filter(|entry| entry.what == "runs");
        log.map(|entry| (entry.zone.clone(), entry.what.to_owned())).collect()
    });
    assert_eq!(places.len(), 1, "{places:?}");
    assert_eq!(places[0].0, "us-central1-c");
    clouds.nothing_is_left(program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preempted_machine_is_told_of_and_its_job_runs_again_on_demand() {
    let Some(clouds) = Clouds::start().await else { return };
    // It takes a job a moment to stop, and Buildkite retries it the moment it has: so the notice is
    // what can be known then, and the machine's end is not.
    let program = clouds.world.start().await;
    let jobs = clouds.build(
        "steps: [{ command: \"test \\\"${BUILDKITE_RETRY_COUNT:-0}\\\" != 0 || { trap 'sleep 1; exit 1' TERM; sleep 300 & wait; }\", agents: { family: n2 }, \
         retry: { automatic: [{ signal_reason: agent_stop, limit: 2 }] } }]",
    );
    let running = |engine: &sandbox::engine::Engine| {
        engine.job(jobs[0]).filter(|job| job.log.text().contains("sleep 300")).map(|_| ())
    };
    clouds.world.until("it runs", running).await;
    let (zone, name) = clouds
        .until("a machine", |compute| {
            let on_spot = compute.instances().find(|it| it.spot);
            on_spot.map(|it| (it.zone.clone(), it.name.clone()))
        })
        .await;
    let began = tokio::time::Instant::now();
    clouds.cloud.compute(|compute, now| compute.preempt(&zone, &name, now)).unwrap();
    let on_demand = clouds.until("a machine on demand", |compute| {
        compute.instances().find(|it| !it.spot).map(|_| ())
    });
    let (ended, ()) = tokio::join!(clouds.ended(&jobs), on_demand);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let taken = "Google took the spot machine back (preempted)";
    let told_why = |engine: &sandbox::engine::Engine| {
        engine.job(ended[0].id).filter(|job| told(job, taken)).map(|_| ())
    };
    clouds.world.until("its developer knows why", told_why).await;
    clouds
        .world
        .until("it runs again", |engine| {
            let by = engine.job(jobs[0])?.retried_in?;
            engine.job(by).filter(|job| job.state.is_terminal()).map(|_| ())
        })
        .await;
    clouds.nothing_is_left(program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_rights_gets_its_token_all_the_same() {
    let Some(mut clouds) = Clouds::start().await else { return };
    clouds.world.more.push_str("\npolicies: [{ match: {}, service_account: none }]");
    let program = clouds.world.start().await;
    let jobs = clouds.build("steps: [{ command: echo hello }]");
    let account = clouds.until("a machine", |compute| {
        compute
            .instances()
            .next()
            .map(|it| it.account.as_ref().map(|account| account.scopes.clone()))
    });
    let only_who = vec!["https://www.googleapis.com/auth/userinfo.email".to_owned()];
    assert_eq!(account.await, Some(only_who));
    let ended = clouds.ended(&jobs).await;
    assert!(ended[0].outcome.is_success(), "{}", clouds.story());
    clouds.nothing_is_left(program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_never_boots_is_given_up_and_another_is_made() {
    let Some(mut clouds) = Clouds::start().await else { return };
    clouds.world.queues = clouds.world.queues.replace("start_timeout: 1m", "start_timeout: 10s");
    clouds.cloud.set_knobs(Knobs { never_boot: 1, ..Knobs::default() });
    let program = clouds.world.start().await;
    let jobs = clouds.build("steps: [{ command: echo hello }]");
    let ended = clouds.ended(&jobs).await;
    assert!(ended[0].outcome.is_success(), "{}", clouds.story());
    assert!(told(&ended[0], "no agent connected within 10s"), "{:#?}", ended[0].notifications);
    assert_eq!(program.history().await.len() + program.status().await.jobs.len(), 1);
    clouds.nothing_is_left(program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_from_before_a_crash_gets_a_token_all_the_same() {
    let Some(clouds) = Clouds::start().await else { return };
    clouds.cloud.compute(|compute, _| compute.timing.boot_ms = 5_000);
    let program = clouds.world.start().await;
    let jobs = clouds.build("steps: [{ command: echo hello }]");
    clouds.until("a machine", |compute| compute.instances().next().map(|_| ())).await;
    program
        .until("its create is known", |snapshot| {
            let made = |job: &jitney::api::Job| {
                job.moments.iter().any(|moment| moment.what.contains("made"))
            };
            snapshot.jobs.first().is_some_and(made).then_some(())
        })
        .await;
    program.crash().await;
    let program = clouds.world.start().await;
    let ended = clouds.ended(&jobs).await;
    assert!(ended[0].outcome.is_success(), "{}", clouds.story());
    program.at_rest().await;
    assert_eq!(program.history().await[&jobs[0]].attempts, 1);
    clouds.nothing_is_left(program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_jitney_is_dead_deletes_itself_when_its_job_has_ended() {
    let Some(mut clouds) = Clouds::start().await else { return };
    let own = "service_account: ci-agent@";
    clouds.world.backends =
        clouds.world.backends.replace(own, &format!("self_delete: true, {own}"));
    clouds.cloud.compute(|compute, _| {
        let account = "ci-agent@sandbox-project.iam.gserviceaccount.com".to_owned();
        let delete = ["compute.instances.delete".to_owned()].into();
        compute.grants = Grants {
            accounts: [(account.clone(), delete)].into(),
            only_machines: [(account, "jitney-".to_owned())].into(),
            ..Grants::default()
        };
    });
    let program = clouds.world.start().await;
    let flag = clouds.world.folder.path().join("go-on");
    let jobs = clouds.build(&format!(
        "steps: [{{ command: \"echo it-''runs; until test -e {}; do sleep 0.1; done\" }}]",
        flag.display()
    ));
    let running = |engine: &sandbox::engine::Engine| {
        engine.job(jobs[0]).filter(|job| job.log.text().contains("it-runs")).map(|_| ())
    };
    clouds.world.until("it runs", running).await;
    program.crash().await;
    std::fs::write(&flag, "").unwrap();
    let ended = clouds.ended(&jobs).await;
    assert!(ended[0].outcome.is_success(), "{}", clouds.story());
    clouds
        .until("the machine and its disk are gone, with no Jitney there", |compute| {
            let none = compute.instances().next().is_none() && compute.disks().next().is_none();
            none.then_some(())
        })
        .await;
    let deletes = clouds
        .cloud
        .compute(|compute, _| compute.log().iter().filter(|entry| entry.what == "delete").count());
    assert_eq!(deletes, 1, "{}", clouds.story());
    // The next one finds the job ended, and nothing to do.
    let program = clouds.world.start().await;
    clouds.nothing_is_left(program).await;
}

/// `make demo-cloud` shows what it prints.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_comes_through_stockouts_a_quota_a_preemption_and_a_machine_that_never_boots() {
    let Some(mut clouds) = Clouds::start().await else { return };
    clouds.world.queues = clouds.world.queues.replace("start_timeout: 1m", "start_timeout: 15s");
    clouds.cloud.compute(|compute, _| {
        let none = |zone: &str| Capacity { zone: Some(zone.to_owned()), ..Capacity::default() };
        compute.capacity = vec![none(A), none("us-central1-b")];
        let quotas = BTreeMap::from([("N2_CPUS".to_owned(), 8.0)]);
        compute.set_quotas([("us-central1".to_owned(), quotas)].into());
    });
    clouds.cloud.set_knobs(Knobs { never_boot: 1, ..Knobs::default() });
    let program = clouds.world.start().await;
    let jobs = clouds.build(
        "steps:\n  - { label: lint, command: echo lint, agents: { spot: never } }\n  \
         - { label: \"bench (local SSD)\", command: echo bench, agents: { local-ssd: 1, spot: never } }\n  \
         - { label: \"build (more than the quota has)\", command: echo build, agents: { cpu: 16, family: \"n2,any\", spot: never } }\n  \
         - wait\n  \
         - { label: \"test (on spot)\", command: \"test ${BUILDKITE_RETRY_COUNT:-0} != 0 || sleep 300\", \
             agents: { family: e2 }, retry: { automatic: [{ signal_reason: agent_stop, limit: 2 }] } }\n",
    );
    clouds.preempt_once().await;
    let ended = clouds.ended(&jobs).await;
    let again = clouds.world.until("the lost one runs again", |engine| {
        let by = engine.job(jobs[3])?.retried_in?;
        engine.job(by).filter(|job| job.state.is_terminal()).cloned()
    });
    let again = again.await;
    for job in ended[..3].iter().chain([&again]) {
        assert!(job.outcome.is_success(), "{}: {}", job.label, clouds.story());
    }
    program.at_rest().await;
    let history = program.history().await;
    let reasons = |id: &Uuid| -> Vec<String> {
        let moments = history.get(id).map(|closed| closed.moments.clone()).unwrap_or_default();
        let why = moments.into_iter().map(|moment| moment.what.to_string());
        why.filter(|what| WHY.iter().any(|words| what.contains(words))).collect()
    };
    for job in ended.iter().chain([&again]) {
        show(job, &reasons(&job.id));
    }
    let all: Vec<String> = jobs.iter().flat_map(reasons).collect();
    for words in WHY {
        assert!(all.iter().any(|why| why.contains(words)), "{words}: {all:#?}");
    }
    clouds.nothing_is_left(program).await;
    println!("\nEvery job ended as it should; no machine and no disk is left.");
}

impl Clouds {
    /// The first machine on spot whose job runs is taken away.
    async fn preempt_once(&self) {
        let running = |engine: &sandbox::engine::Engine| {
            let on_spot = |job: &&Job| job.label.contains("spot") && job.started_at.is_some();
            engine.jobs().find(on_spot).map(|_| ())
        };
        self.world.until("a job runs on spot", running).await;
        let taken = self.cloud.compute(|compute, now| {
            let found =
                compute.instances().find(|it| it.spot).map(|it| (it.zone.clone(), it.name.clone()));
            found.map(|(zone, name)| compute.preempt(&zone, &name, now))
        });
        assert_eq!(taken, Some(Ok(())), "{}", self.story());
    }
}

/// What keeps a job from its first machine in this pipeline.
const WHY: [&str; 4] = [
    "has no room for",
    "the quota N2_CPUS of the region us-central1 is used up",
    "no agent connected within 15s",
    "Google took the spot machine back",
];

fn show(job: &Job, reasons: &[String]) {
    let exit = job.outcome.exit_status.map_or_else(|| "-".to_owned(), |code| code.to_string());
    println!("\n{} [exit {exit}]", job.label);
    for told in &job.notifications {
        println!("  told:  {}", told.detail);
    }
    for why in reasons {
        println!("  why:   {why}");
    }
}
