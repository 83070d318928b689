//! Making one machine: a directory that appears under its name with everything in it, then its
//! guest. A repeat finds what there is and finishes what a killed process left undone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use guest::place::{Place, make_dir, read_json, remove_tree, try_lock, write_json, write_whole};
use guest::report::Orders;
use secrecy::ExposeSecret;

use super::agents::Found;
use super::{Inner, Stamp, io_error};
use crate::contract::{Class, Error, Order};

/// How long somebody else may be at the same machine before we say that we do not know.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// A directory that is not furnished after this time belongs to a process that was killed.
const UNFURNISHED: Duration = Duration::from_secs(60);
/// Directories that do not have their name yet, and those that do not have it any more.
const NEW: &str = ".new-";
pub(super) const GONE: &str = ".gone-";

static STAGED: AtomicU64 = AtomicU64::new(0);

/// What the place of a machine's name holds.
enum There {
    /// The machine, or what is left of it.
    Machine,
    /// A directory without a guest that ever wrote anything; its lock is ours now.
    Unstarted(File),
    /// Nothing any more.
    Nothing,
}

pub(super) fn machine(inner: &Inner, order: &Order, agent: &Found) -> Result<(), Error> {
    let place = inner.place(&order.name)?;
    if *order.labels.mark != *inner.options.mark {
        let words = format!("`{}` is not our mark, `{}`", order.labels.mark, inner.options.mark);
        return Err(Error::new(Class::Rejected, words));
    }
    if let Some(user) = &inner.options.user {
        check_user(user)?;
    }
    inner.reap();
    let until = Instant::now() + PATIENCE;
    loop {
        let lock = match there(inner, &place, until)? {
            There::Machine => return Ok(()),
            There::Unstarted(lock) => {
                let furnished = furnish(inner, &place, order, agent);
                furnished.map_err(|error| io_error("write in", place.dir(), &error))?;
                lock
            }
            There::Nothing => match staged(inner, &place, order, agent)? {
                Some(lock) => lock,
                // Somebody was faster.
                None => continue,
            },
        };
        return start(inner, &place, lock);
    }
}

pub(super) fn check_user(user: &str) -> Result<(), Error> {
    let denied = |words: String| Error::new(Class::Denied, words);
    let account = guest::account::account(user).map_err(|error| denied(error.to_string()))?;
    let ours = rustix::process::getuid();
    if ours.is_root() || ours.as_raw() == account.uid {
        return Ok(());
    }
    Err(denied(format!(
        "jobs are to run as `{user}`, and only root can do that; start Jitney as root or as that \
         user, or leave `user` out"
    )))
}

