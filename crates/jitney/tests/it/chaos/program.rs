//! `jitney run` and `jitney sandbox machines` as processes: started, listened to, signalled, killed.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jitney::api::{Readiness, Snapshot};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here takes on a machine that many share; reached only by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long a stop may take, by promise.
pub(crate) const STOP: Duration = Duration::from_secs(5);

/// What a process has said, line by line, while it says it.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    lines: Arc<Mutex<Vec<String>>>,
    count: watch::Receiver<usize>,
}

impl Heard {
    fn listen(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (told, count) = watch::channel(0);
        let heard = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream).lines();
            while let Ok(Some(line)) = stream.next_line().await {
                heard.lock().unwrap().push(line);
                told.send_modify(|count| *count += 1);
            }
        });
        Self { lines, count }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits for a line that the look makes something of; nothing where the process ended first.
    async fn find<T>(&self, look: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut count = self.count.clone();
        let mut seen = 0;
        loop {
            let open = count.has_changed().is_ok();
            count.mark_unchanged();
            let (found, all) = {
                let lines = self.lines.lock().unwrap();
                (lines[seen..].iter().find_map(|line| look(line)), lines.len())
            };
            if found.is_some() || !open {
                return found;
            }
            seen = all;
            // An error says that the process has closed the stream: one more look, then the end.
            let _ = count.changed().await;
        }
    }

    pub(crate) async fn until<T>(&self, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
        match timeout(PATIENCE, self.find(look)).await {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => panic!("{what}: never said, but:\n{}", self.text()),
        }
    }

    /// Waits until a line says this.
    pub(crate) async fn says(&self, words: &str) {
        self.until(words, |line| line.contains(words).then_some(())).await;
    }
}

/// A process of our own program. It dies with its owner.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) out: Heard,
    pub(crate) err: Heard,
}

impl Process {
    pub(crate) fn start(args: &[&str], home: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jitney"));
        command
            .args(args)
            .env_clear()
            .env("HOME", home)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let out = Heard::listen(child.stdout.take().unwrap());
        let err = Heard::listen(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("nobody has waited for it yet")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self, patience: Duration) -> ExitStatus {
        match timeout(patience, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("not gone after {patience:?}:\n{}", self.err.text()),
        }
    }

    /// As `kill -9` does.
    pub(crate) async fn kill(mut self) -> Heard {
        self.child.kill().await.unwrap();
        self.err.clone()
    }
}

/// `jitney run`, with its address.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) process: Process,
    pub(crate) url: String,
    http: reqwest::Client,
}

impl Program {
    /// Resolves when it listens.
    pub(crate) async fn start(config: &Path, home: &Path) -> Self {
        let process = run(config, home);
        let address = |line: &str| {
            let said: Value = serde_json::from_str(line).ok()?;
            (said["message"] == "started").then(|| said["listen"].as_str().map(str::to_owned))?
        };
        let address = process.err.until("it starts", address).await;
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { process, url: format!("http://{address}"), http }
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let reply = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (reply.status(), reply.text().await.unwrap())
    }

    /// With the API's own token.
    pub(crate) async fn get_with(&self, path: &str, token: &str) -> (StatusCode, String) {
        let call = self.http.get(format!("{}{path}", self.url)).bearer_auth(token);
        let reply = call.send().await.unwrap();
        (reply.status(), reply.text().await.unwrap())
    }

    pub(crate) async fn status(&self) -> Snapshot {
        serde_json::from_str(&self.get("/api/status").await.1).unwrap()
    }

    pub(crate) async fn readiness(&self) -> (StatusCode, Readiness) {
        let (status, body) = self.get("/readyz").await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Asks again and again until the snapshot shows it.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&Snapshot) -> Option<T>,
    ) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.status().await;
            if let Some(found) = look(&snapshot) {
                return found;
            }
            let said = || self.process.err.text();
            assert!(Instant::now() < until, "{what}: not in time: {snapshot:#?}\n{}", said());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until nothing is in its hands any more.
    pub(crate) async fn at_rest(&self) {
        self.until("nothing is left to do", |seen| seen.jobs.is_empty().then_some(())).await;
    }

    pub(crate) async fn ready(&self) {
        self.until("it is ready", |seen| seen.missing.is_empty().then_some(())).await;
    }

    /// Stops it as a service manager does: within 5 s, and well.
    pub(crate) async fn stop(mut self) -> Heard {
        self.process.signal(Signal::TERM);
        let status = self.process.ended(STOP).await;
        assert!(status.success(), "{status}:\n{}", self.process.err.text());
        self.process.err.clone()
    }
}

/// `jitney run` that may not come up.
pub(crate) fn run(config: &Path, home: &Path) -> Process {
    Process::start(&["--config", &config.display().to_string(), "run"], home)
}
