//! A container's main process: started by `container.sh`, signalled, waited for, metered.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::played::Player;
use crate::plane::MEMORY;

/// What makes a container; each node has it as a file.
pub(super) const SCRIPT: &str = include_str!("container.sh");
/// Runs that as the first process of the new namespace, and tells its exit code as containers'
/// are told: 128 and the signal where it was one.
const PARENT: &str = "exec 3<&0 4>&2 </dev/null 2>/dev/null
    setpriv --pdeathsig KILL -- /bin/sh \"$0\" \"$@\" <&3 2>&4 3<&- 4>&- &
    exec 3<&- 4>&-
    wait $!";
/// What container runtimes set where neither image nor pod does.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Between the script's last word and the command there are two calls of the kernel.
const EXEC: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
const MOST_BETWEEN_LOOKS: Duration = Duration::from_millis(30);
/// How many links in a path are followed, as in Linux.
const MOST_LINKS: u32 = 40;
/// The exit code of a container that could not be started, and its reason.
pub(super) const NOT_STARTED: i32 = 128;
/// How `unshare` says that the command is not there, and with which codes.
const NOT_EXECUTED: &str = "unshare: failed to execute ";
const NOT_EXECUTED_CODES: [i32; 2] = [126, 127];

/// All that a container's process is made of.
#[derive(Debug, Default)]
pub(super) struct Recipe {
    pub(super) script: PathBuf,
    /// An empty folder, for mounts that only the container sees.
    pub(super) scratch: PathBuf,
    /// What it finds under `/`. What it writes there is thrown away.
    pub(super) lower: PathBuf,
    pub(super) binds: Vec<Bind>,
    pub(super) directory: String,
    pub(super) hostname: String,
    pub(super) user: Option<i64>,
    pub(super) group: Option<i64>,
    pub(super) read_only_root: bool,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) command: Vec<String>,
    pub(super) log: PathBuf,
    /// It is no process: this plays it.
    pub(super) player: Option<Player>,
    /// Where its memory is counted, and how much it may have.
    pub(super) memory: Option<(PathBuf, Option<u64>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Bind {
    pub(super) from: PathBuf,
    pub(super) to: String,
    pub(super) read_only: bool,
}

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: Pid,
    ended: bool,
    out_of_memory: bool,
    memory: Option<MemoryGroup>,
    log: PathBuf,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) code: i32,
    pub(super) out_of_memory: bool,
    /// Why its command could not be run at all.
    pub(super) not_started: Option<String>,
}

