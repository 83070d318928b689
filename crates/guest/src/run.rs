//! One machine from its orders to its last report. The steps only; each is done elsewhere.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, getpid, set_child_subreaper, setsid, umask};

use crate::agent;
use crate::cgroup::{Groups, Layout, Limits};
use crate::clock;
use crate::place::{
    Place, inherited_lock, named, read_json, remove_tree, try_lock, write_json, write_whole,
};
use crate::report::{Cause, Ended, Isolate, Orders, Phase, Report, Usage};
use crate::signals::Signals;
use crate::tail::Tail;
use crate::tree;
use crate::watch::{Watch, reap};

/// Another guest has this machine.
const TAKEN: u8 = 75;
/// The longest token that is read.
const LONGEST_TOKEN: usize = 16 << 10;

/// Runs the machine whose directory this is. The exit code says whether the end was written down
/// (0), could not be (1), or is another guest's to write (75); how the agent fared is in the
/// report.
#[must_use]
pub fn run(dir: &Path) -> ExitCode {
    let place = match fs::canonicalize(dir) {
        Ok(dir) => Place::new(dir),
        Err(error) => return failed(&named(error, dir)),
    };
    let lock = match take_lock(&place) {
        Ok(Some(lock)) => lock,
        Ok(None) => {
            eprintln!("jitney guest: {}: another guest runs this machine", dir.display());
            return ExitCode::from(TAKEN);
        }
        Err(error) => return failed(&error),
    };
    let outcome = live(&place);
    // Only now: the lock is the proof of life.
    drop(lock);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("jitney guest: {error}");
    ExitCode::FAILURE
}

/// Whoever made the machine may hand its lock on as standard input; else it is taken here.
fn take_lock(place: &Place) -> io::Result<Option<fs::File>> {
    let lock = match inherited_lock(place) {
        Some(lock) => lock,
        None => place.open_lock().map_err(|error| named(error, &place.lock()))?,
    };
    Ok(try_lock(&lock)?.then_some(lock))
}

fn live(place: &Place) -> io::Result<()> {
    let signals = Signals::catch()?;
    // Fails where it is a session's leader already, as a container's first process is.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))?;
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    write_whole(&place.pid(), getpid().as_raw_nonzero().to_string().as_bytes())?;
    let started_at = clock::wall();
    let mut report = Report { phase: Phase::Booting, started_at, connected_at: None, ended: None };
    write_json(&place.report(), &report)?;

    let mut groups = Groups::default();
    let (cause, log_tail) = match prepare(place, &mut groups) {
        Ok(ready) => attend(place, &signals, ready, &groups, &mut report)?,
        Err(error) => (Cause::NotStarted { reason: error.to_string() }, String::new()),
    };
    let usage = clean(place, &groups);
    let at = clock::wall();
    report.phase = Phase::Ended;
    report.ended = Some(Ended { at, cause, log_tail, usage });
    write_json(&place.report(), &report)
}

/// What is needed to start the agent.
struct Ready {
    orders: Orders,
    token: String,
    /// Since the boot.
    deadline: Duration,
}

fn prepare(place: &Place, groups: &mut Groups) -> io::Result<Ready> {
    // First of all: whatever is wrong with the rest, the token does not stay.
    let token = take_token(place);
    let orders: Orders = read_json(&place.orders())?
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no orders.json"))?;
    let token = token?;
    let deadline = clock::since_boot() + lifetime(&orders, clock::wall());
    if orders.isolate != Isolate::Never {
        isolate(place, &orders, groups)?;
    }
    Ok(Ready { orders, token, deadline })
}

