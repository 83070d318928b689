//! The minimal agent runs real commands for a job behind the agent API.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use sandbox::player::minimal::{self, Stop};

use crate::agent_api::AgentApi;
use crate::support;

#[expect(clippy::disallowed_methods, reason = "the agent takes its clock as an argument")]
fn now() -> Timestamp {
    Timestamp::now()
}

struct Rig {
    api: AgentApi,
    folder: tempfile::TempDir,
    stop: Stop,
}

impl Rig {
    async fn running(command: &str) -> Self {
        let api = AgentApi::with_env(&[("BUILDKITE_COMMAND", command), ("FROM_JOB", "yes")]).await;
        Self { api, folder: tempfile::tempdir().unwrap(), stop: Stop::default() }
    }

    fn env(&self) -> BTreeMap<String, String> {
        let path = self.folder.path().display().to_string();
        [
            ("BUILDKITE_AGENT_TOKEN", "bkjat_hidden"),
            ("BUILDKITE_AGENT_ENDPOINT", &self.api.endpoint),
            ("BUILDKITE_AGENT_ACQUIRE_JOB", "0199c0de-1111-7000-8000-000000000001"),
            ("BUILDKITE_BUILD_PATH", &path),
            ("BUILDKITE_AGENT_NAME", "agent-1"),
            ("PATH", "/usr/bin:/bin"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
    }

    async fn run(&self) -> ExitCode {
        minimal::run_until(vec!["start".to_owned()], self.env(), now, &self.stop).await
    }

    /// Waits until the job has written this.
    async fn wrote(&self, text: &str) {
        self.api.until(|seen| seen.log.contains(text)).await;
    }
}

fn is(code: ExitCode, expected: u8) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::from(expected))
}

#[tokio::test]
async fn a_command_runs_in_a_fresh_folder_with_the_jobs_environment() {
    let command =
        "pwd; echo job=$FROM_JOB token=$BUILDKITE_AGENT_TOKEN; ls; echo err >&2; touch x; exit 3";
    let rig = Rig::running(command).await;
    let checkout = rig.folder.path().join("agent-1/org/pipe");
    std::fs::create_dir_all(&checkout).unwrap();
    std::fs::write(checkout.join("old"), "").unwrap();
    assert!(is(rig.run().await, 0));
    assert_eq!(rig.api.end().await, "3");
    let log = rig.api.log();
    let lines: Vec<&str> = log.lines().collect();
    let folder = std::fs::canonicalize(&checkout).unwrap();
    assert_eq!(Path::new(lines[0]), folder);
    assert_eq!(lines[1..], ["job=yes token=", "err"]);
    assert_eq!(rig.api.calls().split(' ').next_back(), Some("disconnect"));
}

#[tokio::test]
async fn long_output_arrives_whole_and_in_order() {
    let rig = Rig::running("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done").await;
    rig.run().await;
    let expected: String = (0..3000).map(|i| format!("line {i}\n")).collect();
    assert_eq!(rig.api.log(), expected);
}

#[tokio::test]
async fn a_cancel_stops_the_whole_group() {
    let rig = Rig::running("echo up; sleep 3600 & wait").await;
    let run = rig.run();
    let cancel = async {
        rig.wrote("up").await;
        rig.api.set_state("canceling");
    };
    tokio::join!(run, cancel);
    assert_eq!(rig.api.end().await, "-1 SIGTERM cancel");
}

#[tokio::test]
async fn the_first_signal_lets_the_job_end_and_the_second_stops_it() {
    let rig = Rig::running("echo up; while [ ! -e go ]; do sleep 0.05; done; exit 4").await;
    let signal = async {
        rig.wrote("up").await;
        rig.stop.soon.cancel();
        std::fs::write(rig.folder.path().join("agent-1/org/pipe/go"), "").unwrap();
    };
    tokio::join!(rig.run(), signal);
    assert_eq!(rig.api.end().await, "4");

    let rig = Rig::running("echo up; sleep 3600").await;
    let signal = async {
        rig.wrote("up").await;
        rig.stop.now.cancel();
    };
    tokio::join!(rig.run(), signal);
    assert_eq!(rig.api.end().await, "-1 SIGTERM agent_stop");
}

