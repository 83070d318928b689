//! A day that is made up, played into a sandbox and dispatched by the program, each in a process
//! of its own; and days that are none.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::program::{Process, Program};
use crate::cli_support::jitney;

fn served_at(line: &str) -> Option<String> {
    Some(line.split_once("erve")?.1.split_once("at ")?.1.trim().to_owned())
}

/// The sandbox on a free port, and where it serves.
async fn sandbox(args: &[&str], folder: &TempDir) -> (Process, String) {
    buildkite::install_crypto_provider();
    let args = [&["sandbox", "--listen", "127.0.0.1:0"], args].concat();
    let process = Process::start(&args, folder.path());
    let url = process.out.until("the sandbox serves", served_at).await;
    (process, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_a_hundred_jobs_is_dispatched_and_summed_up() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["sandbox", "generate-queue", "--jobs", "100", "--hours", "1", "--seed", "3"];
    let made = jitney(&args, folder.path()).await.expect(0);
    assert_eq!(made.out.lines().count(), 100);
    let day = folder.path().join("day.jsonl");
    fs::write(&day, made.out).unwrap();
    let day = day.display().to_string();
    let (mut sandbox, url) = sandbox(&["--replay-queue", &day, "--speed", "1000"], &folder).await;
    let machines = ["sandbox", "machines", "--listen", "127.0.0.1:0"];
    let machines = Process::start(&machines, folder.path());
    let machines_url = machines.out.until("machines are served", served_at).await;
    let file = folder.path().join("jitney.yaml");
    let journal = folder.path().join("jitney.db");
    let yaml = format!(
        "listen: 127.0.0.1:0\nlog: {{ format: json }}\n\
         buildkite: {{ endpoint: {url}/v3, token: bkct_sandbox }}\n\
         store: {{ journal: {} }}\nqueues: {{ default: {{ backends: [there] }} }}\n\
         backends: {{ there: {{ http: {{ url: \"{machines_url}\" }} }} }}\n",
        journal.display()
    );
    fs::write(&file, yaml).unwrap();
    let program = Program::start(&file, folder.path()).await;
    sandbox.out.says("The sandbox serves on").await;
    let told = sandbox.out.text();
    for words in ["a day     100 jobs, the last after", "jobs      100 of 100", "waits     p50"] {
        assert!(told.contains(words), "{words} is not in\n{told}");
    }
    assert!(!told.contains("otherwise") && !told.contains("had not ended"), "{told}");
    program.stop().await;
    sandbox.signal(Signal::TERM);
    assert_eq!(sandbox.ended(Duration::from_secs(10)).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_stopped_early_is_summed_up_and_not_good() {
    let folder = tempfile::tempdir().unwrap();
    let day = folder.path().join("day.jsonl");
    fs::write(&day, "{\"at\": 0, \"queue\": \"jit\"}").unwrap();
    let day = day.display().to_string();
    let (mut sandbox, _) = sandbox(&["--replay-queue", &day], &folder).await;
    sandbox.out.says("Ctrl-C ends it").await;
    assert!(sandbox.out.text().contains("queues    default, jit"), "{}", sandbox.out.text());
    sandbox.signal(Signal::TERM);
    sandbox.out.says("jobs      0 of 1").await;
    assert_eq!(sandbox.ended(Duration::from_secs(10)).await.code(), Some(4));
}

#[tokio::test]
async fn what_is_no_day_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let day = folder.path().join("day.jsonl");
    fs::write(&day, "{\"at\": 0}\n{\"at\": \"soon\"}").unwrap();
    let day = day.display().to_string();
    for (args, words) in [
        (&["--replay-queue", &day][..], "day.jsonl: line 2: at is \"soon\": it must be seconds"),
        (&["--replay-queue", "nowhere.jsonl"], "failed to read nowhere.jsonl"),
        (&["--replay-queue", &day, "--speed", "0"], "it must be a number from 0.01 to 10000"),
        (&["--speed", "2"], "--replay-queue"),
        (&["--api-token", ""], "an API token cannot be issued: it is empty"),
        (&["generate-queue", "--jobs", "0"], "0 is not in 1..=1000000"),
        (&["generate-queue", "--queue", ""], "--queue"),
    ] {
        let ran = jitney(&[&["sandbox"], args].concat(), folder.path()).await.expect(2);
        assert!(ran.err.contains(words), "{words} is not in {}", ran.err);
    }
}
