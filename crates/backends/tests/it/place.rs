//! A directory for the `process` backend and a play agent in it, whose end the tests decide.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backends::conformance::Subject;
use backends::process::{Options, Process};
use backends::{Backend, Future};
use guest::report::Isolate;
use jiff::Timestamp;

/// What a play agent does after it has said that it registered.
pub(crate) const STAYS: &str = r#"read -r code < "$PLAY/$BUILDKITE_AGENT_NAME"; exit "$code""#;

/// Everything that one test needs; removed at its end.
pub(crate) struct Place {
    root: tempfile::TempDir,
    pub(crate) options: Options,
}

#[expect(clippy::disallowed_methods, reason = "the tests' clock is the wall's")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

impl Place {
    pub(crate) fn new(then: &str) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let play = root.path().join("play");
        fs::create_dir(&play).expect("a directory");
        // For agents that run as another user.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::set_permissions(&play, fs::Permissions::from_mode(0o777)).expect("permissions");
        let agent = root.path().join("buildkite-agent");
        write_agent(&agent, "buildkite-agent version 3.137.0+play", then);
        let env = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("HOME", root.path().display().to_string()),
            ("PLAY", play.display().to_string()),
        ];
        let options = Options {
            guest_exe: env!("CARGO_BIN_EXE_machine-guest").into(),
            guest_args: Vec::new(),
            agent,
            agent_config: None,
            directory: root.path().join("builds"),
            user: None,
            isolate: Isolate::Auto,
            mark: backends::conformance::MARK.to_owned(),
            env: env.map(|(name, value)| (name.to_owned(), value)).into(),
            grace: Duration::from_secs(1),
            now,
        };
        Self { root, options }
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn play(&self, name: &str) -> PathBuf {
        self.root.path().join("play").join(name)
    }

    pub(crate) fn machine(&self, name: &str) -> PathBuf {
        self.options.directory.join("machines").join(name)
    }

    pub(crate) fn played(&self, name: &str) -> String {
        fs::read_to_string(self.play(name)).unwrap_or_default()
    }

    pub(crate) fn process(&self) -> Process {
        Process::new(self.options.clone()).expect("a backend")
    }
}

/// A program that speaks as an agent does and then does `then`.
pub(crate) fn write_agent(path: &Path, version: &str, then: &str) {
    let text = format!(
        "#!/bin/bash\nif [ \"$1\" = --version ]; then echo '{version}'; exit; fi\n\
         mkfifo \"$PLAY/$BUILDKITE_AGENT_NAME\"\n\
         echo \"Successfully registered agent \\\"$BUILDKITE_AGENT_NAME\\\" with tags []\"\n{then}\n"
    );
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).expect("the agent is written");
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).expect("it is a program");
    fs::rename(&fresh, path).expect("it has its name");
}

/// Says that something is not tested, past the harness, which keeps what passing tests print.
pub(crate) fn not_tested(what: &str) {
    let line = format!("NOT TESTED: {what}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr can be written");
}

/// Everything alive that was started by a machine below this directory.
pub(crate) fn alive_below(dir: &Path) -> BTreeMap<i32, String> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let dir = dir.display().to_string();
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        let read = |file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let (environ, line) = (read("environ"), read("cmdline"));
        let is_of = state != 'Z' && (environ.contains(&dir) || line.contains(&dir));
        is_of.then_some((pid, line))
    })
    .collect()
}

impl Subject for Place {
    fn backend(&self, mark: &str) -> Arc<dyn Backend> {
        let options = Options { mark: mark.to_owned(), ..self.options.clone() };
        Arc::new(Process::new(options).expect("a backend"))
    }

    fn end<'a>(&'a self, name: &'a str) -> Future<'a, ()> {
        Box::pin(async move {
            let fifo = self.play(name);
            let told = tokio::task::spawn_blocking(move || {
                let until = Instant::now() + Duration::from_secs(20);
                while !fifo.exists() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let mut fifo = fs::OpenOptions::new().write(true).open(fifo)?;
                fifo.write_all(b"0\n")
            });
            told.await.expect("the step runs").expect("the agent listens");
        })
    }
}
