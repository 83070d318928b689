//! The machine's own directory: what lies where in it, the lock that proves that the guest lives,
//! and files that are replaced as a whole. It knows no process.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest file of ours that is read: a report with its log fits many times.
const LONGEST_FILE: u64 = 1 << 20;

/// A machine's directory, whether it exists or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    dir: PathBuf,
}

impl Place {
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn orders(&self) -> PathBuf {
        self.dir.join("orders.json")
    }

    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.dir.join("report.json")
    }

    /// Gone once the guest has read it.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.dir.join("token")
    }

    /// Held with `flock` by the guest for as long as it lives.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The guest's process id; true only while the lock is held.
    #[must_use]
    pub fn pid(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// Which control groups the guest has made.
    #[must_use]
    pub fn cgroups(&self) -> PathBuf {
        self.dir.join("cgroups.json")
    }

    #[must_use]
    pub fn build(&self) -> PathBuf {
        self.dir.join("build")
    }

    #[must_use]
    pub fn plugins(&self) -> PathBuf {
        self.dir.join("plugins")
    }

    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Opens the lock file, made if it is not there. Opened for writing, so that its last close is
    /// an event (`IN_CLOSE_WRITE`) for whoever watches the directory.
    pub fn open_lock(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.lock())
    }

    /// Whether `lock` is still the file of that name here: a directory may have been replaced
    /// between the opening and the locking.
    #[must_use]
    pub fn is_lock(&self, lock: impl AsFd) -> bool {
        let (Ok(held), Ok(named)) = (fstat(lock), fs::metadata(self.lock())) else { return false };
        held.st_dev == named.dev() && held.st_ino == named.ino()
    }
}

/// Standard input, where it is this machine's lock, handed on by who made the machine.
pub(crate) fn inherited_lock(place: &Place) -> Option<File> {
    let stdin = io::stdin();
    let lock = place.is_lock(&stdin).then(|| stdin.as_fd().try_clone_to_owned())?;
    lock.ok().map(File::from)
}

/// Takes the lock if nobody has it.
pub fn try_lock(lock: impl AsFd) -> io::Result<bool> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether somebody holds the lock of this directory; no lock file means nobody.
pub fn is_locked(place: &Place) -> io::Result<bool> {
    // Read-only, so that looking is no event for those who watch.
    let lock = match File::open(place.lock()) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Replaces a JSON file as a whole: readers see the old one or the new one.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_whole(path, &serde_json::to_vec_pretty(value).map_err(io::Error::other)?)
}

/// Replaces a file as a whole, readable by its owner only.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&fresh, path)
}

/// `None` where there is no such file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    })
}

/// Makes a directory with this mode, whatever the umask; one that exists is left as it is.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a tree, read-only directories in it included (Go's module cache is full of them).
/// What is gone already is as good as removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let first = match fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => error,
    };
    if first.kind() != io::ErrorKind::PermissionDenied {
        return Err(first);
    }
    make_writable(path)?;
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_writable(root: &Path) -> io::Result<()> {
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        let found = fs::symlink_metadata(&dir)?;
        if found.permissions().mode() & 0o700 != 0o700 {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
                .map_err(|error| named(error, &dir))?;
        }
        for entry in fs::read_dir(&dir).map_err(|error| named(error, &dir))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Ok(())
}

/// The same error with the path in its words.
pub(crate) fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
