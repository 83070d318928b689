//! What the tests share: a sandbox, calls to it, and real agents in empty surroundings.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use sandbox::engine::{
    AgentFinish, BuildState, Checkout, Command, Credential, Engine, Job, NewAgent, NewBuild,
    NewStep, Outcome, StepKind,
};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command as Process};
use uuid::Uuid;

use crate::parts::Part;

pub(crate) const TOKEN: &str = "bkct_test";
/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn start() -> Sandbox {
    start_with(|_| ()).await
}

pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Sandbox {
    buildkite::install_crypto_provider();
    let mut options = Options::with_token(TOKEN);
    change(&mut options);
    Sandbox::start(options).await.expect("a free port of loopback")
}

/// A command step with a retry rule or whatever else the test is about.
pub(crate) fn step(command: &str, change: impl FnOnce(&mut Command)) -> NewStep {
    let mut new = Command { command: command.to_owned(), ..Command::default() };
    change(&mut new);
    NewStep { kind: StepKind::Command(Box::new(new)), ..NewStep::wait() }
}

/// A build of these steps, and its jobs.
pub(crate) fn build(sandbox: &Sandbox, steps: Vec<NewStep>) -> (Uuid, Vec<Uuid>) {
    sandbox.engine(|engine, now| {
        let new = NewBuild { pipeline: "web".to_owned(), steps, ..NewBuild::default() };
        let build = engine.create_build(new, now).unwrap();
        (build, engine.build(build).unwrap().jobs().collect())
    })
}

/// A build with one job.
pub(crate) fn job(sandbox: &Sandbox, command: &str) -> Uuid {
    build(sandbox, vec![NewStep::command(command)]).1[0]
}

/// A build of this pipeline with these variables, and its jobs.
pub(crate) fn build_yaml(sandbox: &Sandbox, env: &[(&str, &str)], yaml: &str) -> (Uuid, Vec<Uuid>) {
    let steps = sandbox::pipeline::from_yaml(yaml).unwrap_or_else(|error| panic!("{error}"));
    let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    sandbox.engine(|engine, now| {
        let new = NewBuild { pipeline: "web".to_owned(), env, steps, ..NewBuild::default() };
        let build = engine.create_build(new, now).unwrap();
        (build, engine.build(build).unwrap().jobs().collect())
    })
}

/// Plays an agent that runs the job to this exit status.
pub(crate) fn run(sandbox: &Sandbox, job: Uuid, exit_status: i32) {
    sandbox.engine(|engine, now| {
        let of = Credential::Cluster { cluster: 0 };
        let agent = engine.register_agent(&of, NewAgent::default(), now).unwrap().id;
        engine.connect(agent, now).unwrap();
        engine.acquire(job, agent, now).unwrap();
        engine.start(job, agent, now).unwrap();
        let outcome = Outcome { exit_status: Some(exit_status), ..Outcome::default() };
        engine.finish(job, AgentFinish { outcome, chunks_failed_count: 0 }, now).unwrap();
        engine.disconnect(agent, now).unwrap();
    });
}

pub(crate) fn states(sandbox: &Sandbox, build: Uuid) -> (BuildState, Vec<&'static str>) {
    sandbox.engine(|engine, _| {
        let of = engine.build(build).unwrap();
        (of.state, of.jobs().map(|job| engine.job(job).unwrap().state.name()).collect())
    })
}

