//! One container of a pod: its image, its configuration, its process, its probe, its restarts.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rustix::process::{Pid, Signal};
use tokio::process::Command;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Life, RETRY};
use crate::clock::now;
use crate::node::environment;
use crate::node::events::Kind;
use crate::node::images::{Image, Refusal};
use crate::node::lookup::Absent;
use crate::node::played::Act;
use crate::node::process::{Bind, Exit, NOT_STARTED, Process, Recipe, memory_controller, tail};
use crate::node::quantity;
use crate::node::status::{End, State};
use crate::node::volumes;
use crate::plane::lock;

/// Before a container that ended is started again, and an image pulled again. A kubelet begins
/// with 10 s and doubles that; tests should not have to wait for it.
const BACK_OFF: Duration = Duration::from_secs(1);
/// What stands for a container's message: Kubernetes' limits.
const MESSAGE: &str = "message";
const MESSAGE_BYTES: usize = 4096;
const FALLBACK_LINES: usize = 80;
const FALLBACK_BYTES: usize = 2048;

impl Life {
    /// Runs a container until it is done for good. Its exit code; none where it was cut short
    /// before it had one.
    pub(super) async fn run_container(
        &self,
        container: &Container,
        volumes: &BTreeMap<String, PathBuf>,
    ) -> Option<i32> {
        loop {
            let recipe = tokio::select! {
                recipe = self.recipe(container, volumes) => recipe,
                () = self.stopped() => return None,
            };
            let end = match self.begin(&recipe).await {
                Ok(running) => self.attend(container, &recipe, running).await,
                Err(words) => not_started(words),
            };
            if end.reason == "StartError" {
                let message = end.message.clone().unwrap_or_default();
                self.tell(Kind::Warning, "Failed", &format!("Error: {message}"));
            }
            let code = end.code;
            let policy = self.spec().restart_policy.as_deref().unwrap_or("Always");
            let is_init = self.is_init(container);
            let again = match policy {
                "Never" => false,
                "OnFailure" => code != 0,
                _ => code != 0 || !is_init,
            };
            if !again || self.ending.borrow().stop.is_some() {
                self.progress(container, |it| {
                    it.ready = is_init && code == 0;
                    it.state = State::Ended(end);
                });
                return Some(code);
            }
            let name = &container.name;
            let message = format!("back-off restarting failed container={name} pod={}", self.name);
            self.tell(Kind::Warning, "BackOff", &message);
            self.progress(container, |it| {
                it.ready = false;
                it.restarts += 1;
                it.last = Some(end);
                it.state = State::Waiting { reason: "CrashLoopBackOff", message: Some(message) };
            });
            tokio::select! {
                () = sleep(BACK_OFF) => {}
                () = self.stopped() => return Some(code),
            }
        }
    }

    fn is_init(&self, container: &Container) -> bool {
        let init = self.spec().init_containers.iter().flatten();
        init.into_iter().any(|it| it.name == container.name)
    }

    fn progress(
        &self,
        container: &Container,
        change: impl FnOnce(&mut crate::node::status::Progress),
    ) {
        self.update(|state| {
            if let Some(progress) = state.named_mut(&container.name) {
                change(progress);
            }
        });
    }

    fn wait_because(&self, container: &Container, reason: &'static str, message: &str) {
        let message = Some(message.to_owned());
        self.progress(container, |it| it.state = State::Waiting { reason, message });
    }

    /// All that its process needs, once it is all there.
    async fn recipe(&self, container: &Container, volumes: &BTreeMap<String, PathBuf>) -> Recipe {
        let image = self.image(container).await;
        loop {
            let given = BTreeMap::from([
                ("KUBERNETES_SERVICE_HOST".to_owned(), "127.0.0.1".to_owned()),
                ("KUBERNETES_SERVICE_PORT".to_owned(), self.kubelet.plane.port.to_string()),
            ]);
            match environment::resolve(&self.lookup(), container, given).await {
                Ok(variables) => {
                    let made = self.form(container, &image, volumes, variables);
                    match made {
                        Ok(recipe) => return recipe,
                        Err(error) => {
                            self.wait_because(
                                container,
                                "CreateContainerError",
                                &error.to_string(),
                            );
                        }
                    }
                }
                Err(Absent::Missing(words)) => {
                    self.wait_because(container, "CreateContainerConfigError", &words);
                    self.tell(Kind::Warning, "Failed", &format!("Error: {words}"));
                }
                Err(Absent::Unknown(_)) => {}
            }
            sleep(RETRY).await;
        }
    }