impl Process {
    /// Starts it, and returns once its own command runs: what is signalled then is the command.
    pub(super) async fn start(recipe: &Recipe) -> Result<Self, String> {
        if recipe.command.is_empty() {
            return Err("no command specified".to_owned());
        }
        let memory = recipe.memory.as_ref();
        let memory = memory.and_then(|(path, limit)| MemoryGroup::make(path, *limit));
        let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
        let child = command(recipe, memory.as_ref(), Stdio::from(writer))
            .and_then(|mut command| command.spawn())
            .map_err(|error| format!("failed to start unshare: {error}"))?;
        let reader = Receiver::from_owned_fd(reader.into()).map_err(|error| error.to_string())?;
        let mut line = String::new();
        // There is an end to read where there is no word: the set-up has nobody else's pipe.
        let read = BufReader::new(reader).read_line(&mut line).await;
        read.map_err(|error| error.to_string())?;
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("the container's set-up ended: {}", line.trim()))?;
        let log = recipe.log.clone();
        let process = Self { child, pid, ended: false, out_of_memory: false, memory, log };
        process.executed().await;
        Ok(process)
    }

    /// A signal before this would be lost, as the kernel keeps from a process 1 what it has not
    /// asked for.
    async fn executed(&self) {
        let end = Instant::now() + EXEC;
        let mut pause = BETWEEN_LOOKS;
        let proc = PathBuf::from(format!("/proc/{}", self.pid.as_raw_nonzero()));
        loop {
            let root = fs::read_link(proc.join("root"));
            let program = fs::read_link(proc.join("exe"));
            let entered = root.is_ok_and(|root| root != Path::new("/"));
            let began = program.is_ok_and(|program| !program.ends_with("unshare"));
            if (entered && began) || !proc.join("exe").exists() || Instant::now() > end {
                return;
            }
            sleep(pause).await;
            // Where many start at once, the looks would keep them from it.
            pause = (pause * 2).min(MOST_BETWEEN_LOOKS);
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Signals process 1. It may have gone just now; its number is not given to another so soon.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.ended
            && let Err(error) = kill_process(self.pid, signal)
            && error != rustix::io::Errno::SRCH
        {
            eprintln!("failed to signal a container: {error}");
        }
    }

    /// Nothing of it runs any more then. May be dropped and called again.
    pub(super) async fn wait(&mut self) -> Exit {
        let status = tokio::select! {
            status = self.child.wait() => status,
            () = run_out(self.memory.as_ref()), if !self.out_of_memory => {
                // Version 2 of control groups, as kubelets use it, ends all of a container then.
                self.out_of_memory = true;
                self.signal(Signal::KILL);
                self.child.wait().await
            }
        };
        self.ended = true;
        let code = match &status {
            Ok(status) => {
                use std::os::unix::process::ExitStatusExt as _;
                status.code().or_else(|| status.signal().map(|signal| 128 + signal))
            }
            Err(error) => {
                eprintln!("failed to wait for a container: {error}");
                None
            }
        };
        let code = code.unwrap_or(NOT_STARTED);
        let not_started = NOT_EXECUTED_CODES.contains(&code).then(|| tail(&self.log, 1, 1024));
        Exit {
            code,
            out_of_memory: self.out_of_memory
                || self.memory.as_ref().is_some_and(MemoryGroup::killed),
            not_started: not_started.filter(|words| words.starts_with(NOT_EXECUTED)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its parent's end would not end it where it has become another user.
        self.signal(Signal::KILL);
    }
}

fn command(
    recipe: &Recipe,
    memory: Option<&MemoryGroup>,
    words: Stdio,
) -> std::io::Result<Command> {
    let log = File::options().create(true).append(true).open(&recipe.log)?;
    let option = |name: &str, id: Option<i64>| id.map(|id| format!("--{name}={id}"));
    let user = [option("setgid", recipe.group), option("setuid", recipe.user)];
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .args(["unshare", "--mount", "--pid", "--uts", "--ipc", "--"])
        .args(["/bin/sh", "-c", PARENT])
        .arg(&recipe.script)
        .arg(&recipe.scratch)
        .arg(&recipe.lower)
        .arg(memory.map(|group| group.path.as_path()).unwrap_or(Path::new("")))
        .arg(within(&recipe.lower, Path::new(&recipe.directory)))
        .arg(&recipe.hostname)
        .arg(recipe.environment.get("PATH").map_or(PATH, String::as_str))
        .arg(user.into_iter().flatten().collect::<Vec<_>>().join(" "))
        .arg(if recipe.read_only_root { "yes" } else { "" });
    for bind in &recipe.binds {
        let to = within(&recipe.lower, Path::new(&bind.to));
        command.arg(if bind.read_only { "ro" } else { "rw" }).arg(&bind.from).arg(to);
    }
    command
        .arg("--")
        .args(&recipe.command)
        .env_clear()
        .env("HOSTNAME", &recipe.hostname)
        .env("HOME", home(&recipe.lower, recipe.user.unwrap_or(0)))
        .envs(&recipe.environment)
        .env("PATH", PATH)
        .stdin(words)
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}

/// Where a user is at home, as runtimes tell it to who has no word about it.
fn home(root: &Path, user: i64) -> String {
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let user = user.to_string();
    let line = users.lines().find(|line| line.split(':').nth(2) == Some(&user));
    let home = line.and_then(|line| line.split(':').nth(5)).filter(|home| !home.is_empty());
    home.unwrap_or("/").to_owned()
}

/// A path in a container as it is below its root, with links followed as the container would.
pub(super) fn within(root: &Path, path: &Path) -> PathBuf {
    let mut found = PathBuf::from("/");
    let mut rest: Vec<_> = path.components().map(|it| it.as_os_str().to_owned()).rev().collect();
    let mut links = MOST_LINKS;
    while let Some(next) = rest.pop() {
        if next == ".." {
            found.pop();
        } else if next != "/" && next != "." {
            found.push(&next);
        }
        let Ok(below) = found.strip_prefix("/") else { continue };
        if let Ok(target) = fs::read_link(root.join(below))
            && links > 0
        {
            links -= 1;
            found.pop();
            if target.is_absolute() {
                found = PathBuf::from("/");
            }
            rest.extend(target.components().map(|it| it.as_os_str().to_owned()).rev());
        }
    }
    found
}

/// A group of the memory controller, version 1. There is none where that is not mounted.
#[derive(Debug)]
struct MemoryGroup {
    path: PathBuf,
    run_out: Option<RunOut>,
}

/// Tells once there is no more memory to be had.
#[derive(Debug)]
struct RunOut {
    told: CancellationToken,
    /// The kernel counts on it, and so do we when nobody wants to know any more.
    count: Arc<OwnedFd>,
}

/// Never, where nobody can tell.
async fn run_out(group: Option<&MemoryGroup>) {
    match group.and_then(|group| group.run_out.as_ref()) {
        Some(run_out) => run_out.told.cancelled().await,
        None => std::future::pending().await,
    }
}

impl RunOut {
    fn of(group: &Path) -> std::io::Result<Self> {
        let count = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let control = File::open(group.join("memory.oom_control"))?;
        let order = format!("{} {}", count.as_raw_fd(), control.as_raw_fd());
        fs::write(group.join("cgroup.event_control"), order)?;
        let told = CancellationToken::new();
        let (waits_for, tells) = (Arc::clone(&count), told.clone());
        std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
            let mut number = [0; 8];
            if rustix::io::read(&*waits_for, &mut number).is_ok() {
                tells.cancel();
            }
        })?;
        Ok(Self { told, count })
    }
}

