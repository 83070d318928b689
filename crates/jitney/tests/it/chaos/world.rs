//! What outlives the program: Buildkite (a sandbox within the test), machines that play agents in
//! a process of their own, a state directory; and the questions asked of them at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use sandbox::engine::{Engine, EventKind, Job, NewBuild, NewStep, State, StepKind};
use sandbox::machines::Faults;
use sandbox::{Options, Sandbox};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use super::program::{Heard, PATIENCE, Process, Program};

/// The cluster's token: planted, so that it can be looked for.
pub(crate) const TOKEN: &str = "bkct_planted_cluster_token";

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    /// Lives as long as this.
    _machines: Process,
    /// What the last program says, for the story of a failure.
    heard: Mutex<Option<Heard>>,
    machines_url: String,
    pub(crate) folder: TempDir,
    http: reqwest::Client,
    /// YAML below `buildkite:`, below the queue, in place of the backends, and at the end.
    pub(crate) buildkite: String,
    pub(crate) queue: String,
    pub(crate) backends: String,
    pub(crate) more: String,
    pub(crate) listen: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Counters {
    pub(crate) alive: usize,
    pub(crate) most_alive: usize,
    pub(crate) made: u64,
    pub(crate) deleted: u64,
}

/// One create or delete, as the machines' service noted it.
#[derive(Debug, Deserialize)]
pub(crate) struct Noted {
    pub(crate) call: String,
    pub(crate) name: String,
    pub(crate) job: Option<Uuid>,
    pub(crate) at: Timestamp,
    pub(crate) outcome: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        buildkite::install_crypto_provider();
        let mut options = Options::with_token(TOKEN);
        change(&mut options);
        let sandbox = Sandbox::start(options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let args = ["sandbox", "machines", "--listen", "127.0.0.1:0"];
        let machines = Process::start(&args, folder.path());
        let url = |line: &str| Some(line.split_once("served at ")?.1.trim().to_owned());
        let machines_url = machines.out.until("machines are served", url).await;
        Self {
            sandbox,
            _machines: machines,
            heard: Mutex::default(),
            folder,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            buildkite: String::new(),
            queue: String::new(),
            backends: format!("there: {{ http: {{ url: \"{machines_url}\" }} }}"),
            machines_url,
            more: String::new(),
            listen: "127.0.0.1:0".to_owned(),
        }
    }

    /// Machines are processes of this host, with our own small agent.
    pub(crate) fn on_processes(&mut self) {
        let agent = self.folder.path().join("buildkite-agent");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_jitney"), &agent).unwrap();
        self.on_processes_with(&agent);
    }

    pub(crate) fn on_processes_with(&mut self, agent: &Path) {
        self.backends = format!(
            "there: {{ process: {{ agent: {}, directory: {}, capacity: {{ cpu: 64, memory: 256G }} }} }}",
            agent.display(),
            self.builds().display()
        );
    }

    pub(crate) fn builds(&self) -> PathBuf {
        self.folder.path().join("builds")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("state").join("jitney.db")
    }

    /// The same for all installations but for the place of the journal.
    pub(crate) fn yaml(&self, journal: &Path) -> String {
        format!(
            "name: chaos\nlisten: {}\nlog: {{ level: info, format: json }}\nbuildkite:\n  endpoint: {}\n  \
             token: {TOKEN}\n{}\nstore: {{ journal: {} }}\nqueues:\n  default:\n    \
             backends: [there]\n{}\nbackends:\n  {}\n{}\n",
            self.listen,
            self.sandbox.endpoint(),
            self.buildkite,
            journal.display(),
            self.queue,
            self.backends,
            self.more
        )
    }

    /// Writes the configuration, as it is now, and says where.
    pub(crate) fn config(&self) -> PathBuf {
        self.config_at("jitney.yaml", &self.journal())
    }