fn there(inner: &Inner, place: &Place, until: Instant) -> Result<There, Error> {
    loop {
        if !place.dir().exists() {
            return Ok(There::Nothing);
        }
        check_mark(inner, place)?;
        if place.report().exists() {
            return Ok(There::Machine);
        }
        match place.open_lock() {
            Ok(lock) => {
                let ours = try_lock(&lock).map_err(|e| io_error("lock", place.dir(), &e))?;
                // Once more under the lock: a guest may have come and gone since.
                if ours && place.is_lock(&lock) && place.report().exists() {
                    return Ok(There::Machine);
                }
                if ours && place.is_lock(&lock) {
                    return Ok(There::Unstarted(lock));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("lock", place.dir(), &error)),
        }
        if Instant::now() > until {
            let words = format!("somebody else is at {}", place.dir().display());
            return Err(Error::new(Class::Ambiguous, words));
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

fn check_mark(inner: &Inner, place: &Place) -> Result<(), Error> {
    let path = labels(place);
    let stamp: Option<Stamp> = read_json(&path).map_err(|error| io_error("read", &path, &error))?;
    match stamp {
        Some(stamp) if *stamp.labels.mark != *inner.options.mark => {
            let words = format!(
                "{} belongs to the installation `{}`, not to `{}`",
                place.dir().display(),
                stamp.labels.mark,
                inner.options.mark
            );
            Err(Error::new(Class::Rejected, words))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn labels(place: &Place) -> std::path::PathBuf {
    place.dir().join("labels.json")
}

/// Furnishes a directory aside and gives it its name; `None` if the name was taken meanwhile.
fn staged(
    inner: &Inner,
    place: &Place,
    order: &Order,
    agent: &Found,
) -> Result<Option<File>, Error> {
    let number = STAGED.fetch_add(1, Ordering::Relaxed);
    let own = rustix::process::getpid().as_raw_nonzero();
    let aside = Place::new(inner.machines.join(format!("{NEW}{}-{own}-{number}", order.name)));
    let made = furnish_aside(inner, &aside, order, agent);
    let renamed = made.and_then(|lock| match fs::rename(aside.dir(), place.dir()) {
        Ok(()) => Ok(Some(lock)),
        Err(error) if is_taken(&error) => Ok(None),
        Err(error) => Err(error),
    });
    if !matches!(renamed, Ok(Some(_)))
        && let Err(error) = remove_tree(aside.dir())
    {
        tracing::warn!(%error, "cannot remove {}", aside.dir().display());
    }
    renamed.map_err(|error| io_error("make", place.dir(), &error))
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}

fn furnish_aside(inner: &Inner, aside: &Place, order: &Order, agent: &Found) -> io::Result<File> {
    // One of this name can only be left of a process that had our number and is dead.
    remove_tree(aside.dir())?;
    // With `user`, jobs pass through to their own directories in it, and can read nothing of ours.
    make_dir(aside.dir(), if inner.options.user.is_some() { 0o711 } else { 0o700 })?;
    let lock = aside.open_lock()?;
    if !try_lock(&lock)? {
        return Err(io::Error::other("a lock that nobody knows of is held"));
    }
    furnish(inner, aside, order, agent)?;
    Ok(lock)
}

fn furnish(inner: &Inner, place: &Place, order: &Order, agent: &Found) -> io::Result<()> {
    let options = &inner.options;
    let created_at = (options.now)();
    let deadline_at = created_at.checked_add(order.deadline).map_err(io::Error::other)?;
    let orders = Orders {
        job: order.labels.job,
        agent: agent.path.clone(),
        agent_name: order.agent_name.clone(),
        endpoint: order.endpoint.clone(),
        tags: order.agent_tags.clone(),
        agent_config: options.agent_config.clone(),
        env: options.env.clone(),
        deadline: deadline_at,
        lifetime_s: Some(order.deadline.as_secs().max(1)),
        grace_s: options.grace.as_secs(),
        token_by: agent.token_by(),
        user: options.user.clone(),
        cpu_millis: Some(order.resources.cpu_millis).filter(|millis| *millis > 0),
        memory_bytes: Some(order.resources.memory_bytes).filter(|bytes| *bytes > 0),
        isolate: options.isolate,
    };
    write_json(&place.orders(), &orders)?;
    write_whole(&place.token(), order.token.expose_secret().as_bytes())?;
    let labels_of = order.labels.clone();
    let stamp = Stamp { labels: labels_of, request_id: order.request_id, created_at, deadline_at };
    write_json(&labels(place), &stamp)?;
    // A power failure must not leave a name without its labels: nobody could tell whose it is, and
    // no listing would be whole any more.
    File::open(labels(place))?.sync_all()
}

/// Starts the guest, which inherits the lock: from its first moment on it is known to live.
#[expect(unsafe_code, reason = "std has no safe way to give a child a session of its own")]
fn start(inner: &Inner, place: &Place, lock: File) -> Result<(), Error> {
    let path = place.dir().join("guest.log");
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let log = log.and_then(|log| Ok((log.try_clone()?, log)));
    let (out, err) = log.map_err(|error| io_error("write", &path, &error))?;
    let mut command = Command::new(&inner.options.guest_exe);
    command
        .args(&inner.options.guest_args)
        .arg(place.dir())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(lock))
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err));
    // SAFETY: one system call, nothing allocated.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
    match command.spawn() {
        Ok(child) => {
            inner.children.lock().expect("nothing panics while it holds this lock").push(child);
            Ok(())
        }
        Err(error) => {
            // Nothing runs, so nothing may stay: above all not the token.
            if let Err(error) = remove_tree(place.dir()) {
                tracing::warn!(%error, "cannot remove {}", place.dir().display());
            }
            let mut error = io_error("start the guest", &inner.options.guest_exe, &error);
            if error.class == Class::Ambiguous {
                error.class = Class::Denied;
            }
            Err(error)
        }
    }
}

/// Removes what processes that were killed had begun or not quite finished.
pub(super) fn sweep(machines: &Path) {
    let Ok(entries) = fs::read_dir(machines) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let left = name.starts_with(GONE) || (name.starts_with(NEW) && is_abandoned(&entry.path()));
        if left && let Err(error) = remove_tree(&entry.path()) {
            tracing::warn!(%error, "cannot remove {}", entry.path().display());
        }
    }
}

fn is_abandoned(dir: &Path) -> bool {
    let old = fs::metadata(dir)
        .and_then(|meta| meta.modified())
        .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNFURNISHED));
    let place = Place::new(dir);
    match place.open_lock() {
        // A furnished one that nobody holds is abandoned at any age.
        Ok(lock) => try_lock(&lock).unwrap_or(false) && (old || labels(&place).exists()),
        Err(_) => old,
    }
}
