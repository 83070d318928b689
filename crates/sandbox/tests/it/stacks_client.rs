//! Buildkite's own Go client against the sandbox: what it decodes is the judge.

use std::process::Stdio;

use sandbox::engine::{NewStep, State};
use serde_json::Value;

use crate::parts::Part;
use crate::support::{TOKEN, build, start};

#[tokio::test]
async fn buildkites_own_client_goes_all_the_way() {
    let Some(program) = Part::StacksClient.find() else { return };
    let sandbox = start().await;
    // More pages than the scope allows lists in a second, so that it is told to slow down.
    let (_, jobs) = build(&sandbox, vec![NewStep::command("true"); 14]);
    let output = tokio::process::Command::new(program)
        .env_clear()
        .arg("--endpoint")
        .arg(sandbox.endpoint())
        .args(["--token", TOKEN, "--queue", "_default", "--page-size", "1"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(output.status.success(), "{lines:#?}");
    let calls: Vec<&str> = lines.iter().map(|line| line["call"].as_str().unwrap()).collect();
    let lists = calls.iter().filter(|call| **call == "ListScheduledJobs").count();
    assert_eq!(lists, jobs.len(), "one page for each job");
    for call in [
        "RegisterStack",
        "BatchReserveJobs",
        "GetJob",
        "GetJobStates",
        "CreateStackNotifications",
        "FinishJob",
        "DeregisterStack",
    ] {
        assert!(calls.contains(&call), "{call} is missing in {calls:?}");
    }
    let refused = sandbox.requests().iter().filter(|r| r.status == Some(429)).count();
    assert!(refused > 0, "the limit was never reached");
    let first = sandbox.engine(|engine, _| engine.job(jobs[0]).cloned()).unwrap();
    assert_eq!(first.state, State::Finished);
    assert_eq!(first.outcome.signal_reason.as_deref(), Some("stack_error"));
}
