//! A machine that is a pod: how the guest and the agent get into it, how the guest as its first
//! process learns its orders, and how it says what came of them. Nothing of Kubernetes' API is
//! known here, only what a container sees: its environment, its mounts, its termination message.

mod image;
mod memory;
mod message;
mod sampler;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cgroup::{Groups, Layout};
use crate::place::{Place, make_dir, named, read_json, write_json, write_whole};
use crate::report::{Cause, Isolate, Orders, Report, TokenBy};
use image::Image;
pub use memory::{Look, Memory, Program};
use message::LastWords;
pub use message::{LONGEST_MESSAGE, Message};
use sampler::Sampler;

/// Where the guest lies in its own image.
pub const IN_IMAGE: &str = "/jitney-guest";
/// A volume that all containers of the pod share: the programs.
pub const PROGRAMS: &str = "/jitney/bin";
pub const GUEST: &str = "/jitney/bin/guest";
pub const AGENT: &str = "/jitney/bin/buildkite-agent";
/// The machine's directory, on the volume that the job's disk is.
pub const DISK: &str = "/jitney/disk";
const MACHINE: &str = "/jitney/disk/machine";
/// What the kubelet tells of a container that has ended.
pub const LAST_WORDS: &str = "/dev/termination-log";
/// Where an operator's `buildkite-agent.cfg` and hooks are mounted, if there are any.
pub const CONFIG: &str = "/jitney/config";
/// The variables by which the guest is told.
pub const ORDERS_VAR: &str = "JITNEY_ORDERS";
pub const TOKEN_VAR: &str = "JITNEY_TOKEN";
/// No variable whose name begins so reaches the agent.
const OURS: &str = "JITNEY_";

/// The verbs, as a container's command names them.
pub const INSTALL: &str = "install";
pub const FETCH_AGENT: &str = "fetch-agent";
pub const RUN: &str = "pod";
pub const IS_CONNECTED: &str = "is-connected";
/// The second half of `pod`, once the token is out of the environment.
const ATTEND: &str = "attend-pod";

/// What a pod's guest is told; the rest it finds where it always is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodOrders {
    pub job: Uuid,
    pub agent_name: String,
    pub endpoint: String,
    /// `key=value`.
    pub tags: Vec<String>,
    /// From the guest's start; the cluster enforces a deadline of its own.
    pub lifetime_s: u64,
    pub grace_s: u64,
    /// Variables of the agent's beside the container's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Runs one of the verbs; `None` where it is none.
#[must_use]
pub fn verb(verb: &str, to: Option<&Path>) -> Option<ExitCode> {
    let done = match (verb, to) {
        (INSTALL, Some(to)) => install(to),
        (FETCH_AGENT, Some(to)) => fetch_agent(to),
        (RUN, None) => prepare(Path::new(MACHINE)),
        (ATTEND, None) => return Some(attend(Path::new(MACHINE))),
        (IS_CONNECTED, None) => return Some(is_connected(Path::new(MACHINE))),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jitney guest: {error}");
            ExitCode::FAILURE
        }
    })
}

fn install(to: &Path) -> io::Result<()> {
    let own = std::env::current_exe()?;
    copy_program(&own, &to.join("guest"))
}

/// Takes the agent out of the image that this runs in, which needs no shell for it.
fn fetch_agent(to: &Path) -> io::Result<()> {
    let path = variables().remove("PATH").unwrap_or_else(|| USUAL_PATH.to_owned());
    let found = find_program("buildkite-agent", &path).ok_or_else(|| {
        let words = format!("the agent's image has no buildkite-agent on its PATH ({path})");
        io::Error::new(io::ErrorKind::NotFound, words)
    })?;
    copy_program(&found, &to.join("buildkite-agent"))
}

fn copy_program(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to).map_err(|error| named(error, to))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).map_err(|error| named(error, to))
}

pub(crate) const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The first program of this name on `path`.
pub(crate) fn find_program(name: &str, path: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path).map(|dir| dir.join(name)).find(is_program)
}

/// The container's environment; what is not text is nobody's to pass on.
pub(crate) fn variables() -> BTreeMap<String, String> {
    let text = |text: OsString| text.into_string().ok();
    std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
}

/// Writes orders and token down and begins anew without the token in the environment, which
/// everything in the container could read for as long as its first process lives.
fn prepare(machine: &Path) -> io::Result<()> {
    let mut env = variables();
    let invalid = |words: String| io::Error::new(io::ErrorKind::InvalidInput, words);
    let orders =
        env.remove(ORDERS_VAR).ok_or_else(|| invalid(format!("{ORDERS_VAR} is not set")))?;
    let orders: PodOrders = serde_json::from_str(&orders)
        .map_err(|error| invalid(format!("{ORDERS_VAR} cannot be read: {error}")))?;
    let token = env.remove(TOKEN_VAR).ok_or_else(|| invalid(format!("{TOKEN_VAR} is not set")))?;
    env.retain(|name, _| !name.starts_with(OURS));
    let place = Place::new(machine);
    make_dir(machine, 0o711).map_err(|error| named(error, machine))?;
    let whole = whole_orders(orders, env, Path::new(AGENT), Path::new(CONFIG));
    write_json(&place.orders(), &whole)?;
    write_whole(&place.token(), token.as_bytes())?;
    // Returns only where it fails.
    let failed = Command::new("/proc/self/exe").arg(ATTEND).env_remove(TOKEN_VAR).exec();
    Err(named(failed, Path::new("/proc/self/exe")))
}

