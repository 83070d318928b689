//! The checks of this host and of what makes machines: backends, journal, port.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use backends::http::Http;
use backends::process::{self, OLDEST, Process, Room};
use backends::{Backend, Class};
use planner::{BackendName, Bytes};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, FlockOperation, flock};
use rustix::io::Errno;
use tokio::net::TcpListener;

use super::{Finding, Patient, cluster_checks, google_checks};
use crate::assembly;
use crate::cli::ask::Peer;
use crate::config::{self, backends::Kind};

/// Below this a few builds fill the disk.
const ROOM_LEAST: u64 = 5 << 30;

pub(super) async fn backend(
    patient: Patient<'_>,
    name: &BackendName,
    backend: &config::backends::Backend,
) -> Vec<Finding> {
    let check = format!("backend {name}");
    let broken = |words: String| {
        vec![Finding::wrong(format!("backend {name}"), words, "correct it in the configuration")]
    };
    match &backend.kind {
        Kind::Process(wanted) => {
            match assembly::process_options(patient.config, wanted, patient.place) {
                Ok(options) => match Process::new(options) {
                    Ok(process) => of_process(name, &process.probe().await),
                    Err(error) => broken(error.to_string()),
                },
                Err(error) => broken(error.to_string()),
            }
        }
        Kind::Http(wanted) => match Http::new(assembly::http_options(patient.config, wanted)) {
            Ok(http) => vec![listed(check, &wanted.url, &http).await],
            Err(error) => broken(error.to_string()),
        },
        // No queue makes machines there, and the fleets look at it with fewer rights.
        Kind::Kubernetes(_) if patient.config.is_for_fleets(name) => Vec::new(),
        Kind::Kubernetes(wanted) => cluster_checks::all(patient, name, wanted).await,
        Kind::Gce(wanted) => google_checks::all(patient, name, wanted).await,
        // Said already: the configuration names what this build does not have.
        Kind::CloudRun(_) => Vec::new(),
    }
}

fn of_process(name: &BackendName, probe: &process::Probe) -> Vec<Finding> {
    let disk = match &probe.directory {
        Ok(room) => disk(name, *room),
        Err(error) => Finding::wrong(
            format!("{name}: disk"),
            error.to_string(),
            format!("name a directory that we may write to with backends.{name}.process.directory"),
        ),
    };
    let mut findings = vec![agent(name, probe), groups(name, probe), disk];
    findings.extend(probe.user.as_ref().map(|user| match user {
        Ok(user) => Finding::ok(format!("{name}: user"), format!("jobs run as {user}")),
        Err(words) => Finding::wrong(
            format!("{name}: user"),
            words.clone(),
            format!("run Jitney as root, or take backends.{name}.process.user out"),
        ),
    }));
    findings
}

fn agent(name: &BackendName, probe: &process::Probe) -> Finding {
    let check = format!("{name}: agent");
    match &probe.agent {
        Ok((path, Some(version))) => {
            Finding::ok(check, format!("{} is version {version}", path.display()))
        }
        Ok((path, None)) => Finding::warning(
            check,
            format!("{} does not say its version", path.display()),
            format!("if jobs do not start, use a released buildkite-agent, {OLDEST} or newer"),
        ),
        Err(error) => Finding::wrong(check, error.words.clone(), assembly::agent_remedy(name)),
    }
}

fn groups(name: &BackendName, probe: &process::Probe) -> Finding {
    let check = format!("{name}: cgroups");
    if probe.unlimited.is_empty() {
        let how = if probe.groups_v1.is_empty() { "version 2" } else { "version 1" };
        let found = format!("cpu and memory of each job are limited and measured ({how})");
        return Finding::ok(check, found);
    }
    Finding::warning(
        check,
        format!("jobs run, but not all is limited and measured: {}", probe.unlimited.join("; ")),
        "run Jitney as root, or by systemd with Delegate=yes (deploy/systemd/jitney.service)",
    )
}

fn disk(name: &BackendName, room: Room) -> Finding {
    let check = format!("{name}: disk");
    let (free, total) = (Bytes::new(room.free_bytes), Bytes::new(room.total_bytes));
    let found = format!("{free} of {total} are free for builds");
    if room.free_bytes >= ROOM_LEAST {
        return Finding::ok(check, found);
    }
    let remedy = format!("make room, or put backends.{name}.process.directory on another disk");
    Finding::warning(check, found, remedy)
}

