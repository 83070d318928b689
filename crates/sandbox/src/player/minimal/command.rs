//! The job's command as a process group: started in a fresh folder, read to its end, stopped with
//! SIGTERM and, if it does not listen, SIGKILL.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::settings::Settings;
use crate::player::play::{End, Why};
use crate::player::wire::Job;

/// From SIGTERM to SIGKILL, as the real agent.
const GRACE: Duration = Duration::from_secs(9);
/// How long the output is read on after the command's end, for what it left running.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// What the real agent reports of a shell that died by a signal.
const DIED_BY_SIGNAL: i32 = 255;

pub(super) struct Running {
    child: Child,
    group: Pid,
    output: Receiver,
}

pub(super) async fn start(settings: &Settings, job: &Job) -> Result<Running, String> {
    let text = |name: &str| job.env.get(name).map_or("", String::as_str);
    let command = text("BUILDKITE_COMMAND");
    if command.is_empty() {
        return Err("the job has no BUILDKITE_COMMAND".to_owned());
    }
    let folder =
        folder(settings, text("BUILDKITE_ORGANIZATION_SLUG"), text("BUILDKITE_PIPELINE_SLUG"))?;
    fresh(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (reader, writer) = io::pipe().map_err(|error| error.to_string())?;
    let output = Receiver::from_owned_fd(reader.into()).map_err(|error| error.to_string())?;
    let again = writer.try_clone().map_err(|error| error.to_string())?;
    let child = Command::new("/bin/sh")
        .args(["-e", "-c", command])
        .current_dir(&folder)
        .env_clear()
        .envs(&settings.inherited)
        .envs(&job.env)
        .env("BUILDKITE_BUILD_PATH", &settings.build_path)
        .env("BUILDKITE_BUILD_CHECKOUT_PATH", &folder)
        .env("BUILDKITE_AGENT_NAME", &settings.name)
        .env("BUILDKITE_AGENT_ENDPOINT", &settings.endpoint)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(again)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("/bin/sh: {error}"))?;
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
        .ok_or("the shell has no process id")?;
    Ok(Running { child, group, output })
}

/// `<build path>/<agent>/<organization>/<pipeline>`, as the real agent has it.
fn folder(settings: &Settings, organization: &str, pipeline: &str) -> Result<PathBuf, String> {
    let mut folder = settings.build_path.clone();
    for part in [settings.name.as_str(), organization, pipeline] {
        if part.is_empty() || part.starts_with('.') || part.contains('/') {
            return Err(format!("`{part}` is no name for a folder"));
        }
        folder.push(part);
    }
    Ok(folder)
}

fn fresh(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir_all(folder)
}

impl Running {
    /// Reads the output until the command ends, or is stopped because `watch` or `now` says so.
    pub(super) async fn until_end(
        mut self,
        log: &mut Log,
        watch: impl Future<Output = Why>,
        now: &CancellationToken,
    ) -> End {
        tokio::pin!(watch);
        let mut send = tokio::time::interval_at(Instant::now() + log.every, log.every);
        let mut stopped: Option<(Why, &'static str)> = None;
        let mut kill_at = None;
        let mut open = true;
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                read = self.output.read_buf(log.buffer()), if open => {
                    open = matches!(read, Ok(1..));
                    log.relieve().await;
                }
                _ = send.tick() => log.close().await,
                why = &mut watch, if stopped.is_none() => {
                    stopped = Some((why, "SIGTERM"));
                    kill_at = Some(self.stop(log));
                }
                () = now.cancelled(), if stopped.is_none() => {
                    stopped = Some((Why::AgentStop, "SIGTERM"));
                    kill_at = Some(self.stop(log));
                }
                () = at(kill_at) => {
                    stopped = stopped.map(|(why, _)| (why, "SIGKILL"));
                    kill_at = None;
                    self.signal(Signal::KILL, log);
                }
            }
        };
        if open {
            let rest =
                async { while matches!(self.output.read_buf(log.buffer()).await, Ok(1..)) {} };
            if timeout(LAST_OUTPUT, rest).await.is_err() {
                log.say("(what the command left running keeps the log open; it is not read on)\n");
            }
        }
        match stopped {
            Some((why, signal)) => End::Stopped(why, signal),
            None => exit(status, log),
        }
    }

    fn stop(&self, log: &mut Log) -> Instant {
        self.signal(Signal::TERM, log);
        Instant::now() + GRACE
    }

    fn signal(&self, signal: Signal, log: &mut Log) {
        match kill_process_group(self.group, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => log.say(&format!("the command could not be stopped: {error}\n")),
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn exit(status: io::Result<ExitStatus>, log: &mut Log) -> End {
    match status {
        Ok(status) => End::Exit(status.code().unwrap_or(DIED_BY_SIGNAL)),
        Err(error) => {
            log.say(&format!("how the command ended is not known: {error}\n"));
            End::NotRun
        }
    }
}
