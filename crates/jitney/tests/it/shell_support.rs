//! What the shell's tests share: a sandbox, machines that play agents in a service beside it, and
//! the program run within the test, as `jitney run` runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jitney::api::{Explained, Readiness, Snapshot};
use jitney::assembly::{self, Place, Reins};
use jitney::clock::{Clock, process_now};
use jitney::config::{Config, process_environment};
use jitney::event_log;
use jitney::host::Host;
use jitney::journal::Closed;
use jitney::run::{self, Error};
use jitney::settings::Settings;
use reqwest::{Method, StatusCode};
use sandbox::engine::{Engine, Job, NewBuild, NewStep};
use sandbox::machines::{self, Faults, Machines};
use sandbox::{Options, Repository, Sandbox, pipeline};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const TOKEN: &str = "bkct_planted_secret";
/// Longer than anything here takes; reached only by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that outlives the program: Buildkite, machines, the state directory.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) machines: Machines,
    pub(crate) folder: TempDir,
    pub(crate) http: reqwest::Client,
    /// YAML that goes below `buildkite:`, and to the end of the file.
    pub(crate) buildkite: String,
    pub(crate) more: String,
    pub(crate) backends: String,
    pub(crate) queues: String,
    pub(crate) token: String,
    pub(crate) listen: String,
    pub(crate) clock: Clock,
    pub(crate) event_log: Option<event_log::Options>,
    /// Lives as long as jobs may check it out.
    pub(crate) repository: Option<Repository>,
}

/// What the machines' service counts, as far as tests look at it.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Counters {
    pub(crate) alive: usize,
    pub(crate) made: u64,
    pub(crate) deleted: u64,
}