/// Reads the token and takes it off the disk before anything else can happen.
fn take_token(place: &Place) -> io::Result<String> {
    let path = place.token();
    let read = fs::read_to_string(&path);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error, &path)),
        _ => {}
    }
    let token = read.map_err(|error| named(error, &path))?.trim().to_owned();
    if token.is_empty() || token.len() > LONGEST_TOKEN {
        let words = format!("the token is {} bytes long", token.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    Ok(token)
}

/// How long from now. A wall clock that was set since the orders were written can make this
/// shorter, never longer than it was meant.
fn lifetime(orders: &Orders, now: Timestamp) -> Duration {
    let by_wall = Duration::try_from(orders.deadline.duration_since(now)).unwrap_or_default();
    match orders.lifetime_s {
        // By the wall clock it is over before it began: the clock was set, the count is right.
        Some(seconds) if by_wall.is_zero() => Duration::from_secs(seconds),
        Some(seconds) => by_wall.min(Duration::from_secs(seconds)),
        None => by_wall,
    }
}

fn isolate(place: &Place, orders: &Orders, groups: &mut Groups) -> io::Result<()> {
    let name = place.dir().file_name().unwrap_or_default().to_string_lossy();
    *groups = Groups::plan(&Layout::read(), &name);
    // Written down first: a guest that dies now leaves groups that somebody has to find.
    write_json(&place.cgroups(), groups)?;
    let limits = Limits { cpu_millis: orders.cpu_millis, memory_bytes: orders.memory_bytes };
    let problems = groups.make(limits);
    if problems.is_empty() {
        return Ok(());
    }
    match orders.isolate {
        Isolate::Require => {
            let words = format!("`isolate: require`, but {}", problems.join("; "));
            Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
        }
        Isolate::Auto | Isolate::Never => {
            eprintln!("jitney guest: {}", problems.join("; "));
            Ok(())
        }
    }
}

/// Starts the agent and stays with it; returns why it is gone, and its last lines.
fn attend(
    place: &Place,
    signals: &Signals,
    ready: Ready,
    groups: &Groups,
    report: &mut Report,
) -> io::Result<(Cause, String)> {
    let Ready { orders, token, deadline } = ready;
    if signals.take_stop() {
        return Ok((Cause::Stopped, String::new()));
    }
    let started = groups.doors().and_then(|doors| agent::start(&orders, place, &token, doors));
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            return Ok((Cause::NotStarted { reason: error.to_string() }, String::new()));
        }
    };
    let agent = Pid::from_child(&started.child);
    let grace = Duration::from_secs(orders.grace_s);
    let tail = Tail::new(token);
    let mut watch = Watch::new(signals, agent, started.log, tail, deadline, grace)?;
    let cause = watch.until_gone(|| {
        if report.connected_at.is_none() {
            report.connected_at = Some(clock::wall());
            report.phase = Phase::Connected;
            if let Err(error) = write_json(&place.report(), report) {
                // The agent matters more than what is told of it; the end is written again.
                eprintln!("jitney guest: report.json: {error}");
            }
        }
    })?;
    Ok((cause, watch.tail.text()))
}

/// Ends all that the agent has left, and removes what may hold secrets of its job.
fn clean(place: &Place, groups: &Groups) -> Usage {
    groups.kill();
    let everything = || {
        let mut all = tree::below_us();
        all.extend(groups.members());
        all
    };
    let reap_all = || {
        let _ = reap(getpid());
    };
    if let Err(error) = tree::kill_all(everything, reap_all, 1) {
        eprintln!("jitney guest: {error}");
    }
    let mut usage = groups.usage();
    if usage.cpu_seconds.is_none() {
        usage.cpu_seconds = tree::cpu_of_children();
    }
    if let Err(error) = groups.remove() {
        eprintln!("jitney guest: {error}");
    }
    if let Err(error) = remove_tree(&place.tmp()) {
        eprintln!("jitney guest: {}: {error}", place.tmp().display());
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(deadline_in: i64, lifetime_s: Option<u64>, expected_s: u64) {
        let now = Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let text = format!(
            r#"{{"job":"0199a3c0-5c39-7d13-8f0e-0d6a8e2f7a11","agent":"a","agent_name":"n","endpoint":"e",
                "tags":[],"env":{{}},"deadline":"{}"}}"#,
            now + jiff::SignedDuration::from_secs(deadline_in)
        );
        let mut orders: Orders = serde_json::from_str(&text).expect("orders as of the first draft");
        orders.lifetime_s = lifetime_s;
        assert_eq!(lifetime(&orders, now).as_secs(), expected_s);
    }

    #[test]
    fn a_wall_clock_that_was_set_cannot_make_a_life_longer_nor_end_it_at_once() {
        check(60, None, 60);
        check(-60, None, 0);
        check(59, Some(60), 59);
        check(60 + 3600, Some(60), 60);
        check(60 - 3600, Some(60), 60);
    }
}