#[tokio::test]
async fn a_command_that_ignores_the_signal_is_killed() {
    let rig = Rig::running("trap '' TERM; echo up; while :; do sleep 0.2; done").await;
    let signal = async {
        rig.wrote("up").await;
        rig.stop.now.cancel();
    };
    tokio::join!(rig.run(), signal);
    assert_eq!(rig.api.end().await, "-1 SIGKILL agent_stop");
}

#[tokio::test]
async fn signals_are_heard() {
    let stop = Stop::default();
    let listening = stop.listen().unwrap();
    let me = rustix::process::getpid();
    let term = || rustix::process::kill_process(me, rustix::process::Signal::TERM).unwrap();
    let heard = async {
        term();
        stop.soon.cancelled().await;
        assert!(!stop.now.is_cancelled());
        term();
        stop.now.cancelled().await;
    };
    tokio::select! {
        () = heard => {}
        never = listening => match never {},
    }
}

#[tokio::test]
async fn it_works_for_nothing_but_a_sandbox() {
    let rig = Rig::running("true").await;
    rig.api.be_no_sandbox();
    assert!(is(rig.run().await, 1));
    assert_eq!(rig.api.calls(), "");
}

#[tokio::test]
async fn a_job_that_is_taken_gives_the_real_agents_code() {
    let rig = Rig::running("true").await;
    rig.api.fail("acquire", 422, 1);
    assert!(is(rig.run().await, 27));
    rig.api.fail("acquire", 403, 1);
    assert!(is(rig.run().await, 0));
    rig.api.fail("register", 401, 1);
    assert!(is(rig.run().await, 1));
}

#[tokio::test]
async fn what_it_cannot_run_is_told_in_the_log() {
    let api = AgentApi::with_env(&[("BUILDKITE_PLUGINS", "[]")]).await;
    let rig = Rig { api, ..Rig::running("true").await };
    rig.run().await;
    assert_eq!(rig.api.end().await, "-1 process_run_error");
    assert!(rig.api.log().contains("install buildkite-agent"), "{}", rig.api.log());

    let api = AgentApi::with_env(&[("BUILDKITE_ORGANIZATION_SLUG", "../up")]).await;
    let rig = Rig { api, ..Rig::running("true").await };
    rig.run().await;
    assert_eq!(rig.api.end().await, "-1 process_run_error");
    assert!(rig.api.log().contains("`../up` is no name for a folder"), "{}", rig.api.log());
}

#[tokio::test]
async fn what_a_command_leaves_running_does_not_hold_the_agent() {
    let rig = Rig::running("sleep 30 & echo done").await;
    assert!(is(rig.run().await, 0));
    assert_eq!(rig.api.end().await, "0");
    assert!(rig.api.log().starts_with("done\n"));
}

#[tokio::test]
async fn it_keeps_to_the_contract_of_the_server() {
    let sandbox = support::start().await;
    let caller = support::Caller::new(&sandbox, support::TOKEN);
    caller.stack("s").await;
    let job = support::job(&sandbox, "echo hello from $BUILDKITE_AGENT_NAME; exit 3");
    let token = caller.token_for("s", job).await;
    let rig = Rig::running("unused").await;
    let env = rig.env().into_iter().chain([
        ("BUILDKITE_AGENT_TOKEN".to_owned(), token),
        ("BUILDKITE_AGENT_ENDPOINT".to_owned(), sandbox.endpoint()),
        ("BUILDKITE_AGENT_ACQUIRE_JOB".to_owned(), job.to_string()),
    ]);
    let args = vec!["start".to_owned()];
    assert!(is(minimal::run_until(args, env.collect(), now, &rig.stop).await, 0));
    let job = support::ended(&sandbox, job).await;
    assert_eq!(job.outcome.exit_status, Some(3));
    assert_eq!(job.log.text(), "hello from agent-1\n");
}