/// The guest's own orders, with what is always the same in a pod.
fn whole_orders(
    orders: PodOrders,
    mut env: BTreeMap<String, String>,
    agent: &Path,
    config: &Path,
) -> Orders {
    let agent_config = Some(config.join("buildkite-agent.cfg")).filter(|file| file.is_file());
    let said = agent_config.as_deref().and_then(|file| fs::read_to_string(file).ok());
    let names_hooks = said
        .is_some_and(|text| text.lines().any(|line| line.trim_start().starts_with("hooks-path")));
    if config.is_dir() && !names_hooks {
        env.insert("BUILDKITE_HOOKS_PATH".to_owned(), config.display().to_string());
    }
    env.entry("PATH".to_owned()).or_insert_with(|| USUAL_PATH.to_owned());
    env.extend(orders.env);
    Orders {
        job: orders.job,
        agent: agent.to_owned(),
        agent_name: orders.agent_name,
        endpoint: orders.endpoint,
        tags: orders.tags,
        agent_config,
        env,
        // The pod's start is not known when it is ordered: only the count holds.
        deadline: Timestamp::MAX,
        lifetime_s: Some(orders.lifetime_s),
        grace_s: orders.grace_s,
        // The one way that suits every version of the agent.
        token_by: TokenBy::Config,
        user: None,
        cpu_millis: None,
        memory_bytes: None,
        // The container is the group.
        isolate: Isolate::Never,
    }
}

/// Runs the agent, and leaves the container's last words.
fn attend(machine: &Path) -> ExitCode {
    let place = Place::new(machine);
    let image = match look_at_image(&place) {
        Ok(image) => image,
        Err(error) => {
            eprintln!("jitney guest: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(line) = image.line() {
        eprintln!("jitney guest: {line}");
    }
    let sampler = Sampler::start(&place, &image, last_words())
        .inspect_err(|error| eprintln!("jitney guest: memory is not looked at: {error}"))
        .ok();
    let ran = crate::run(machine);
    let seen = sampler.map(Sampler::stop).unwrap_or_default();
    let report: Option<Report> = read_json(&place.report()).unwrap_or_else(|error| {
        eprintln!("jitney guest: {error}");
        None
    });
    let words = last_words();
    let (code, said) = match report {
        Some(report) => {
            let code = report.ended.as_ref().map_or(1, |ended| code_of(&ended.cause));
            let message = last_message(report, image, seen);
            (ExitCode::from(code), words.map(|mut words| words.say(message)))
        }
        // The log says why.
        None => (ran, words.map(|mut words| words.take_back())),
    };
    if let Some(Err(error)) = said {
        eprintln!("jitney guest: the container's last words are lost: {error}");
    }
    code
}

fn last_words() -> Option<LastWords> {
    let words = LastWords::open(Path::new(LAST_WORDS));
    words.inspect_err(|error| eprintln!("jitney guest: {LAST_WORDS}: {error}")).ok()
}

/// The report with what the container as a whole has used.
fn last_message(mut report: Report, image: Image, seen: Memory) -> Message {
    let mut memory = Memory::default();
    if let Some(ended) = report.ended.as_mut() {
        let used = Groups::around_us(&Layout::read()).usage();
        let sampled = Some(seen.peak_bytes).filter(|peak| *peak > 0);
        let usage = &mut ended.usage;
        usage.peak_memory_bytes = usage.peak_memory_bytes.or(used.peak_memory_bytes).or(sampled);
        usage.oom_killed |= used.oom_killed;
        if usage.oom_killed {
            memory = seen;
        }
    }
    Message { report, image, memory }
}

/// Looks at what the image has, and makes do where it can: another home, another shell. Without
/// any shell there is nothing that a job could do, so its agent is not started.
fn look_at_image(place: &Place) -> io::Result<Image> {
    let mut orders: Orders = read_json(&place.orders())?
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no orders.json"))?;
    let image = Image::look(&orders, Path::new("/"));
    image.make_do(&mut orders, place)?;
    if image.is_unfit() {
        // Never started: `run` says so in the report, whose other words tell why.
        orders.agent = PathBuf::from("/jitney/none");
    }
    write_json(&place.orders(), &orders)?;
    Ok(image)
}

/// What `kubectl get pods` shows: proves nothing about the job.
fn code_of(cause: &Cause) -> u8 {
    match cause {
        Cause::Exited { code } => u8::try_from(*code).unwrap_or(1),
        Cause::Signaled { signal } => u8::try_from(*signal).map_or(1, |s| s.saturating_add(128)),
        Cause::Stopped => 143,
        Cause::Deadline => 124,
        Cause::NotStarted { .. } => 126,
        Cause::GuestLost => 1,
    }
}

/// Asked by the kubelet again and again until it is so, and never after.
fn is_connected(machine: &Path) -> ExitCode {
    match read_json::<Report>(&Place::new(machine).report()) {
        Ok(Some(report)) if report.connected_at.is_some() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("jitney guest: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
