//! The guest as a program, with play agents: what it does with orders that are wrong, with a
//! machine that is taken, and when it is told to stop. The `process` backend's tests have the rest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use guest::place::{Place, is_locked, try_lock};
use guest::report::{Cause, Isolate, Orders, Phase, Report, TokenBy};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

struct Machine {
    root: tempfile::TempDir,
    orders: Orders,
}

impl Machine {
    /// One whose agent is this script.
    fn new(agent: &str) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let program = root.path().join("buildkite-agent");
        fs::write(&program, format!("#!/bin/bash\n{agent}\n")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
        fs::create_dir(root.path().join("machine")).expect("a directory");
        let env = [("PATH", "/usr/bin:/bin"), ("LANG", "C")];
        let orders = Orders {
            job: Uuid::from_u128(7),
            agent: program,
            agent_name: "play".to_owned(),
            endpoint: "http://127.0.0.1:1/v3".to_owned(),
            tags: vec!["queue=jit".to_owned(), "os=linux".to_owned()],
            agent_config: None,
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            deadline: "2100-01-01T00:00:00Z".parse().expect("a time"),
            lifetime_s: Some(60),
            grace_s: 1,
            token_by: TokenBy::Environment,
            user: None,
            cpu_millis: None,
            memory_bytes: None,
            isolate: Isolate::Never,
        };
        Self { root, orders }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().canonicalize().expect("it is there").join("machine")
    }

    fn place(&self) -> Place {
        Place::new(self.dir())
    }

    fn write(&self) {
        let orders = serde_json::to_vec(&self.orders).expect("JSON");
        fs::write(self.place().orders(), orders).expect("written");
        fs::write(self.place().token(), "bkjat_play\n").expect("written");
    }