    /// Its image, once it can be had.
    async fn image(&self, container: &Container) -> Image {
        let name = container.image.as_deref().unwrap_or_default();
        loop {
            match self.kubelet.pull(name) {
                Ok(image) => return image,
                Err(Refusal::InvalidName(words)) => {
                    self.wait_because(container, "InvalidImageName", &words);
                    self.tell(Kind::Warning, "InspectFailed", &words);
                    self.tell(Kind::Warning, "Failed", "Error: InvalidImageName");
                }
                Err(Refusal::Pull(words)) => {
                    self.tell(Kind::Normal, "Pulling", &format!("Pulling image \"{name}\""));
                    self.wait_because(container, "ErrImagePull", &words);
                    let failed = format!("Failed to pull image \"{name}\": {words}");
                    self.tell(Kind::Warning, "Failed", &failed);
                    self.tell(Kind::Warning, "Failed", "Error: ErrImagePull");
                    sleep(RETRY).await;
                    let back_off = format!("Back-off pulling image \"{name}\"");
                    let words = format!("{back_off}: ErrImagePull: {words}");
                    self.wait_because(container, "ImagePullBackOff", &words);
                    self.tell(Kind::Normal, "BackOff", &back_off);
                    self.tell(Kind::Warning, "Failed", "Error: ImagePullBackOff");
                }
            }
            sleep(BACK_OFF).await;
        }
    }

    fn form(
        &self,
        container: &Container,
        image: &Image,
        volumes: &BTreeMap<String, PathBuf>,
        variables: BTreeMap<String, String>,
    ) -> std::io::Result<Recipe> {
        let name = &container.name;
        let restarts = lock(&self.state).named(name).map(|it| it.restarts).unwrap_or_default();
        let run = format!("{name}.{restarts}");
        let scratch = self.folder.join(format!("{run}.root"));
        fs::create_dir_all(&scratch)?;
        let log = self.folder.join(format!("{run}.log"));
        let message = log.with_extension(MESSAGE);
        fs::write(&message, "")?;
        let of_image = image.over.iter().map(|(from, to)| Bind {
            from: from.clone(),
            to: to.display().to_string(),
            read_only: true,
        });
        let message_path = container.termination_message_path.as_deref();
        let message = Bind {
            from: message,
            to: message_path.unwrap_or("/dev/termination-log").to_owned(),
            read_only: false,
        };
        let pod = self.spec().security_context.as_ref();
        let own = container.security_context.as_ref();
        let limit = container.resources.as_ref().and_then(|it| it.limits.as_ref()?.get("memory"));
        let limit = limit.and_then(|limit| quantity::units(limit, None));
        let group = memory_controller().map(|path| {
            let plane = self.kubelet.plane.folder.file_name().unwrap_or_default();
            path.join(plane).join(format!("{}.{run}", self.uid))
        });
        let directory = container.working_dir.as_deref().filter(|it| !it.is_empty());
        let user = own.and_then(|it| it.run_as_user).or(pod.and_then(|it| it.run_as_user));
        let as_group = own.and_then(|it| it.run_as_group).or(pod.and_then(|it| it.run_as_group));
        Ok(Recipe {
            script: self.kubelet.script.clone(),
            scratch,
            lower: image.root.clone().unwrap_or_else(|| PathBuf::from("/")),
            binds: of_image
                .chain(volumes::binds(container, volumes, &variables))
                .chain([message])
                .collect(),
            directory: directory.unwrap_or("/").to_owned(),
            hostname: self.name.clone(),
            user,
            group: as_group,
            read_only_root: own.and_then(|it| it.read_only_root_filesystem) == Some(true),
            command: environment::command(container, &variables),
            environment: variables,
            log,
            player: image.player.clone(),
            memory: group.map(|group| (group, limit)),
        })
    }

    async fn begin(&self, recipe: &Recipe) -> Result<Running, String> {
        let Some(player) = &recipe.player else {
            return Process::start(recipe).await.map(Running::Process);
        };
        let message = message_file(recipe);
        let act = player.start(&self.namespace, &self.name, &recipe.environment, message);
        Ok(Running::Played(act))
    }

    /// From its start to its end, which it is helped to when the pod ends.
    async fn attend(&self, container: &Container, recipe: &Recipe, mut running: Running) -> End {
        let started = now();
        let since = started.clone();
        let asked = |probe: &Option<Probe>| probe.as_ref().is_some_and(|it| it.exec.is_some());
        let up = !asked(&container.startup_probe);
        let ready = up && !asked(&container.readiness_probe) && !self.is_init(container);
        self.progress(container, |it| {
            it.up = up;
            it.ready = ready;
            it.state = State::Running { since };
        });
        self.tell(Kind::Normal, "Started", &format!("Started container {}", container.name));
        let probe = running.probed();
        let exit = tokio::select! {
            exit = running.wait() => exit,
            () = self.probes(container, probe, recipe) => unreachable!("it has no end"),
            () = self.told_out_of_memory(&container.name) => {
                running.signal(Signal::KILL);
                Exit { out_of_memory: true, ..running.wait().await }
            }
            () = self.stopped() => {
                let words = format!("Stopping container {}", container.name);
                self.tell(Kind::Normal, "Killing", &words);
                self.stop(&mut running).await
            }
        };
        end(container, exit, started, recipe)
    }

