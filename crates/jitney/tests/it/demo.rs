//! The whole demo, with real agents and with the minimal one: what `make demo` shows.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::cli_support::{Ran, command, jitney_with};
use crate::shell_process::agents;

/// Nothing of a demo is where it puts its folders.
fn expect_nothing_left(folder: &Path) {
    let left: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

async fn demo(environment: &[(&str, &str)]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().display().to_string();
    let mut all = vec![("TMPDIR", temporary.as_str())];
    all.extend(environment);
    let ran = jitney_with(&["demo"], &all, folder.path()).await.expect(0);
    expect_nothing_left(folder.path());
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn with_real_agents_all_goes_as_it_should() {
    for agent in agents() {
        let ran = demo(&[("JITNEY_AGENT", &agent.display().to_string())]).await;
        let parts = [
            "28 jobs, 27 machines made",
            "All went as it should",
            "no process and no directory is left",
            "refused: no machine fits",
            "failed (exit 1), retried",
            "uploaded 4/4",
            "CONNECTED",
        ];
        for part in parts {
            assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_minimal_agent_it_says_what_it_leaves_out() {
    let ran = demo(&[("JITNEY_AGENT", ""), ("PATH", "/usr/bin:/bin")]).await;
    for part in ["are left out: package", "18 jobs, 17 machines made", "All went as it should"] {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().display().to_string();
    let environment = [("TMPDIR", temporary.as_str()), ("JITNEY_AGENT", "/nowhere/agent")];
    let ran = jitney_with(&["demo"], &environment, folder.path()).await.expect(2);
    assert!(ran.err.contains("/nowhere/agent"), "{}", ran.err);
    expect_nothing_left(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_leaves_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().display().to_string();
    let environment =
        [("TMPDIR", temporary.as_str()), ("JITNEY_AGENT", ""), ("PATH", "/usr/bin:/bin")];
    let mut child = command(&["demo"], &environment, folder.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        text.push_str(&line);
        if line.ends_with("runs") {
            let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
            kill_process(pid, Signal::INT).unwrap();
            break;
        }
    }
    while let Some(line) = lines.next_line().await.unwrap() {
        text.push_str(&line);
    }
    let ended = tokio::time::timeout(Duration::from_secs(60), child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(1), "{text}");
    assert!(text.contains("it was interrupted"), "{text}");
    assert!(!text.contains("is left"), "{text}");
    expect_nothing_left(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_takes_a_job_is_a_deviation_and_leaves_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let agent = folder.path().join("buildkite-agent");
    let text = "#!/bin/sh\n[ \"$1\" = --version ] && echo buildkite-agent version 3.137.0 && exit\n\
                echo no agent today >&2\nexit 1\n";
    std::fs::write(&agent, text).unwrap();
    std::fs::set_permissions(&agent, PermissionsExt::from_mode(0o755)).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let (agent, place) = (agent.display().to_string(), temporary.path().display().to_string());
    let environment = [("TMPDIR", place.as_str()), ("JITNEY_AGENT", agent.as_str())];
    let ran = jitney_with(&["demo"], &environment, folder.path()).await.expect(1);
    for part in ["Not as it should be", "compile 1/8", "no agent today"] {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
    assert!(!ran.out.contains("is left"), "{}", ran.out);
    expect_nothing_left(temporary.path());
}