    fn spawn(&self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guest"));
        command.arg(self.dir()).stdin(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the guest starts")
    }

    fn report(&self) -> Option<Report> {
        guest::place::read_json(&self.place().report()).expect("a report is always whole")
    }

    /// Runs it to its end.
    fn run(&self) -> Cause {
        self.write();
        let status = self.spawn().wait().expect("the guest is ours");
        self.end(status)
    }

    fn end(&self, status: ExitStatus) -> Cause {
        assert!(status.success(), "{status}");
        let report = self.report().expect("a report");
        assert_eq!(report.phase, Phase::Ended);
        assert!(!self.place().token().exists(), "the token is off the disk");
        assert!(!self.place().tmp().exists());
        assert!(!is_locked(&self.place()).expect("the lock can be asked"));
        report.ended.expect("an end").cause
    }

    fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let give_up = Instant::now() + Duration::from_secs(20);
        while !wanted(self) {
            assert!(Instant::now() < give_up, "not {what}: {:?}", self.report());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn not_started(machine: &Machine) -> String {
    reason(machine.run())
}

fn reason(cause: Cause) -> String {
    let Cause::NotStarted { reason } = cause else { panic!("{cause:?}") };
    reason
}

#[test]
fn an_agent_gets_its_orders_and_its_code_is_reported() {
    let machine = Machine::new(
        r#"echo "$@" "$BUILDKITE_AGENT_ACQUIRE_JOB" "$BUILDKITE_AGENT_TAGS" "$BUILDKITE_AGENT_TOKEN" > "$BUILDKITE_BUILD_PATH/got"
           umask >> "$BUILDKITE_BUILD_PATH/got"; ps -o pid= -o sid= $$ >> "$BUILDKITE_BUILD_PATH/got"; exit 3"#,
    );
    assert_eq!(machine.run(), Cause::Exited { code: 3 });
    let got = fs::read_to_string(machine.dir().join("build/got")).expect("the agent ran");
    let lines: Vec<_> = got.lines().collect();
    assert_eq!(lines[0], format!("start {} queue=jit,os=linux bkjat_play", machine.orders.job));
    assert_eq!(lines[1], "0022");
    let ids: Vec<_> = lines[2].split_whitespace().collect();
    assert_eq!(ids[0], ids[1], "the agent leads a session of its own");
}

#[test]
fn what_is_wrong_with_the_orders_is_an_end_with_words() {
    let mut machine = Machine::new("exit 0");
    machine.orders.agent = "/no/such/agent".into();
    assert_eq!(not_started(&machine), "/no/such/agent: No such file or directory (os error 2)");

    let mut machine = Machine::new("exit 0");
    machine.orders.user = Some("no-such-user".to_owned());
    assert_eq!(not_started(&machine), "there is no user `no-such-user` in /etc/passwd");

    let mut machine = Machine::new("exit 0");
    machine.orders.token_by = TokenBy::Config;
    machine.orders.agent_config = Some("/no/such.cfg".into());
    assert!(not_started(&machine).starts_with("/no/such.cfg: No such file"));
}

/// Runs a machine whose files were spoiled by `spoil`.
fn spoiled(spoil: impl Fn(&Place)) -> String {
    let machine = Machine::new("exit 0");
    machine.write();
    spoil(&machine.place());
    let status = machine.spawn().wait().expect("the guest is ours");
    reason(machine.end(status))
}

#[test]
fn files_that_are_absent_or_broken_are_named() {
    let reason = spoiled(|place| fs::write(place.orders(), "{\"job\":1}").expect("written"));
    assert!(reason.contains("orders.json: invalid"), "{reason}");
    let reason = spoiled(|place| fs::remove_file(place.orders()).expect("removed"));
    assert_eq!(reason, "there is no orders.json");
    let reason = spoiled(|place| fs::remove_file(place.token()).expect("removed"));
    assert!(reason.contains("/token: No such file"), "{reason}");
    let reason = spoiled(|place| fs::write(place.token(), "\n").expect("written"));
    assert_eq!(reason, "the token is 0 bytes long");
}

#[test]
fn limits_that_are_required_and_cannot_be_had_are_a_refusal() {
    let mut machine = Machine::new("exit 0");
    machine.orders.isolate = Isolate::Require;
    // More than the kernel can count is refused by every version of control groups; without any,
    // that there are none is the refusal.
    machine.orders.memory_bytes = Some(u64::MAX);
    machine.orders.cpu_millis = Some(0);
    let reason = not_started(&machine);
    assert!(reason.starts_with("`isolate: require`, but "), "{reason}");
}

#[test]
fn a_second_guest_leaves_the_first_alone() {
    let machine = Machine::new("exit 0");
    machine.write();
    let lock = machine.place().open_lock().expect("a lock");
    assert!(try_lock(&lock).expect("it can be taken"));
    let status = machine.spawn().wait().expect("the guest is ours");
    assert_eq!(status.code(), Some(75));
    assert!(machine.place().token().exists() && machine.report().is_none(), "nothing is touched");
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_guest")).arg("/no/such/dir").output();
    let output = output.expect("the guest starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "jitney guest: /no/such/dir: No such file or directory (os error 2)\n");
}

#[test]
fn the_deadline_ends_an_agent_that_ignores_signals() {
    let mut machine = Machine::new("trap '' TERM QUIT INT; while :; do sleep 0.01; done");
    machine.orders.lifetime_s = Some(1);
    let began = Instant::now();
    assert_eq!(machine.run(), Cause::Deadline);
    // One second of life and one of grace.
    assert!(began.elapsed() > Duration::from_millis(1900), "{:?}", began.elapsed());
}

#[test]
fn an_agent_without_a_session_has_no_job_to_wait_for() {
    let mut machine = Machine::new(
        "trap '' TERM; echo 'Registering agent with Buildkite...'; while :; do sleep 0.01; done",
    );
    machine.orders.lifetime_s = Some(1);
    machine.orders.grace_s = 600;
    assert_eq!(machine.run(), Cause::Deadline);
}

#[test]
fn an_agent_killed_by_others_is_told_from_one_that_we_killed() {
    let machine = Machine::new("kill -KILL $$");
    assert_eq!(machine.run(), Cause::Signaled { signal: 9 });
}

#[test]
fn a_nudge_asks_once_and_a_stop_asks_twice() {
    let machine = Machine::new(
        r#"trap 'echo term >> "$BUILDKITE_BUILD_PATH/terms"' TERM
           echo 'Successfully registered agent "play" with tags []'; while :; do sleep 0.01; done"#,
    );
    machine.write();
    let mut child = machine.spawn();
    let pid = Pid::from_child(&child);
    machine.until("connected", |machine| {
        machine.report().is_some_and(|report| report.connected_at.is_some())
    });
    let terms = |machine: &Machine| {
        fs::read_to_string(machine.dir().join("build/terms")).unwrap_or_default().lines().count()
    };
    for _ in 0..2 {
        kill_process(pid, Signal::USR1).expect("the guest lives");
    }
    machine.until("nudged", |machine| terms(machine) == 1);
    kill_process(pid, Signal::TERM).expect("the guest lives");
    let status = child.wait().expect("the guest is ours");
    assert_eq!(machine.end(status), Cause::Stopped);
    assert!((2..=3).contains(&terms(&machine)), "{}", terms(&machine));
}

#[test]
fn nothing_of_the_guests_own_environment_reaches_the_agent() {
    let machine = Machine::new(r#"env > "$BUILDKITE_BUILD_PATH/env""#);
    machine.write();
    let mut command = Command::new(env!("CARGO_BIN_EXE_guest"));
    command.arg(machine.dir()).env("PLANTED", "a secret of ours").stdin(Stdio::null());
    let status = command.status().expect("the guest runs");
    assert_eq!(machine.end(status), Cause::Exited { code: 0 });
    let env = fs::read_to_string(machine.dir().join("build/env")).expect("the agent ran");
    assert!(env.contains("LANG=C\n") && !env.contains("PLANTED"), "{env}");
}

#[test]
fn every_orphan_is_adopted_reaped_and_killed() {
    let machine = Machine::new(
        r#"for i in 1 2 3 4 5; do (setsid sleep 300 & echo $! >> "$BUILDKITE_BUILD_PATH/pids") & done; wait
           (sleep 0.01 &) ; exit 0"#,
    );
    assert_eq!(machine.run(), Cause::Exited { code: 0 });
    let pids = fs::read_to_string(machine.dir().join("build/pids")).expect("the agent ran");
    assert_eq!(pids.lines().count(), 5);
    for pid in pids.lines() {
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} is alive");
    }
}

#[test]
fn without_a_home_in_the_orders_the_agent_gets_that_of_its_account() {
    // Asked of `env`: a shell fills in what is absent for itself.
    const SAYS_HOME: &str = r#"env | grep ^HOME= > "$BUILDKITE_BUILD_PATH/home" || true"#;
    let mut machine = Machine::new(SAYS_HOME);
    let home = |machine: &Machine| {
        assert_eq!(machine.run(), Cause::Exited { code: 0 });
        fs::read_to_string(machine.dir().join("build/home")).expect("the agent ran")
    };
    let uid = rustix::process::getuid().as_raw().to_string();
    let own = guest::account::account(&uid).expect("the tests run as a user of this host");
    assert_eq!(home(&machine), format!("HOME={}\n", own.home));

    machine = Machine::new(SAYS_HOME);
    machine.orders.env.insert("HOME".to_owned(), "/of/the/orders".to_owned());
    assert_eq!(home(&machine), "HOME=/of/the/orders\n");
}
