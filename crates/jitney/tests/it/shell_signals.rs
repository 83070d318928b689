//! `jitney run` as a process of its own: signals, its log, and what it ends with.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{Instant, timeout};

use crate::shell_support::{PATIENCE, TOKEN, World};

struct Run {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    log: Vec<String>,
}

impl Run {
    fn start(file: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_jitney"))
            .args(["run", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program is built");
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        Self { child, lines, log: Vec::new() }
    }

    /// Reads the log until a line says it.
    async fn until(&mut self, words: &str) -> String {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("no {words:?} in {:#?}", self.log));
            let line = line.expect("it can be read");
            let line = line.unwrap_or_else(|| panic!("no {words:?} in {:#?}", self.log));
            self.log.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), signal).expect("it is ours");
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        while let Ok(Some(line)) = self.lines.next_line().await {
            self.log.push(line);
        }
        self.child.wait().await.expect("it ends")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sigterm_writes_down_and_leaves_machines_running() {
    let world = World::new().await;
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).expect("the folder is ours");
    let mut run = Run::start(&file);
    run.until("ready").await;
    let jobs = world.build("steps: [{ command: x, env: { PLAY_SECONDS: \"4\" } }]");
    let line = run.until("an agent has the job").await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
    assert_eq!(line["job"], jobs[0].to_string());
    assert_eq!((&line["attempt"], &line["queue"]), (&1.into(), &"default".into()));

    let began = Instant::now();
    run.signal(Signal::TERM);
    let status = run.ended().await;
    assert!(status.success(), "{status}: {:#?}", run.log);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(world.counters().await.alive, 1);
    let log = run.log.join("\n");
    for secret in [TOKEN, "bkjat_"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }

    let mut run = Run::start(&file);
    world.ended(&jobs).await;
    run.until("nothing left to do").await;
    assert_eq!(world.counters().await.made, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_the_configuration_again_or_says_why_not() {
    let mut world = World::new().await;
    world.more = "limits: { machines: 0 }".into();
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).expect("the folder is ours");
    let mut run = Run::start(&file);
    run.until("ready").await;
    let jobs = world.jobs(1);
    run.until("limit").await;

    std::fs::write(&file, "limits: { machnies: 5 }").expect("the folder is ours");
    run.signal(Signal::HUP);
    let line = run.until("machnies").await;
    assert!(line.contains("machines?"), "{line}");
    run.until("the old one stays").await;

    let yaml = world.yaml().replace("listen: 127.0.0.1:0", "listen: 127.0.0.1:1");
    std::fs::write(&file, yaml).expect("the folder is ours");
    run.signal(Signal::HUP);
    let line = run.until("only a restart can change").await;
    assert!(line.contains("listen"), "{line}");

    world.more = "limits: { machines: 5 }".into();
    std::fs::write(&file, world.yaml()).expect("the folder is ours");
    run.signal(Signal::HUP);
    run.until("the configuration was read again").await;
    assert!(world.ended(&jobs).await[0].outcome.is_success());
    run.signal(Signal::INT);
    assert!(run.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let world = World::new().await;
    // A call that is under way for long: the first signal waits for it a little.
    world
        .set_faults(&sandbox::machines::Faults { create_delay_ms: 60_000, ..Default::default() })
        .await;
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).expect("the folder is ours");
    let mut run = Run::start(&file);
    run.until("ready").await;
    world.jobs(1);
    run.until("machine asked for").await;
    run.signal(Signal::TERM);
    run.until("taking no more work").await;
    let began = Instant::now();
    run.signal(Signal::TERM);
    let status = run.ended().await;
    assert_eq!(status.code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_work_says_why_and_fails() {
    let mut world = World::new().await;
    world.token = "bkct_wrong".into();
    let file = world.folder.path().join("jitney.yaml");
    std::fs::write(&file, world.yaml()).expect("the folder is ours");
    let mut run = Run::start(&file);
    let status = run.ended().await;
    assert!(!status.success());
    let log = run.log.join("\n");
    assert!(log.contains("buildkite.token") && !log.contains("bkct_wrong"), "{log}");
}

/// Whatever holds a thread (a look-up of a name, a file on a server that is gone) holds no stop up.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_answer_does_not_delay_the_end() {
    let world = World::new().await;
    let token = world.folder.path().join("token");
    std::fs::write(&token, TOKEN).expect("the folder is ours");
    let file = world.folder.path().join("jitney.yaml");
    let yaml = world
        .yaml()
        .replace(&format!("token: {TOKEN}"), &format!("token_file: {}", token.display()));
    std::fs::write(&file, yaml).expect("the folder is ours");
    let mut run = Run::start(&file);
    run.until("ready").await;
    // Who reads from a pipe that is open and not written to waits for ever.
    let pipe = world.folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().await;
    assert!(made.expect("mkfifo is there").success());
    std::fs::rename(&pipe, &token).expect("the folder is ours");
    let mut writer = std::fs::OpenOptions::new();
    writer.write(true).custom_flags(i32::try_from(OFlags::NONBLOCK.bits()).expect("a flag"));
    let _open = loop {
        // It can be opened so when there is a reader.
        match writer.open(&token) {
            Ok(open) => break open,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let began = Instant::now();
    run.signal(Signal::TERM);
    assert!(run.ended().await.success());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