impl Drop for RunOut {
    fn drop(&mut self) {
        // Ends the thread. A counter that is full would have ended it before.
        let _ = rustix::io::write(&*self.count, &1_u64.to_ne_bytes());
    }
}

impl MemoryGroup {
    fn make(path: &Path, limit: Option<u64>) -> Option<Self> {
        fs::create_dir_all(path).ok()?;
        // From here on its drop removes it.
        let mut group = Self { path: path.to_owned(), run_out: None };
        if let Some(limit) = limit {
            fs::write(path.join("memory.limit_in_bytes"), limit.to_string()).ok()?;
            let run_out = RunOut::of(path);
            group.run_out =
                run_out.inspect_err(|error| eprintln!("{}: {error}", path.display())).ok();
        }
        Some(group)
    }

    fn killed(&self) -> bool {
        let told = fs::read_to_string(self.path.join("memory.oom_control")).unwrap_or_default();
        let mut counts = told.lines().filter_map(|line| line.strip_prefix("oom_kill "));
        counts.any(|count| count != "0")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Not yet where a process was only just killed; then it goes with the plane.
        let removed = fs::remove_dir(&self.path);
        drop(removed);
    }
}

/// Where containers' memory can be counted.
pub(super) fn memory_controller() -> Option<&'static Path> {
    let path = Path::new(MEMORY);
    path.join("memory.limit_in_bytes").exists().then_some(path)
}

/// The end of a file: so many lines, and no more bytes than that.
pub(super) fn tail(file: &Path, lines: usize, bytes: usize) -> String {
    let content = fs::read(file).unwrap_or_default();
    let content = String::from_utf8_lossy(&content[content.len().saturating_sub(bytes)..]);
    let all: Vec<&str> = content.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_within_a_root() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("var/lib")).expect("folders");
        for (link, target) in [("var/run", "/run"), ("up", "../../etc"), ("loop", "loop/x")] {
            std::os::unix::fs::symlink(target, root.path().join(link)).expect("a link");
        }
        for (path, expected) in [
            ("/var/run/secrets/x", "/run/secrets/x"),
            ("/var/lib/a", "/var/lib/a"),
            ("/up/passwd", "/etc/passwd"),
            ("/a/../b/./c", "/b/c"),
        ] {
            assert_eq!(within(root.path(), Path::new(path)), Path::new(expected), "{path}");
        }
        within(root.path(), Path::new("/loop"));
    }
}
