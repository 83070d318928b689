//! Running the built program as a user would: arguments and environment in, exit code and both
//! outputs out. It inherits nothing but what is said here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jitney::config::process_environment;
use tokio::process::Command;
use tokio::time::timeout;

use crate::shell_support::{Program, World};

/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// How one call ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out:\n{}\nerr:\n{}", self.out, self.err);
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

pub(crate) fn command(args: &[&str], environment: &[(&str, &str)], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jitney"));
    command.args(args).env_clear().current_dir(folder).kill_on_drop(true);
    command.env("HOME", folder);
    if let Some(path) = process_environment("PATH") {
        command.env("PATH", path);
    }
    for (name, value) in environment {
        command.env(name, value);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) async fn jitney_with(args: &[&str], environment: &[(&str, &str)], folder: &Path) -> Ran {
    let output = timeout(PATIENCE, command(args, environment, folder).output())
        .await
        .unwrap_or_else(|_| panic!("jitney {args:?} did not end"))
        .unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) async fn jitney(args: &[&str], folder: &Path) -> Ran {
    jitney_with(args, &[], folder).await
}

/// A configuration file by which the command line finds this run of the program.
pub(crate) fn configuration_of(world: &World, program: &Program) -> String {
    let address = program.url.strip_prefix("http://").unwrap();
    let path = world.folder.path().join("jitney.yaml");
    std::fs::write(
        &path,
        world.yaml().replace("listen: 127.0.0.1:0", &format!("listen: {address}")),
    )
    .unwrap();
    path.display().to_string()
}