    /// The signal that asks, and after the grace the one that does not.
    async fn stop(&self, running: &mut Running) -> Exit {
        let begun = Instant::now();
        let mut ending = self.ending.subscribe();
        running.signal(Signal::TERM);
        loop {
            let grace = ending.borrow_and_update().stop.unwrap_or_default();
            tokio::select! {
                exit = running.wait() => return exit,
                () = sleep_until(begun + grace) => {
                    running.signal(Signal::KILL);
                    return running.wait().await;
                }
                // A shorter grace, perhaps.
                changed = ending.changed() => changed.expect("the sender is ours"),
            }
        }
    }

    /// The startup probe until it has succeeded once, the readiness probe from then on.
    async fn probes(&self, container: &Container, probed: Probed, recipe: &Recipe) {
        let pid = match probed {
            Probed::Process(pid) => pid,
            Probed::Played(ready) => {
                ready.cancelled().await;
                self.progress(container, |it| (it.up, it.ready) = (true, true));
                return std::future::pending().await;
            }
        };
        if let Some(probe) = &container.startup_probe {
            probe_until(true, false, probe, pid, recipe).await;
            let ready = container.readiness_probe.is_none();
            self.progress(container, |it| (it.up, it.ready) = (true, ready));
        }
        let Some(probe) = &container.readiness_probe else { return std::future::pending().await };
        let mut ready = false;
        loop {
            probe_until(!ready, ready, probe, pid, recipe).await;
            ready = !ready;
            self.progress(container, |it| it.ready = ready);
        }
    }
}

/// Asks a probe's command again and again, until it has said `wanted` often enough in a row.
async fn probe_until(wanted: bool, delayed: bool, probe: &Probe, pid: Pid, recipe: &Recipe) {
    let command = probe.exec.as_ref().and_then(|exec| exec.command.as_ref());
    let Some(command) = command else { return std::future::pending().await };
    let seconds = |given: Option<i32>, or: u64| {
        Duration::from_secs(given.and_then(|it| u64::try_from(it).ok()).unwrap_or(or))
    };
    let period = seconds(probe.period_seconds, 10);
    sleep(if delayed { period } else { seconds(probe.initial_delay_seconds, 0) }).await;
    let needed = if wanted { probe.success_threshold } else { probe.failure_threshold };
    let needed = needed.unwrap_or(if wanted { 1 } else { 3 });
    let mut in_a_row = 0;
    loop {
        let answer = succeeds(command, pid, recipe);
        let good = timeout(seconds(probe.timeout_seconds, 1), answer).await.unwrap_or(false);
        in_a_row = if good == wanted { in_a_row + 1 } else { 0 };
        if in_a_row >= needed {
            return;
        }
        sleep(period).await;
    }
}

/// Runs a probe's command where the container's main process is.
async fn succeeds(command: &[String], pid: Pid, recipe: &Recipe) -> bool {
    let status = Command::new("nsenter")
        .arg(format!("--target={}", pid.as_raw_nonzero()))
        .args(["--mount", "--pid", "--uts", "--ipc", "--root"])
        .arg("--")
        .args(command)
        .env_clear()
        .envs(&recipe.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    status.is_ok_and(|status| status.success())
}

/// A container that runs, in the one way or the other.
enum Running {
    Process(Process),
    Played(Act),
}

/// Who is asked whether a container is ready.
enum Probed {
    Process(Pid),
    Played(CancellationToken),
}

impl Running {
    async fn wait(&mut self) -> Exit {
        match self {
            Self::Process(process) => process.wait().await,
            Self::Played(act) => act.wait().await,
        }
    }

    fn signal(&self, signal: Signal) {
        match self {
            Self::Process(process) => process.signal(signal),
            Self::Played(act) => act.signal(signal),
        }
    }

    fn probed(&self) -> Probed {
        match self {
            Self::Process(process) => Probed::Process(process.pid()),
            Self::Played(act) => Probed::Played(act.ready()),
        }
    }
}

/// Where a container leaves its message; beside its log.
fn message_file(recipe: &Recipe) -> PathBuf {
    recipe.log.with_extension(MESSAGE)
}

fn not_started(words: String) -> End {
    let message = Some(format!("failed to create containerd task: {words}"));
    End { code: NOT_STARTED, reason: "StartError", message, started: None, finished: now() }
}

fn end(container: &Container, exit: Exit, started: Time, recipe: &Recipe) -> End {
    if let Some(words) = exit.not_started {
        return not_started(words);
    }
    let mut words = fs::read(message_file(recipe)).unwrap_or_default();
    words.truncate(MESSAGE_BYTES);
    let mut words = String::from_utf8_lossy(&words).into_owned();
    let fallback = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if words.is_empty() && fallback && exit.code != 0 {
        words = tail(&recipe.log, FALLBACK_LINES, FALLBACK_BYTES);
    }
    let reason = match exit.code {
        _ if exit.out_of_memory => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    };
    let message = (!words.is_empty()).then_some(words);
    End { code: exit.code, reason, message, started: Some(started), finished: now() }
}