    pub(crate) fn config_at(&self, name: &str, journal: &Path) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, self.yaml(journal)).unwrap();
        path
    }

    pub(crate) async fn start(&self) -> Program {
        let program = Program::start(&self.config(), self.folder.path()).await;
        *self.heard.lock().unwrap() = Some(program.process.err.clone());
        program
    }

    pub(crate) fn build_steps(&self, steps: Vec<NewStep>) -> Vec<Uuid> {
        self.sandbox.engine(|engine, now| {
            let new = NewBuild { pipeline: "web".to_owned(), steps, ..NewBuild::default() };
            let build = engine.create_build(new, now).unwrap();
            engine.build(build).unwrap().jobs().collect()
        })
    }

    /// So many jobs that a played agent takes so long for.
    pub(crate) fn jobs(&self, count: usize, seconds: f64) -> Vec<Uuid> {
        let step = with_env(NewStep::command("play"), &[("PLAY_SECONDS", &seconds.to_string())]);
        self.build_steps(vec![step; count])
    }

    pub(crate) async fn until<T>(&self, what: &str, look: impl FnMut(&Engine) -> Option<T>) -> T {
        match timeout(PATIENCE, self.sandbox.until(look)).await {
            Ok(found) => found,
            Err(_) => {
                let heard = self.heard.lock().unwrap().as_ref().map(Heard::text);
                let said = heard.unwrap_or_default();
                panic!("{what}: not within {PATIENCE:?}: {:?}\n{said}", self.states())
            }
        }
    }

    /// Waits until so many of them are past the given state.
    pub(crate) async fn reached(&self, jobs: &[Uuid], count: usize, kind: EventKind) {
        self.until(&format!("{count} jobs are {kind:?}"), |engine| {
            let passed = |id: &&Uuid| engine.job(**id).is_some_and(|job| times(job, kind) > 0);
            (jobs.iter().filter(passed).count() >= count).then_some(())
        })
        .await;
    }

    /// Waits until all of them have ended, and gives them as they then are.
    pub(crate) async fn ended(&self, jobs: &[Uuid]) -> Vec<Job> {
        self.until("the jobs end", |engine| {
            let jobs: Vec<&Job> = jobs.iter().filter_map(|id| engine.job(*id)).collect();
            let all = jobs.iter().all(|job| job.state.is_terminal());
            all.then(|| jobs.into_iter().cloned().collect())
        })
        .await
    }

    pub(crate) fn job(&self, id: Uuid) -> Job {
        self.sandbox.engine(|engine, _| engine.job(id).unwrap().clone())
    }

    fn states(&self) -> BTreeMap<State, usize> {
        self.sandbox.engine(|engine, _| {
            let mut states = BTreeMap::new();
            for job in engine.jobs() {
                *states.entry(job.state).or_default() += 1;
            }
            states
        })
    }

    pub(crate) async fn counters(&self) -> Counters {
        self.ask("counters").await
    }

    pub(crate) async fn log(&self) -> Vec<Noted> {
        self.ask("log").await
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, what: &str) -> T {
        let url = format!("{}/_machines/{what}", self.machines_url);
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn set_faults(&self, faults: &Faults) {
        let url = format!("{}/_machines/faults", self.machines_url);
        self.http.put(url).json(faults).send().await.unwrap().error_for_status().unwrap();
    }

    /// How many machines were made for each job, by the order in which they were made.
    pub(crate) async fn made(&self) -> BTreeMap<Uuid, Vec<Noted>> {
        let mut made: BTreeMap<Uuid, Vec<Noted>> = BTreeMap::new();
        for noted in self.log().await {
            if noted.call == "create" && noted.outcome.starts_with("made") {
                made.entry(noted.job.expect("a create is for a job")).or_default().push(noted);
            }
        }
        made
    }

    /// Nothing is left of machines: the last of them may still be saying goodbye.
    pub(crate) async fn no_machine_is_left(&self) {
        let counters = self.counters().await;
        assert_eq!(counters.alive, 0, "{counters:?}");
        assert_eq!(counters.made, counters.deleted, "{counters:?}");
        let names: Vec<String> = self
            .log()
            .await
            .into_iter()
            .filter(|noted| noted.call == "create" && noted.outcome.starts_with("made"))
            .map(|noted| noted.name)
            .collect();
        let distinct: BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "a name was used twice");
    }

    /// No process of a machine is alive, and no directory of one is left.
    pub(crate) fn no_trace_is_left(&self) {
        let alive = alive_below(&self.builds());
        assert!(alive.is_empty(), "alive: {alive:?}");
        let left = entries(&self.builds().join("machines"));
        assert!(left.is_empty(), "left: {left:?}");
    }
}

pub(crate) fn with_env(mut step: NewStep, env: &[(&str, &str)]) -> NewStep {
    if let StepKind::Command(command) = &mut step.kind {
        command.env.extend(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    }
    step
}

pub(crate) fn times(job: &Job, kind: EventKind) -> usize {
    job.events.iter().filter(|event| event.kind == kind).count()
}

/// Each of them was acquired once, started once and ended well.
pub(crate) fn each_ran_once(jobs: &[Job]) {
    for job in jobs {
        let counts = (times(job, EventKind::Accepted), times(job, EventKind::Started));
        assert_eq!(counts, (1, 1), "{job:#?}");
        assert_eq!(job.state, State::Finished, "{job:#?}");
        assert!(job.outcome.is_success(), "{job:#?}");
    }
}

/// Everything alive whose environment or arguments name this folder.
pub(crate) fn alive_below(folder: &Path) -> BTreeMap<u32, String> {
    let folder = folder.display().to_string();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        let (environ, line) = (of_process(pid, "environ"), of_process(pid, "cmdline"));
        let is_of = state != 'Z' && (environ.contains(&folder) || line.contains(&folder));
        is_of.then_some((pid, line))
    })
    .collect()
}

pub(crate) fn of_process(pid: u32, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// A look at something outside the sandbox, again and again until it is so.
pub(crate) async fn soon(what: &str, mut look: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !look() {
        assert!(tokio::time::Instant::now() < until, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
