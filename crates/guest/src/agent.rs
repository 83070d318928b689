//! Starting the one agent: its environment, made from the orders alone, its token, its user and
//! the control groups that it is in from its first instruction on. It does not watch it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Gid, Uid, getgid, getuid, set_parent_process_death_signal, setsid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::account::{Account, account};
use crate::place::{Place, make_dir, named};
use crate::report::{Orders, TokenBy};
use crate::tree::MARK;

/// The longest configuration of an operator's that fits through the pipe beside the token.
const LONGEST_CONFIG: usize = 60 << 10;
const PIPE: usize = 64 << 10;

/// A started agent, and the pipe in which it speaks.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) log: OwnedFd,
}

/// Starts the agent. An error is for people: it says what is missing.
pub(crate) fn start(
    orders: &Orders,
    place: &Place,
    token: &str,
    doors: Vec<File>,
) -> io::Result<Started> {
    let user = orders.user.as_deref().map(account).transpose().map_err(io::Error::other)?;
    let user = user.filter(|user| user.uid != getuid().as_raw() || user.gid != getgid().as_raw());
    if let Some(user) = &user
        && !getuid().is_root()
    {
        let words = format!("only root can run jobs as another user (`{}`)", user.name);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
    }
    make_rooms(place, user.as_ref())?;
    let mut env = environment(orders, place, user.as_ref());
    let config = match orders.token_by {
        TokenBy::Environment => {
            env.insert("BUILDKITE_AGENT_TOKEN".to_owned(), token.to_owned());
            // Without one named, the agent would look for the host's, which may hold a token.
            let config = orders.agent_config.clone().unwrap_or_else(|| PathBuf::from("/dev/null"));
            env.insert("BUILDKITE_AGENT_CONFIG".to_owned(), config.display().to_string());
            None
        }
        TokenBy::Config => {
            let config = config_pipe(orders, token, user.as_ref())?;
            let path = format!("/proc/self/fd/{}", config.as_raw_fd());
            env.insert("BUILDKITE_AGENT_CONFIG".to_owned(), path);
            Some(config)
        }
    };
    let (log, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = Command::new(&orders.agent);
    command
        .arg("start")
        .env_clear()
        .envs(env)
        .current_dir(place.build())
        .stdin(Stdio::null())
        .stdout(Stdio::from(theirs.try_clone()?))
        .stderr(Stdio::from(theirs));
    last_steps(&mut command, doors, user);
    let child = command.spawn().map_err(|error| named(error, &orders.agent))?;
    // Only now: until the fork this end had to be open for the agent to inherit it.
    drop(config);
    rustix::io::ioctl_fionbio(&log, true)?;
    Ok(Started { child, log })
}

/// The directories that the agent writes to, its user's own.
fn make_rooms(place: &Place, user: Option<&Account>) -> io::Result<()> {
    for room in [place.build(), place.tmp(), place.plugins()] {
        make_dir(&room, 0o700).map_err(|error| named(error, &room))?;
        if let Some(user) = user {
            std::os::unix::fs::chown(&room, Some(user.uid), Some(user.gid))
                .map_err(|error| named(error, &room))?;
        }
    }
    Ok(())
}

fn environment(orders: &Orders, place: &Place, user: Option<&Account>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    if let Some(user) = user {
        env.insert("HOME".to_owned(), user.home.clone());
        env.insert("USER".to_owned(), user.name.clone());
        env.insert("LOGNAME".to_owned(), user.name.clone());
        env.insert("SHELL".to_owned(), user.shell.clone());
    }
    let given = orders.env.iter().map(|(name, value)| (name.clone(), value.clone()));
    // The account's own home, not that of whoever runs Jitney.
    env.extend(given.filter(|(name, _)| user.is_none() || !is_of_account(name)));
    // systemd starts a service of root's without HOME. The agent would keep its sockets in the
    // machine's folder then, and their paths be too long; git would not find its keys.
    if env.get("HOME").is_none_or(String::is_empty)
        && let Ok(own) = account(&getuid().as_raw().to_string())
    {
        env.insert("HOME".to_owned(), own.home);
    }
    let ours = [
        ("BUILDKITE_AGENT_ENDPOINT", orders.endpoint.clone()),
        ("BUILDKITE_AGENT_ACQUIRE_JOB", orders.job.to_string()),
        ("BUILDKITE_AGENT_NAME", orders.agent_name.clone()),
        ("BUILDKITE_AGENT_TAGS", orders.tags.join(",")),
        ("BUILDKITE_AGENT_SPAWN", "1".to_owned()),
        // Its log goes to a report, not to a terminal.
        ("BUILDKITE_AGENT_NO_COLOR", "true".to_owned()),
        ("BUILDKITE_BUILD_PATH", place.build().display().to_string()),
        ("TMPDIR", place.tmp().display().to_string()),
        (MARK, place.dir().display().to_string()),
    ];
    env.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    if orders.agent_config.is_none() {
        // An operator's own configuration may say where plugins are; the environment would win.
        let plugins = place.plugins().display().to_string();
        env.insert("BUILDKITE_PLUGINS_PATH".to_owned(), plugins);
    }
    env
}

fn is_of_account(name: &str) -> bool {
    matches!(name, "HOME" | "USER" | "LOGNAME" | "SHELL")
}

/// The read end of a pipe that holds the operator's configuration and the token: read once, by the
/// agent at its start, and empty for everybody after it.
fn config_pipe(orders: &Orders, token: &str, user: Option<&Account>) -> io::Result<OwnedFd> {
    let mut text = match &orders.agent_config {
        Some(path) => fs::read_to_string(path).map_err(|error| named(error, path))?,
        None => String::new(),
    };
    if text.len() > LONGEST_CONFIG {
        let words = format!("the agent's configuration is longer than {LONGEST_CONFIG} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    if token.contains(['"', '\'', '#', '\n', '\\']) {
        let words = "the token holds characters that the agent's configuration cannot";
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    text.push_str("\ntoken=\"");
    text.push_str(token);
    text.push_str("\"\n");
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&write, PIPE)?;
    File::from(write).write_all(text.as_bytes())?;
    if let Some(user) = user {
        // The agent opens it anew by its name, as the user that it runs as.
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        rustix::fs::fchown(&read, Some(uid), Some(gid))?;
    }
    fcntl_setfd(&read, FdFlags::empty())?;
    Ok(read)
}

/// What the child does between fork and exec: its own session, its groups, its user.
#[expect(unsafe_code, reason = "std has no safe way to run anything between fork and exec")]
fn last_steps(command: &mut Command, doors: Vec<File>, user: Option<Account>) {
    let groups: Vec<Gid> =
        user.iter().flat_map(|user| &user.groups).map(|gid| Gid::from_raw(*gid)).collect();
    let ids = user.map(|user| (Uid::from_raw(user.uid), Gid::from_raw(user.gid)));
    let steps = move || {
        setsid()?;
        for door in &doors {
            rustix::io::write(door.as_fd(), b"0")?;
        }
        if let Some((uid, gid)) = ids {
            // Of this thread, which after the fork is all there is of the process.
            set_thread_groups(&groups)?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
        }
        // An agent without its guest would have no deadline. After the change of user, which
        // clears it.
        set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Ok(())
    };
    // SAFETY: the closure makes system calls only; everything it needs was allocated before.
    unsafe {
        command.pre_exec(steps);
    }
}