/// Waits for the engine to answer something, and says what it waited for if it does not.
pub(crate) async fn until<T>(
    sandbox: &Sandbox,
    what: &str,
    look: impl FnMut(&Engine) -> Option<T>,
) -> T {
    match tokio::time::timeout(PATIENCE, sandbox.until(look)).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Waits for a job to end.
pub(crate) async fn ended(sandbox: &Sandbox, id: Uuid) -> Job {
    until(sandbox, "the job ends", |engine| {
        engine.job(id).filter(|job| job.state.is_terminal()).cloned()
    })
    .await
}

/// A client with one token.
#[derive(Clone)]
pub(crate) struct Caller {
    http: reqwest::Client,
    base: String,
    scheme: &'static str,
    token: String,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Caller {
    pub(crate) fn new(sandbox: &Sandbox, token: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, base: sandbox.url().to_owned(), scheme: "Token", token: token.to_owned() }
    }

    /// A client of the REST API.
    pub(crate) fn rest(sandbox: &Sandbox, token: &str) -> Self {
        Self { scheme: "Bearer", ..Self::new(sandbox, token) }
    }

    /// The same connections with another token.
    pub(crate) fn with(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header("authorization", format!("{} {}", self.scheme, self.token));
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        Ok(Answer { status, headers, body })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, Value::Null).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, body).await.unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, body).await.unwrap()
    }

    /// Sends bytes that say they are gzip, and gives the status.
    pub(crate) async fn post_bytes(&self, path: &str, body: Vec<u8>) -> u16 {
        self.send(path, &[("content-encoding", "gzip")], body).await
    }

    /// Sends a form whose boundary is `x`, without a token, and gives the status.
    pub(crate) async fn post_form(&self, path: &str, body: String) -> u16 {
        let kind = ("content-type", "multipart/form-data; boundary=x");
        self.with("").send(path, &[kind], body.into_bytes()).await
    }

    /// Sends JSON with headers of its own, and gives the status.
    pub(crate) async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: Value) -> u16 {
        self.send(path, headers, body.to_string().into_bytes()).await
    }

    async fn send(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> u16 {
        let mut request = self
            .http
            .post(format!("{}{path}", self.base))
            .header("authorization", format!("Token {}", self.token))
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status().as_u16()
    }

    /// Registers a stack for the default queue.
    pub(crate) async fn stack(&self, key: &str) {
        let new = json!({"key": key, "type": "custom", "queue_key": "_default", "metadata": {}});
        let answer = self.post("/v3/stacks/register", new).await;
        assert!(answer.status.is_success(), "{}", answer.body);
    }

    /// Reserves one job for a minute and takes a token for it.
    pub(crate) async fn token_for(&self, stack: &str, job: Uuid) -> String {
        let reserve = json!({"job_uuids": [job], "reservation_expiry_seconds": 60});
        let path = format!("/v3/stacks/{stack}/scheduled-jobs/batch-reserve");
        let answer = self.put(&path, reserve).await;
        assert_eq!(answer.body["reserved"], json!([job]));
        let path = format!("/v3/stacks/{stack}/job-acquisition-tokens");
        let answer = self.post(&path, json!({"job_uuids": [job]})).await;
        let token = &answer.body["job_acquisition_tokens"][0]["job_acquisition_token"];
        token.as_str().expect("a token was issued").to_owned()
    }
}

/// A real agent with a folder of its own, which goes when this is dropped; so does the agent.
pub(crate) struct Agent {
    pub(crate) process: Child,
    folder: TempDir,
}

impl Agent {
    /// Starts an agent for one job.
    pub(crate) fn start(sandbox: &Sandbox, program: &Path, token: &str, job: Uuid) -> Self {
        Self::start_with(sandbox, program, token, &["--acquire-job", &job.to_string()])
    }

    pub(crate) fn start_with(
        sandbox: &Sandbox,
        program: &Path,
        token: &str,
        more: &[&str],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["builds", "hooks", "plugins", "tmp"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let log = std::fs::File::create(folder.path().join("agent.log")).unwrap();
        let tools = program.parent().unwrap().display();
        let process = Process::new(program)
            .args(["start", "--no-color"])
            .arg("--endpoint")
            .arg(sandbox.endpoint())
            .args(more)
            .arg("--build-path")
            .arg(folder.path().join("builds"))
            .arg("--hooks-path")
            .arg(folder.path().join("hooks"))
            .arg("--plugins-path")
            .arg(folder.path().join("plugins"))
            .env_clear()
            .env("PATH", format!("{tools}:/usr/local/bin:/usr/bin:/bin"))
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path().join("tmp"))
            .env("BUILDKITE_AGENT_TOKEN", token)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    /// Waits for the agent's end, and gives its exit code.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        match ended {
            Ok(status) => status.unwrap().code().expect("the agent was not killed"),
            Err(_) => panic!("the agent does not leave; its log:\n{}", self.log()),
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default()
    }
}

/// A sandbox that fits the agent: old ones check something out.
pub(crate) async fn start_for(part: Part) -> (Sandbox, Option<sandbox::Repository>) {
    let repository = match part {
        Part::OldAgent => Some(sandbox::Repository::create().unwrap()),
        Part::NewAgent | Part::StacksClient | Part::GoogleClient => None,
    };
    let url = repository.as_ref().map(sandbox::Repository::url);
    let sandbox = start_with(|options| {
        if let Some(url) = url {
            options.settings.checkout = Checkout::Repository(url);
        }
    })
    .await;
    (sandbox, repository)
}