async fn listed(check: String, url: &str, backend: &dyn Backend) -> Finding {
    match backend.list().await {
        Ok(listing) => {
            let part = if listing.complete { "" } else { ", and says that these are not all" };
            let count = listing.machines.len();
            Finding::ok(check, format!("{url} lists {count} machines of ours{part}"))
        }
        Err(error) => {
            let remedy = match error.class {
                Class::Denied => "check its token",
                Class::Rate | Class::Quota | Class::Capacity => "it works, and is busy: ask again",
                Class::Ambiguous | Class::Rejected => {
                    "check its url and that the service runs; docs/http-backend.md says what it has to answer"
                }
            };
            Finding::wrong(check, format!("{url}: {error}"), remedy)
        }
    }
}

pub(super) async fn listening(patient: Patient<'_>) -> Finding {
    let listen = patient.config.server.listen;
    match TcpListener::bind(listen).await {
        Ok(_) => Finding::ok("listen", format!("{listen} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => served(patient).await,
        Err(error) => Finding::wrong(
            "listen",
            format!("{listen} cannot be listened on: {error}"),
            "set `listen` to an address of this host, and a port from 1024 on",
        ),
    }
}

/// The port is taken: by us, or by whom?
async fn served(patient: Patient<'_>) -> Finding {
    let listen = patient.config.server.listen;
    let asked = match Peer::of(patient.config) {
        Ok(peer) => peer.status().await,
        Err(failure) => Err(failure),
    };
    match asked {
        Ok(status) if status.name == patient.config.name => {
            let found = format!("{listen} is served by Jitney {}, which runs", status.version);
            Finding::ok("listen", found)
        }
        Ok(status) => Finding::wrong(
            "listen",
            format!("{listen} is served by another Jitney, whose name is {}", status.name),
            "give each a `listen` of its own",
        ),
        Err(failure) => Finding::wrong(
            "listen",
            format!("{listen} is taken, and not by a Jitney that lets us in: {failure}"),
            "stop what listens there, or set `listen` to another port",
        ),
    }
}

pub(super) fn journal(patient: Patient<'_>) -> Finding {
    let path = match assembly::journal_path(patient.config, patient.place) {
        Ok(path) => path,
        Err(error) => {
            let remedy = "name a file with store.journal";
            return Finding::wrong("journal", error.to_string(), remedy);
        }
    };
    match look_into(&path) {
        Ok(found) => Finding::ok("journal", found),
        Err((found, remedy)) => Finding::wrong("journal", found, remedy),
    }
}

/// Looks without opening it as a run would: that would change it.
fn look_into(path: &Path) -> Result<String, (String, &'static str)> {
    let shown = path.display();
    if in_use(path) {
        return Ok(format!("{shown} is in use by a Jitney that runs"));
    }
    let elsewhere = "name a file in a folder that we may write to with store.journal";
    let cannot = |what: &Path, error: &dyn std::fmt::Display| {
        (format!("{} cannot be written to: {error}", what.display()), elsewhere)
    };
    let folder = path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    rustix::fs::access(folder, Access::WRITE_OK).map_err(|error| cannot(folder, &error))?;
    if !path.exists() {
        return Ok(format!("{shown} will be made at the first start"));
    }
    fs::OpenOptions::new().write(true).open(path).map_err(|error| cannot(path, &error))?;
    let sound =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(|file| {
            file.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
        });
    let aside =
        "`jitney run` moves it aside and begins a new one: history is lost, machines are not";
    match sound {
        Ok(word) if word == "ok" => Ok(format!("{shown} is sound")),
        Ok(word) => Err((format!("{shown} is corrupt: {word}"), aside)),
        Err(error) => Err((format!("{shown} cannot be read as a journal: {error}"), aside)),
    }
}

/// Whether a running Jitney holds the lock beside the journal.
fn in_use(path: &Path) -> bool {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    // Without a lock file there is no Jitney that holds it.
    let Ok(file) = File::open(&lock) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}
