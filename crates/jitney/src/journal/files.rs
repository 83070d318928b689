//! The files beside the journal: its lock, the installation's mark, and where a corrupt one goes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use planner::Timestamp;
use rustix::fs::{FlockOperation, flock};

use super::{Error, unusable};

/// Held as long as the journal is open: one process per journal.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(journal: &Path) -> Result<Self, Error> {
        let path = beside(journal, "lock");
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|error| unusable(&path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let read = file.read_to_string(&mut pid);
                let known = read.is_ok() && !pid.trim().is_empty();
                let pid = if known { pid.trim().to_owned() } else { "(unknown)".to_owned() };
                return Err(Error::InUse { path: journal.to_owned(), pid });
            }
            Err(error) => return Err(unusable(&path, &error)),
        }
        // Whose lock it is is a word for people; the lock itself is the kernel's.
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| unusable(&path, &error))?;
        Ok(Self { _file: file })
    }
}

pub(super) fn make_folder(journal: &Path) -> Result<(), Error> {
    match journal.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            fs::create_dir_all(folder).map_err(|error| unusable(journal, &error))
        }
        Some(_) | None => Ok(()),
    }
}

/// A random id that is made once. It stands in a file of its own, so that it survives the journal.
pub(super) fn instance(journal: &Path) -> Result<String, Error> {
    let path = beside(journal, "instance");
    match fs::read_to_string(&path) {
        Ok(text) if is_id(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(&path, &error)),
    }
    let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
    let fresh = beside(journal, "instance.new");
    fs::write(&fresh, format!("{id}\n"))
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(|error| unusable(&path, &error))?;
    Ok(id)
}

/// The form that our ids have: it also fits into labels.
fn is_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn move_aside(journal: &Path, now: Timestamp) -> Result<PathBuf, Error> {
    let stamp = crate::clock::to_jiff(now).strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let moved = beside(journal, &format!("corrupt-{stamp}"));
    fs::rename(journal, &moved).map_err(|error| unusable(journal, &error))?;
    for part in ["-wal", "-shm"] {
        let from = with_suffix(journal, part);
        if from.exists() {
            let to = with_suffix(&moved, part);
            fs::rename(&from, to).map_err(|error| unusable(&from, &error))?;
        }
    }
    Ok(moved)
}

fn beside(journal: &Path, what: &str) -> PathBuf {
    with_suffix(journal, &format!(".{what}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