/// One run of the program.
pub(crate) struct Program {
    pub(crate) url: String,
    http: reqwest::Client,
    shutdown: CancellationToken,
    pub(crate) reload: mpsc::Sender<Settings>,
    task: JoinHandle<Result<(), Error>>,
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let faults = Faults::default();
        let machines =
            machines::serve(machines::Options { listener, token: None, faults, now: process_now })
                .unwrap();
        let backends = format!("there: {{ http: {{ url: \"http://{}\" }} }}", machines.address());
        Self {
            sandbox,
            machines,
            folder: tempfile::tempdir().unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            buildkite: String::new(),
            more: String::new(),
            backends,
            queues: "{ default: { backends: [there] } }".into(),
            token: TOKEN.into(),
            listen: "127.0.0.1:0".into(),
            clock: Clock::of_process(),
            event_log: None,
            repository: None,
        }
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("jitney.db")
    }

    pub(crate) fn yaml(&self) -> String {
        format!(
            "listen: {}\nbuildkite:\n  endpoint: {}\n  token: {}\n{}\n\
             store: {{ journal: {} }}\nqueues: {}\nbackends:\n  {}\n{}\n",
            self.listen,
            self.sandbox.endpoint(),
            self.token,
            self.buildkite,
            self.journal().display(),
            self.queues,
            self.backends,
            self.more
        )
    }

    pub(crate) fn place(&self) -> Place {
        let kept = ["PATH", "HOME"].into_iter();
        let environment =
            kept.filter_map(|name| Some((name.to_owned(), process_environment(name)?)));
        Place {
            environment: environment.collect(),
            host: Host { cpu_millis: 64_000, memory_bytes: 256 << 30, arch: None, root: false },
            guest_exe: env!("CARGO_BIN_EXE_jitney").into(),
            guest_args: vec!["guest".into()],
            clock: self.clock,
        }
    }

    pub(crate) fn config(&self) -> Config {
        let environment = |_: &str| None;
        Config::parse("test.yaml", &self.yaml(), &environment)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.yaml()))
    }

    /// Starts the program. It may still be on its way up.
    pub(crate) async fn start(&self) -> Program {
        self.try_start().await.unwrap()
    }

    pub(crate) async fn try_start(&self) -> Result<Program, assembly::Error> {
        let shutdown = CancellationToken::new();
        let (reload, reloads) = mpsc::channel(1);
        let reins = Reins { shutdown: shutdown.clone(), reloads };
        let mut options = assembly::assemble(&self.config(), &self.place(), reins).await?;
        options.event_log.clone_from(&self.event_log);
        let url = format!("http://{}", options.listener.local_addr().unwrap());
        let task = tokio::spawn(run::run(options));
        Ok(Program { url, http: self.http.clone(), shutdown, reload, task })
    }

    /// The API asks for this token, and our calls bear it.
    pub(crate) fn with_access_token(&mut self, token: &str) {
        self.more = format!("access: {{ token: {token} }}");
        let bearer = format!("Bearer {token}").parse().unwrap();
        let headers = [(reqwest::header::AUTHORIZATION, bearer)].into_iter().collect();
        self.http = reqwest::Client::builder().no_proxy().default_headers(headers).build().unwrap();
    }

    /// A build of a pipeline, and its jobs.
    pub(crate) fn build(&self, yaml: &str) -> Vec<Uuid> {
        self.build_steps(pipeline::from_yaml(yaml).unwrap())
    }

    pub(crate) fn build_steps(&self, steps: Vec<NewStep>) -> Vec<Uuid> {
        self.sandbox.engine(|engine, now| {
            let new = NewBuild { pipeline: "web".to_owned(), steps, ..NewBuild::default() };
            let build = engine.create_build(new, now).unwrap();
            engine.build(build).unwrap().jobs().collect()
        })
    }

    /// As many jobs of one line as asked for.
    pub(crate) fn jobs(&self, count: usize) -> Vec<Uuid> {
        self.build_steps((0..count).map(|_| NewStep::command("echo hello")).collect())
    }

    pub(crate) async fn until<T>(&self, what: &str, look: impl FnMut(&Engine) -> Option<T>) -> T {
        match tokio::time::timeout(PATIENCE, self.sandbox.until(look)).await {
            Ok(found) => found,
            Err(_) => panic!("{what}: not within {PATIENCE:?}"),
        }
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

    pub(crate) async fn counters(&self) -> Counters {
        let url = format!("http://{}/_machines/counters", self.machines.address());
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn set_faults(&self, faults: &Faults) {
        let url = format!("http://{}/_machines/faults", self.machines.address());
        self.http.put(url).json(faults).send().await.unwrap().error_for_status().unwrap();
    }
}

impl Program {
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let reply = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (reply.status(), reply.text().await.unwrap())
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, String) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = request.send().await.unwrap();
        (reply.status(), reply.text().await.unwrap())
    }

    pub(crate) async fn send(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> StatusCode {
        let mut request = self.http.post(format!("{}{path}", self.url)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status()
    }

    pub(crate) async fn status(&self) -> Snapshot {
        let (status, body) = self.get("/api/status").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) async fn readiness(&self) -> Readiness {
        serde_json::from_str(&self.get("/readyz").await.1).unwrap()
    }

    pub(crate) async fn explain(&self, job: Uuid) -> Option<Explained> {
        let (status, body) = self.get(&format!("/api/jobs/{job}")).await;
        status.is_success().then(|| serde_json::from_str(&body).unwrap())
    }

    /// Asks again and again until the snapshot shows it.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&Snapshot) -> Option<T>,
    ) -> T {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let snapshot = self.status().await;
            if let Some(found) = look(&snapshot) {
                return found;
            }
            assert!(tokio::time::Instant::now() < until, "{what}: not in time: {snapshot:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until nothing is in its hands any more.
    pub(crate) async fn at_rest(&self) {
        self.until("nothing is left to do", |snapshot| snapshot.jobs.is_empty().then_some(()))
            .await;
    }

    pub(crate) async fn history(&self) -> BTreeMap<Uuid, Closed> {
        let (_, body) = self.get("/api/history").await;
        let closed: Vec<Closed> = serde_json::from_str(&body).unwrap();
        closed.into_iter().map(|closed| (closed.job.0, closed)).collect()
    }

    /// As a kill does: nothing is written down or waited for.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.result().await.unwrap();
    }

    /// What the program ended with, by itself.
    pub(crate) async fn result(self) -> Result<(), Error> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap()
    }
}

/// Every file below a folder, as one text.
pub(crate) fn everything_in(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(everything_in(&path));
        } else {
            all.extend(std::fs::read(&path).unwrap_or_default());
        }
    }
    all
}
